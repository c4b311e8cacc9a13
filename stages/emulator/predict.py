"""Beside the chain: what an emulator predicts at the points of a file, however many."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.labels import INSIDE, predictions
from simfer.stages.emulator.points import Points
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.emulator.tables import table
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig
from simfer.stages.summary import Summary

_MOST, _BLOCK_VALUES = 16384, 2**20  # points, and predicted values, that are held at a time


def run(config: TrainConfig, emulator: Path, progress: Progress, *, parameters: Path, output: Path) -> Summary:
    """Write a CSV or NetCDF file of outputs with their errors, point by point of a CSV file of parameters."""
    trained = load_emulator(emulator, config.train.architecture, config.train.candidates)
    points, begun = Points(parameters, trained.space), time.perf_counter()
    outside = broken = 0
    names = predictions(trained.layout, random=trained.random is not None)
    with table(output, trained, names, points.num) as file, progress.task("predict", points.num, "points") as task:
        for theta, predicted in _predicted(trained, points.blocks(_block_size(trained, points.num))):
            file.write(dict(zip(trained.space.names, theta.T, strict=True)), predicted)
            finite = [np.isfinite(values).reshape(len(theta), -1).all(axis=1) for values in predicted.values()]
            broken += int((~np.all(finite, axis=0)).sum())
            outside += int((~predicted[INSIDE]).sum())
            task.advance(len(theta), outside=outside)
    seconds = time.perf_counter() - begun
    facts = {
        "file": str(output),
        "points": points.num,
        "outside_the_training_domain": outside,
        "without_finite_prediction": broken,
        "points_per_second": points.num / seconds,
    }
    return {"facts": facts, "warnings": _warnings(points.num, outside, broken)}


def _block_size(emulator: Emulator, num: int) -> int:
    return max(min(_MOST, num, _BLOCK_VALUES // emulator.layout.size), 1)


@eqx.filter_jit
def _evaluate(emulator: Emulator, theta: Float[Array, "n size"]) -> dict[str, Array]:
    z = emulator.space.whiten_held(dict(zip(emulator.space.names, theta.T, strict=True)))
    return jax.lax.map(emulator.everything_at, z, batch_size=256)


def _predicted(
    emulator: Emulator, blocks: Iterable[Float[np.ndarray, "n size"]]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield each block with what is predicted there, while the next is computed already."""
    size, before = 0, None
    for theta in blocks:
        size = max(size, len(theta))
        padded = np.concatenate([theta, np.repeat(theta[-1:], size - len(theta), axis=0)])  # of one size: compiled once
        now = theta, _evaluate(emulator, jnp.asarray(padded))
        if before:
            yield before[0], _numpy(*before)
        before = now
    if before:
        yield before[0], _numpy(*before)


def _numpy(theta: np.ndarray, predicted: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[: len(theta)] for name, values in predicted.items()}


def _warnings(num: int, outside: int, broken: int) -> list[str]:
    warnings = []
    if outside:
        warnings.append(
            f"{outside:,} of {num:,} points lie outside of the domain that the emulator was trained in "
            f"({INSIDE} is 0 there): neither prediction nor error is to be relied on"
        )
    if broken:
        warnings.append(
            f"{broken:,} of {num:,} points have no finite prediction: they may lie beyond the end of a prior"
        )
    return warnings
