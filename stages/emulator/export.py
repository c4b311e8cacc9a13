"""Beside the chain: an emulator as one file for other programs, held against the original, with its model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from simfer.stages.emulator import onnx
from simfer.stages.emulator.card import MADE_BY, card
from simfer.stages.emulator.emulator import Emulator, tabulate
from simfer.stages.emulator.labels import INSIDE, output_of
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import SimferError, StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig
from simfer.stages.summary import Summary

Format = Literal["onnx", "stablehlo"]
Predict = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_NUM_POINTS = 512
_WITHOUT_FLOW = "the flow is not exported (train.scatter): the file knows mean and standard deviation, and no density"
# Of what an output varies over the training domain. A float32 network is exported in float64, without its rounding.
TOLERANCE = {"float32": 1e-4, "float64": 1e-6}


def run(
    config: TrainConfig,
    emulator: Path,
    progress: Progress,
    *,
    format: Format,
    folder: Path,
    name: str,
    facts: Mapping[str, Any],
) -> Summary:
    """Write NAME.onnx or NAME.stablehlo, and NAME.md; raise StageError if it differs from the original."""
    trained = load_emulator(emulator, config.train.architecture, config.train.candidates)
    if not trained.space.names:
        raise SimferError("the emulator has no free parameter: there is nothing to export")
    about = folder / f"{name}.md"
    if about.is_file() and MADE_BY not in about.read_text(errors="replace"):
        raise SimferError(f"{about} is no model card of Simfer's, and it was left as it is; take another --output")
    progress.note(f"exporting to {format}")
    content = {"onnx": onnx.convert, "stablehlo": stablehlo}[format](trained)
    differences = compared(trained, {"onnx": onnx.load, "stablehlo": load_stablehlo}[format](content))
    _hold(trained, differences)
    files = {folder / f"{name}.{format}": content}
    files[about] = card(trained, format, name, facts, differences, _NUM_POINTS).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for file, bytes_ in files.items():
        partial = file.with_name(f".{file.name}.partial")
        partial.write_bytes(bytes_)
        partial.replace(file)
    paths = [str(file) for file in files]
    table = [{"output": each, "largest_difference": value} for each, value in differences.items()]
    facts = {"files": ", ".join(paths), "bytes": len(content), "tolerance": TOLERANCE[trained.header.dtype]}
    warnings = [] if trained.flow is None else [_WITHOUT_FLOW]
    tables = {f"{format} - original, in units of the output's spread": table}
    return {"facts": facts, "tables": tables, "warnings": warnings}


def compared(emulator: Emulator, predict: Predict) -> dict[str, float]:
    """Return the largest difference, in units of the output's standard deviation, over points of the training domain.

    Of draws from the prior, which after rounds of refinement mostly lie outside, both must say alike which do.
    """
    rng, rows = np.random.default_rng(0), np.asarray(emulator.training_z)
    one, other = rows[rng.integers(len(rows), size=(2, _NUM_POINTS))]
    share = rng.uniform(size=(_NUM_POINTS, 1))  # of the way from one row to another: the domain is convex
    ours, theirs = _both(emulator, predict, share * one + (1.0 - share) * other)
    prior = _both(emulator, predict, rng.normal(size=one.shape))
    if not min((a[INSIDE] == b[INSIDE]).mean() for a, b in ((ours, theirs), prior)) > 0.99:
        return {INSIDE: np.inf}
    outputs = {name: output_of(name, emulator.layout) for name in ours if name != INSIDE}
    return {name: _difference(ours[name], theirs[name], ours[output]) for name, output in outputs.items()}


def _both(
    emulator: Emulator, predict: Predict, z: Float[np.ndarray, "n size"]
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    # Values that went to and fro: where a prior's end is near, the way back to z has lost digits.
    points = {name: np.asarray(emulator.space.values(z)[name]) for name in emulator.space.names}
    return tabulate(emulator, emulator.space.whiten(points)), predict(points)


def _difference(
    ours: Float[np.ndarray, "n ..."], theirs: Float[np.ndarray, "n ..."], output: Float[np.ndarray, "n ..."]
) -> float:
    finite = np.isfinite(ours).reshape(len(ours), -1).all(axis=1)
    scale = output[finite].std(axis=0) + 1e-6 * np.abs(output[finite]).mean(axis=0) + 1e-300
    return float(np.max(np.abs(theirs - ours)[finite] / scale))


def _hold(emulator: Emulator, differences: Mapping[str, float]) -> None:
    name, worst = max(differences.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
    if not worst <= (limit := TOLERANCE[emulator.header.dtype]):
        priors = ", ".join(f"{name} ({prior.dist})" for name, prior in emulator.space.priors.items())
        raise StageError(
            f"what was exported differs from the original by {worst:.2g} of the spread of {name}, more than {limit:g}; "
            f"nothing was written. Please report it, with the architecture {emulator.header.architecture} and the "
            f"priors: {priors}"
        )


def stablehlo(emulator: Emulator) -> bytes:
    """Return the bytes that `jax.export.deserialize` reads: any number of points, one derivative, float64."""
    if find_spec("flatbuffers") is None:
        raise SimferError(
            'an export to StableHLO needs flatbuffers, which is not installed: pip install "simfer[export]"'
        )
    (size,) = jax.export.symbolic_shape("n")
    points = {name: jax.ShapeDtypeStruct((size,), jnp.float64) for name in emulator.space.names}
    call = jax.jit(jax.vmap(lambda point: emulator.everything_at(emulator.space.whiten(point))))
    return bytes(jax.export.export(call, platforms=("cpu", "cuda", "rocm", "tpu"))(points).serialize(vjp_order=1))


def load_stablehlo(content: bytes) -> Predict:
    """Open what `stablehlo` returned."""
    call = jax.export.deserialize(bytearray(content)).call
    return lambda points: {name: np.asarray(values) for name, values in call(dict(points)).items()}
