"""Stage 2: usable rows become a transformed training set, each row in a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import (
    DERIVATIVES,
    array,
    consolidate,
    coordinate_units,
    create_array,
    put_coordinates,
)
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.artifacts.training_set import DATASET, TEST
from simfer.stages.artifacts.training_set import Dataset as TrainingSet
from simfer.stages.errors import StageError
from simfer.stages.model import pca as basis
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS, steepness
from simfer.stages.progress import Progress
from simfer.stages.settings import Dataset, DatasetConfig, SelectConfig
from simfer.stages.summary import Summary

_BLOCK = 16384
_BLOCK_BYTES = 2**27  # or as many rows as this holds
_FIT_ROWS = 2048  # training rows, evenly taken, that principal components are fitted to, at most
_GOLDEN = 0.6180339887498949


def run(
    config: DatasetConfig | SelectConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> Summary:
    """Transform the usable rows of every input, give each a fold, and write them as one Zarr store."""
    sources = [Simulations.load(path) for name in ("simulations", "checks") for path in inputs[name]]
    header, layout = sources[0].header, sources[0].layout
    _check_outputs(config.dataset, layout)
    space, sloped = Space.from_json(header["space"]), bool(header.get("derivatives"))
    block = _block_rows(layout, space.size if sloped else 0)
    total = sum(map(len, sources))
    chosen = _selection(config, sources, block)
    writer = _Writer(folder / DATASET, layout, space, config.dataset, int(chosen.sum()), sloped)
    put_coordinates(writer.group, layout.outputs, coordinate_units(sources[0].group, layout.outputs))
    with progress.task("dataset", total=total, unit="rows") as task:
        for at, z, y, _, derivatives in _blocks(sources, block):
            keep = chosen[at : at + len(z)]
            writer.append(z[keep], y[keep], _folds(config.dataset, np.arange(at, at + len(z)))[keep])
            if (slopes := derivatives()) is not None:
                writer.put_derivatives(z[keep], y[keep], slopes[keep])
            task.advance(len(z), left_out=int((~keep).sum()))
    writer.compress()
    writer.close(header)
    return _summary(writer, total)


def load(folder: Path, config: DatasetConfig | SelectConfig) -> xr.Dataset:
    """Open the training set: whitened parameters, transformed outputs and the fold of each row."""
    return TrainingSet.load(folder).to_xarray()


def _block_rows(layout: Layout, num_slopes: int = 0) -> int:
    return max(min(_BLOCK, _BLOCK_BYTES // (8 * layout.size * (1 + num_slopes))), 1)


def _blocks(
    sources: Sequence[Simulations], block: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, Callable[[], np.ndarray | None]]]:
    at = 0
    for source in sources:
        for start in range(0, len(source), block):
            stop = min(start + block, len(source))
            z, y, usable = source.rows(start, stop)
            yield at, z, y, usable, partial(source.derivatives, start, stop)
            at += len(z)


def _selection(config: DatasetConfig | SelectConfig, sources: Sequence[Simulations], block: int) -> np.ndarray:
    usable = np.concatenate([usable for _, _, _, usable, _ in _blocks(sources, block)])
    if usable.sum() < 20:
        raise StageError(
            f"{usable.sum()} of {len(usable)} simulations are usable; a training set needs at least 20. Raise "
            "simulate.num_simulations, or see what made the others fail (simfer show)"
        )
    if not isinstance(config, SelectConfig) or config.refine.keep is None:
        return usable
    from simfer.stages.model.near_data import select_near_data

    y = (y[usable] for _, _, y, usable, _ in _blocks(sources, block))
    size = Space.from_json(sources[0].header["space"]).size
    chosen = usable.copy()
    chosen[usable] = select_near_data(config, sources[0].layout, size, y)
    return chosen


def _folds(settings: Dataset, row: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Give each row its fold, by its number alone: adding rows moves none, and any stretch of rows is balanced."""
    u = (row * _GOLDEN + np.random.default_rng(settings.seed).random()) % 1.0
    fold = 1 + np.floor((u - settings.test_fraction) / (1.0 - settings.test_fraction) * settings.folds)
    return np.where(u < settings.test_fraction, TEST, np.minimum(fold, settings.folds)).astype(np.int8)


