"""The store of a training set while it is being written: block by block, its scaling gathered on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import DERIVATIVES, array, consolidate, create_array
from simfer.stages.artifacts.training_set import TEST
from simfer.stages.batches import in_batches
from simfer.stages.errors import StageError
from simfer.stages.model import pca as basis
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS, steepness
from simfer.stages.settings import Dataset

_BLOCK = 16384
_BLOCK_BYTES = 2**27  # or as many rows as this holds
_FIT_ROWS = 2048  # training rows, evenly taken, that principal components are fitted to, at most


def block_rows(layout: Layout, num_slopes: int = 0) -> int:
    """Return how many rows, each with so many derivatives of every value, are held at a time."""
    return max(min(_BLOCK, _BLOCK_BYTES // (8 * layout.size * (1 + num_slopes))), 1)


class Moments:
    """The mean and the standard deviation of rows that come block by block (Chan et al. 1983)."""

    def __init__(self, size: int) -> None:
        self.mean = np.zeros(size)
        self._count, self._squares = 0, np.zeros(size)

    def add(self, y: Float[np.ndarray, "n d"]) -> None:
        """Count a block of rows in."""
        if not len(y):
            return
        shift = y.mean(axis=0) - self.mean
        total = self._count + len(y)
        self._squares += ((y - y.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * self._count * len(y) / total
        self.mean += shift * len(y) / total
        self._count = total

    @property
    def spread(self) -> Float[np.ndarray, " d"]:
        """The rows' standard deviation; exactly zero where a value never changes."""
        spread = np.sqrt(self._squares / max(self._count, 1))
        return np.where(spread > 1e-12 * np.maximum(np.abs(self.mean), 1e-300), spread, 0.0)


class Writer:
    """Write rows block by block; the training rows' moments and principal components become the scaling."""

    def __init__(
        self, path: Path, layout: Layout, space: Space, settings: Dataset, count: int, sloped: bool = False
    ) -> None:
        self.path, self.layout, self.space, self.settings, self.at = path, layout, space, settings, 0
        self.block = block_rows(layout, space.size if sloped else 0)
        self.transform = {name: settings.transform.get(name, "none") for name in layout.outputs}
        self.counts = np.zeros(settings.folds + 1, int)
        self.moments = Moments(layout.size)
        self.dropped: dict[str, float] = {}  # share of variance that each output's components leave out
        self.group = zarr.open_group(path, mode="w", zarr_format=3)
        self._create_outputs(count, sloped)
        self._create_points(count)

    def _create_outputs(self, count: int, sloped: bool) -> None:
        for name, output in self.layout.outputs.items():
            notes = {"transform": self.transform[name], "units_before_transform": output.unit}
            dims = ("row", *output.dims)
            shape = (count, *output.shape)
            create_array(self.group, name, shape, self.block, "float64", dimension_names=dims, attributes=notes)
            if sloped:
                shape, dims = (count, self.space.size, *output.shape), ("row", "parameter", *output.dims)
                notes = {"comment": "by each component of z, or of the position between a flat prior's bounds"}
                named = name + DERIVATIVES
                create_array(self.group, named, shape, self.block, "float64", dimension_names=dims, attributes=notes)

    def _create_points(self, count: int) -> None:
        names, dims = {"parameters": self.space.components}, ("row", "parameter")
        shape = (count, self.space.size)
        create_array(self.group, "z", shape, _BLOCK, "float64", dimension_names=dims, attributes=names)
        folds = self.settings.folds
        notes = {"comment": f"{TEST}: test rows, seen by no network; 1 to {folds}: cross-validation folds"}
        create_array(self.group, "fold", (count,), _BLOCK, "int8", dimension_names=("row",), attributes=notes)

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
        self.moments.add(transformed[fold != TEST])

    def put_derivatives(
        self, z: Float[np.ndarray, "n p"], y: Float[np.ndarray, "n d"], slopes: Float[np.ndarray, "n p d"]
    ) -> None:
        """Write the derivatives of the rows appended last, transformed by the chain rule."""
        rows, speeds = slice(self.at - len(z), self.at), in_batches(self.space.speeds, z)
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

    def compress(self) -> None:
        """Fit the principal components of the outputs that are to have some, and write every row's coefficients."""
        fold = np.asarray(array(self.group, "fold")[:])
        training = np.flatnonzero(fold != TEST)
        some = training[np.linspace(0, len(training) - 1, min(len(training), _FIT_ROWS)).astype(int)]
        for name, wanted in self.settings.pca.items():
            rows = np.concatenate([y[some[(at <= some) & (some < at + len(y))] - at] for at, y in self._centred(name)])
            components = basis.fit(rows, fold[some], self.settings.folds, wanted)
            self.dropped[name] = components.dropped
            self._write_basis(name, components.bases)
            for at, y in self._centred(name):
                array(self.group, f"{name}_coefficients")[at : at + len(y)] = y @ components.bases[0].T

    def _centred(self, name: str) -> Iterator[tuple[int, Float[np.ndarray, "rows size"]]]:
        """Yield an output's rows less their location, block by block, and the number of the first of each."""
        location = self.moments.mean[self.layout.slices[name]]
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

    def close(self, stochastic: bool = False, ordered: bool = False) -> None:
        """Write the scaling and what the rows are of, and consolidate."""
        if not self.counts.all():
            raise StageError(f"got {self.counts.tolist()} rows in the test set and the folds; none may be 0: add rows")
        scaling = {"location": self.moments.mean.tolist(), "scale": self.moments.spread.tolist()}
        self.group.attrs.update(
            {"space": self.space.to_json(), "layout": self.layout.to_json()}
            | ({"stochastic": True} if stochastic else {})
            | ({"ordered": True} if ordered else {})
            | {"transform": self.transform, "floor": self.settings.floor, "scaling": scaling}
            | ({"pca": list(self.dropped)} if self.dropped else {})
        )
        consolidate(self.path)
