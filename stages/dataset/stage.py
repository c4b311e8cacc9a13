"""Stage 2: usable rows become a transformed training set, each row in a fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from simfer.stages.artifacts.arrays import DERIVATIVES, array, coordinate_units, put_coordinates
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.artifacts.training_set import DATASET, TEST, TrainingSet
from simfer.stages.artifacts.twins import digests, first_of
from simfer.stages.dataset.writer import Writer, block_rows
from simfer.stages.errors import StageError
from simfer.stages.model.near_data import select_near_data
from simfer.stages.model.outputs import Layout
from simfer.stages.model.transforms import scaled_floor
from simfer.stages.progress import Progress
from simfer.stages.settings import LEAST_ROWS, Dataset, DatasetConfig, SelectConfig
from simfer.stages.summary import Summary

_CLOSEST, _CLOSEST_EACH = 100, 20  # rows at least, where far ones are left out; and by parameter
_GOLDEN = 0.6180339887498949


def fills_accelerator(_: DatasetConfig | SelectConfig) -> bool:
    """Say that there is never enough to do for an accelerator: rows are read and written."""
    return False


def run(
    config: DatasetConfig | SelectConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> Summary:
    """Transform the usable rows of every input, give each a fold, and write them as one Zarr store."""
    sources = [Simulations.load(path) for name in ("simulations", "checks") for path in inputs[name]]
    first, total = sources[0], sum(map(len, sources))
    layout, space, sloped = first.layout, first.space, first.has_derivatives
    _check_outputs(config.dataset, layout)
    size = block_rows(layout, space.size if sloped else 0)
    usable, floor, first_alike = _usable(config.dataset, sources, size)
    settings = config.dataset.model_copy(update={"floor": floor})
    chosen = _selection(config.model_copy(update={"dataset": settings}), sources, size, usable)
    writer = Writer(folder / DATASET, layout, space, settings, int(chosen.sum()), sloped)
    put_coordinates(writer.group, layout.outputs, coordinate_units(first.group, layout.outputs))
    left_out = 0
    with progress.task("dataset", total=total, unit="rows") as task:
        for block in _blocks(sources, size):
            keep = chosen[block.rows]
            z, y = block.z[keep], block.y[keep]
            writer.append(z, y, _folds(config.dataset, first_alike[block.rows])[keep])
            if (slopes := block.derivatives()) is not None:
                writer.put_derivatives(z, y, slopes[keep])
            left_out += int((~keep).sum())
            task.advance(len(keep), left_out=left_out)
    writer.compress()
    writer.close(first.stochastic, ordered=first.num_finished > 0)
    return _summary(writer, total)


def load(folder: Path, config: DatasetConfig | SelectConfig) -> xr.Dataset:
    """Open the training set: whitened parameters, transformed outputs and the fold of each row."""
    return TrainingSet.load(folder).to_xarray()


class _Block(NamedTuple):
    """Rows of one source, and their numbers among those of all."""

    rows: slice
    source: Simulations
    start: int  # in the source
    z: Float[np.ndarray, "n p"]
    y: Float[np.ndarray, "n d"]
    usable: Bool[np.ndarray, " n"]

    def derivatives(self) -> Float[np.ndarray, "n p d"] | None:
        """Read the derivatives, which are larger than all else; None where rows do not carry them."""
        return self.source.derivatives(self.start, self.start + len(self.z))


def _blocks(sources: Sequence[Simulations], size: int) -> Iterator[_Block]:
    at = 0
    for source in sources:
        for start in range(0, len(source), size):
            z, y, usable = source.rows(start, min(start + size, len(source)))
            yield _Block(slice(at, at + len(z)), source, start, z, y, usable)
            at += len(z)


def _usable(
    settings: Dataset, sources: Sequence[Simulations], size: int
) -> tuple[Bool[np.ndarray, " n"], float, Int[np.ndarray, " n"]]:
    """Say which rows are usable, below which value no transform sees anything, and which rows are alike.

    Those of equal parameters share a fold, that of the first of them: a row would be no test of an emulator that has
    seen its twin.
    """
    layout, each, seen = sources[0].layout, [], []
    largest = np.zeros(layout.size)
    for block in _blocks(sources, size):
        each.append(block.usable)
        seen.append(digests(block.z))
        largest = np.maximum(largest, np.abs(block.y[block.usable]).max(axis=0, initial=0.0))
    sizes = {name: float(largest[at].max(initial=0.0)) for name, at in layout.slices.items()}
    floor = scaled_floor(settings.floor, settings.transform, sizes)
    return np.concatenate(each), floor, first_of(np.concatenate(seen))


def _selection(
    config: DatasetConfig | SelectConfig, sources: Sequence[Simulations], size: int, usable: Bool[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Say which rows are trained on: the usable ones, or those of them that are near the data."""
    if usable.sum() < LEAST_ROWS:
        raise StageError(
            f"{usable.sum()} of {len(usable)} simulations are usable; a training set needs at least {LEAST_ROWS}. "
            "Raise simulate.num_simulations, or see what made the others fail (simfer show)"
        )
    if not isinstance(config, SelectConfig) or (config.refine.keep is None and not config.narrow):
        return usable
    if sources[0].stochastic:  # chance had a part in what is near the data: choosing would teach too small a scatter
        return usable
    y = (block.y[block.usable] for block in _blocks(sources, size))
    chosen = usable.copy()
    closest = config.refine.keep or _CLOSEST + _CLOSEST_EACH * sources[0].space.size
    chosen[usable] = select_near_data(config, closest, sources[0].layout, sources[0].space.size, y)
    # Later rounds simulate wherever the posterior may be, and no place of theirs is to be forgotten.
    chosen[len(sources[0]) :] = usable[len(sources[0]) :]
    return chosen


def _folds(settings: Dataset, row: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Give each row its fold, by its number alone: adding rows moves none, and any stretch of rows is balanced."""
    u = (row * _GOLDEN + np.random.default_rng(settings.seed).random()) % 1.0
    fold = 1 + np.floor((u - settings.test_fraction) / (1.0 - settings.test_fraction) * settings.folds)
    return np.where(u < settings.test_fraction, TEST, np.minimum(fold, settings.folds)).astype(np.int8)


def _check_outputs(settings: Dataset, layout: Layout) -> None:
    for key, by_output in (("transform", settings.transform), ("pca", settings.pca)):
        if unknown := set(by_output) - set(layout.outputs):
            raise StageError(f"dataset.{key}: got {sorted(unknown)}, expected outputs among {list(layout.outputs)}")


def _summary(writer: Writer, total: int) -> Summary:
    facts: dict[str, Any] = {
        "rows": writer.at,
        "left_out": total - writer.at,
        "test": int(writer.counts[TEST]),
        "folds": len(writer.counts) - 1,
    }
    if any(name + DERIVATIVES in writer.group for name in writer.layout.outputs):
        facts["derivatives_by"] = ", ".join(writer.space.names)
    return {"facts": facts, "tables": {"outputs": [_row(writer, name) for name in writer.layout.outputs]}}


def _row(writer: Writer, name: str) -> dict[str, Any]:
    spread = writer.moments.spread[writer.layout.slices[name]]
    row = {
        "output": name,
        "transform": writer.transform[name],
        "values": writer.layout.outputs[name].size,
        "constant": int((spread == 0).sum()),
    }
    if name not in writer.dropped:
        return row
    count = array(writer.group, f"{name}_coefficients").shape[1]
    return row | {"components": count, "variance_dropped_on_unseen_rows": writer.dropped[name]}