def _check_outputs(settings: Dataset, layout: Layout) -> None:
    for key, given in (("transform", settings.transform), ("pca", settings.pca)):
        if unknown := set(given) - set(layout.outputs):
            raise StageError(f"dataset.{key}: got {sorted(unknown)}, expected outputs among {list(layout.outputs)}")


class _Writer:
    """Write rows block by block, and gather the training rows' mean and variance on the way (Chan et al. 1983)."""

    def __init__(
        self, path: Path, layout: Layout, space: Space, settings: Dataset, count: int, sloped: bool = False
    ) -> None:
        self.path, self.layout, self.space, self.settings, self.at = path, layout, space, settings, 0
        self.block = _block_rows(layout, space.size if sloped else 0)
        self.dropped: dict[str, float] = {}
        self.group = group = zarr.open_group(path, mode="w", zarr_format=3)
        self.transform = {name: settings.transform.get(name, "none") for name in layout.outputs}
        self.counts = np.zeros(settings.folds + 1, int)
        self._count, self._mean, self._squares = 0, np.zeros(layout.size), np.zeros(layout.size)
        for name, output in layout.outputs.items():
            notes = {"transform": self.transform[name], "units_before_transform": output.unit}
            dims = ("row", *output.dims)
            shape = (count, *output.shape)
            create_array(group, name, shape, self.block, "float64", dimension_names=dims, attributes=notes)
            if sloped:
                shape, dims = (count, space.size, *output.shape), ("row", "parameter", *output.dims)
                notes = {"comment": "by each component of z, or of the position between a flat prior's bounds"}
                named = name + DERIVATIVES
                create_array(group, named, shape, self.block, "float64", dimension_names=dims, attributes=notes)
        names = {"parameters": space.names}
        dims = ("row", "parameter")
        create_array(group, "z", (count, space.size), _BLOCK, "float64", dimension_names=dims, attributes=names)
        notes = {"comment": f"{TEST}: test rows, seen by no network; 1 to {settings.folds}: cross-validation folds"}
        create_array(group, "fold", (count,), _BLOCK, "int8", dimension_names=("row",), attributes=notes)

    def append(self, z: Float[np.ndarray, "n p"], y: Float[np.ndarray, "n d"], fold: Int[np.ndarray, " n"]) -> None:
        """Transform and write some rows."""
        if not len(z):
            return
        rows = slice(self.at, self.at + len(z))
        transformed = self._transformed(y)
        for name, at in self.layout.slices.items():
            array(self.group, name)[rows] = transformed[:, at].reshape(len(z), *self.layout.outputs[name].shape)
        array(self.group, "z")[rows], array(self.group, "fold")[rows] = z, fold
        self.at += len(z)
        self.counts += np.bincount(fold, minlength=len(self.counts))
        self._gather(transformed[fold != TEST])

    def put_derivatives(
        self, z: Float[np.ndarray, "n p"], y: Float[np.ndarray, "n d"], slopes: Float[np.ndarray, "n p d"]
    ) -> None:
        """Write the derivatives of the rows appended last, transformed by the chain rule."""
        rows, speeds = slice(self.at - len(z), self.at), np.asarray(self.space.speeds(z))
        for name, at in self.layout.slices.items():
            steep = steepness(self.transform[name], y[:, at], self.settings.floor)
            values = slopes[:, :, at] * steep[:, None] * speeds[:, :, None]
            array(self.group, name + DERIVATIVES)[rows] = values.reshape(
                *speeds.shape, *self.layout.outputs[name].shape
            )

    def _transformed(self, y: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        parts = [
            TRANSFORMS[self.transform[name]].forward(y[:, at], self.settings.floor)
            for name, at in self.layout.slices.items()
        ]
        return np.concatenate(parts, axis=1)

    def _gather(self, y: Float[np.ndarray, "n d"]) -> None:
        if not len(y):
            return
        shift = y.mean(axis=0) - self._mean
        total = self._count + len(y)
        self._squares += ((y - y.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * self._count * len(y) / total
        self._mean += shift * len(y) / total
        self._count = total

    @property
    def spread(self) -> Float[np.ndarray, " d"]:
        """The training rows' standard deviation; exactly zero where an output never changes."""
        spread = np.sqrt(self._squares / max(self._count, 1))
        return np.where(spread > 1e-12 * np.maximum(np.abs(self._mean), 1e-300), spread, 0.0)

    def compress(self) -> None:
        """Fit the principal components of the outputs that are to have some, and write every row's coefficients."""
        fold = np.asarray(array(self.group, "fold")[:])
        seen = np.flatnonzero(fold != TEST)
        some = seen[np.linspace(0, len(seen) - 1, min(len(seen), _FIT_ROWS)).astype(int)]
        for name, wanted in self.settings.pca.items():
            rows = np.concatenate([y[some[(at <= some) & (some < at + len(y))] - at] for at, y in self._centred(name)])
            found = basis.fit(rows, fold[some], self.settings.folds, wanted)
            self.dropped[name] = found.dropped
            self._write_basis(name, found.bases)
            for at, y in self._centred(name):
                array(self.group, f"{name}_coefficients")[at : at + len(y)] = y @ found.bases[0].T

    def _centred(self, name: str) -> Iterator[tuple[int, Float[np.ndarray, "rows size"]]]:
        """Yield an output's rows less their location, block by block, and the number of the first of each."""
        location = self._mean[self.layout.slices[name]]
        for at in range(0, self.at, self.block):
            y = np.asarray(array(self.group, name)[at : at + self.block])
            yield at, y.reshape(len(y), -1) - location

    def _write_basis(self, name: str, bases: Float[np.ndarray, "folds components size"]) -> None:
        own, component = self.layout.outputs[name], f"{name}_component"
        notes = {"comment": f"[{TEST}] is fitted to all training rows, [f] to those that are not of fold f"}
        shape, dims = (*bases.shape[:2], *own.shape), ("without_fold", component, *own.dims)
        stored = create_array(self.group, f"{name}_basis", shape, 1, "float64", dimension_names=dims, attributes=notes)
        stored[:] = bases.reshape(shape)
        shape, dims = (self.at, bases.shape[1]), ("row", component)
        create_array(self.group, f"{name}_coefficients", shape, _BLOCK, "float64", dimension_names=dims)

    def close(self, header: Mapping[str, Any]) -> None:
        """Write the scaling and the header, and consolidate."""
        if not self.counts.all():
            raise StageError(f"got {self.counts.tolist()} rows in the test set and the folds; none may be 0: add rows")
        attributes = {key: header[key] for key in ("space", "layout", "stochastic") if key in header}
        scaling = {"location": self._mean.tolist(), "scale": self.spread.tolist()}
        self.group.attrs.update(
            attributes
            | {"transform": self.transform, "floor": self.settings.floor, "scaling": scaling}
            | ({"pca": list(self.dropped)} if self.dropped else {})
        )
        consolidate(self.path)


def _components(writer: _Writer, name: str) -> dict[str, Any]:
    if name not in writer.dropped:
        return {}
    count = array(writer.group, f"{name}_coefficients").shape[1]
    return {"components": count, "variance_dropped_on_unseen_rows": writer.dropped[name]}


def _summary(writer: _Writer, total: int) -> Summary:
    constant = {name: int((writer.spread[at] == 0).sum()) for name, at in writer.layout.slices.items()}
    outputs = [
        {
            "output": name,
            "transform": writer.transform[name],
            "values": output.size,
            "constant": constant[name],
            **_components(writer, name),
        }
        for name, output in writer.layout.outputs.items()
    ]
    facts: dict[str, Any] = {
        "rows": writer.at,
        "left_out": total - writer.at,
        "test": int(writer.counts[TEST]),
        "folds": len(writer.counts) - 1,
    }
    if any(name + DERIVATIVES in writer.group for name in writer.layout.outputs):
        facts["derivatives_by"] = ", ".join(writer.space.names)
    return {"facts": facts, "tables": {"outputs": outputs}}
