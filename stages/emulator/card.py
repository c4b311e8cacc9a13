"""The model card of an exported emulator: what it is of, how it was trained, how good it is, how it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.labels import ERROR, INSIDE, SCATTER
from simfer.stages.model.outputs import Output

MADE_BY = "Made by Simfer"
_CALLS = {
    "onnx": """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{name}.onnx")
points = {{{points}}}
names = [output.name for output in session.get_outputs()]
predicted = dict(zip(names, session.run(None, points)))
print(predicted["{output}"].shape)""",
    "stablehlo": """import jax
import jax.export

jax.config.update("jax_enable_x64", True)

from pathlib import Path

import numpy as np

emulator = jax.export.deserialize(bytearray(Path("{name}.stablehlo").read_bytes()))
points = {{{points}}}
predicted = emulator.call(points)
print(predicted["{output}"].shape)""",
}


_WITHOUT_FLOW = (
    "The simulator is random, and its data have no Gaussian's shape. The flow that learned their density is not in "
    "this file, which knows mean and standard deviation alone: `simfer.load_emulator` opens all of it."
)


def card(
    emulator: Emulator,
    format: str,
    name: str,
    facts: Mapping[str, Any],
    differences: Mapping[str, float],
    num_points: int,
) -> str:
    """Write the card in Markdown; `facts` are what the artifacts and the config say of its training."""
    parts = [
        f"# {name}: an emulator of {facts['simulator']}",
        "It maps parameters to the simulator's outputs, in their own units, with the standard error of each value. "
        f"{MADE_BY} {version('simfer')}; file: `{name}.{format}`.",
        "## Parameters",
        _table(["name", "prior", "unit"], _parameters(emulator)),
        "Fixed in training: " + (", ".join(f"{k} = {v:g}" for k, v in emulator.space.fixed.items()) or "nothing") + ".",
        "## Outputs",
        _table(["name", "shape", "coordinates", "unit"], _outputs(emulator)),
        f"`NAME{ERROR}` is the standard error of `NAME`: the members' spread, and what cross-validation finds beyond it"
        + (f". `NAME{SCATTER}` is the standard deviation of the simulator's own scatter" if emulator.random else "")
        + f". `{INSIDE}` says whether a point lies in the box that the training points span along their principal axes "
        "(every prior turned into a standard normal). Where it is false, rely on nothing.",
        _WITHOUT_FLOW if emulator.flow is not None else "",
        "## Training",
        _list(_training(emulator, facts)),
        "## Errors",
        "On simulations that no network saw:",
        _rows(facts["errors"]),
        f"This file against the original, at {num_points} points of the training domain: the largest differences, in "
        "units of the output's standard deviation over the points:",
        _table(["prediction", "difference"], [[f"`{k}`", f"{v:.1e}"] for k, v in differences.items()]),
        "## How to call it",
        "All inputs are float64 arrays of one length n, a parameter each; all predictions have n as their first axis.",
        f"```python\n{_call(emulator, format, name)}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parameters(emulator: Emulator) -> Iterable[list[str]]:
    for name, prior in emulator.space.priors.items():
        given = {key: value if isinstance(value, str) else f"{value:g}" for key, value in prior.arguments.items()}
        arguments = ", ".join(f"{key} = {value}" for key, value in given.items())
        yield [f"`{name}`", f"{prior.dist}({arguments})", prior.unit]


def _outputs(emulator: Emulator) -> Iterable[list[str]]:
    for name, output in emulator.layout.outputs.items():
        shape = " x ".join(["n", *map(str, output.shape)])
        places = "; ".join(_along(output, dim, emulator.units.get(dim, "")) for dim in output.dims)
        yield [f"`{name}`", shape, places, output.unit]


def _along(output: Output, dim: str, unit: str) -> str:
    values = [f"{value:.10g}" for value in output.coords[dim].tolist()]
    shown = values if len(values) <= 32 else [*values[:3], "...", *values[-2:]]
    return f"{dim}{f' ({unit})' if unit else ''} = {', '.join(shown)}"


def _training(emulator: Emulator, facts: Mapping[str, Any]) -> Iterable[str]:
    header = emulator.header
    options = ", ".join(f"{key} = {value}" for key, value in header.options.items())
    rounds = f", then posterior draws in {facts['round']} rounds" if facts["round"] else ""
    yield f"design: {facts['design']}{rounds}"
    if rows := facts["rows"]:
        left_out = f"; {rows['left_out']:,} failed, or were left out" if rows["left_out"] else ""
        yield f"{rows['rows']:,} simulations, of which no network saw {rows['test']:,}{left_out}"
    yield f"{header.num_members} x {header.architecture}" + (f" ({options})" if options else "")
    yield "transforms: " + ", ".join(f"{name}: {kind}" for name, kind in emulator.transform.items())
    yield "versions: " + ", ".join(f"{name} {each}" for name, each in facts["versions"].items())
    yield f"trained on {facts['device']}, {facts['finished']}; fingerprint {facts['fingerprint']}"
    if facts["checked"]:
        yield f"its posterior, held against the simulator: {facts['checked']}"


def _call(emulator: Emulator, format: str, name: str) -> str:
    middle = np.median(np.asarray(emulator.training_z), axis=0)
    typical = {key: float(values) for key, values in emulator.space.values(middle).items()}
    points = ", ".join(f'"{key}": np.array([{float(f"{typical[key]:.4g}")}])' for key in emulator.space.names)
    return _CALLS[format].format(name=name, points=points, output=next(iter(emulator.layout.outputs)))


def _table(columns: list[str], rows: Iterable[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    cells = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    return _table(list(rows[0]), cells)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
