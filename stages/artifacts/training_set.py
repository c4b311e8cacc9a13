"""The training set, in a Zarr store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import _derivatives, array, coordinate_units, open_xarray
from simfer.stages.model.outputs import Layout

DATASET = "dataset.zarr"
TEST = 0  # the fold of rows that no network sees; the others are 1, 2, ...


@dataclass(frozen=True)
class Dataset:
    """The training set: whitened points, transformed outputs and folds, in a Zarr store.

    Of a `fraction` of it the rows after the first ones are test rows too: the rows are those that fewer simulations
    would have given, and more of them only add some. Location, scale and principal components stay those of all.
    """

    store: Path
    fraction: float = 1.0

    @classmethod
    def load(cls, folder: Path, fraction: float = 1.0) -> Dataset:
        """Open a published training set."""
        return cls(Path(folder) / DATASET, fraction)

    @property
    def header(self) -> dict[str, Any]:
        """The parameters' space, the outputs' layout and the transforms, as plain data."""
        return dict(zarr.open_group(self.store, mode="r").attrs)

    @property
    def coordinate_units(self) -> dict[str, str]:
        """The units of the coordinates that have one."""
        outputs = Layout.from_json(self.header["layout"]).outputs
        return coordinate_units(zarr.open_group(self.store, mode="r"), outputs)

    def arrays(self) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
        """Return whitened points, flat transformed outputs, and the fold of every row."""
        z, fold = self.points()
        return z, self.outputs(0, len(z)), fold

    def points(self) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
        """Return the whitened point and the fold of every row."""
        group = zarr.open_group(self.store, mode="r")
        z, fold = np.asarray(array(group, "z")[:]), np.asarray(array(group, "fold")[:])
        return z, np.where(np.arange(len(z)) < round(self.fraction * len(z)), fold, TEST)

    def outputs(self, start: int, stop: int) -> Float[np.ndarray, "n d"]:
        """Return flat transformed outputs of the rows from `start` to `stop`."""
        return self._flat(list(self.header["layout"]), start, stop)

    def _flat(self, names: Sequence[str], start: int, stop: int | None) -> Float[np.ndarray, "n m"]:
        group = zarr.open_group(self.store, mode="r")
        values = [np.asarray(array(group, name)[start:stop]) for name in names]
        return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)

    def targets(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "n m"]:
        """Return what networks learn of rows, centred: coefficients where there are some, values elsewhere."""
        header, layout = self.header, Layout.from_json(self.header["layout"])
        components, location = header.get("pca", []), np.asarray(header["scaling"]["location"])
        parts = [
            self._flat([f"{name}_coefficients"], start, stop)
            if name in components
            else self._flat([name], start, stop) - location[at]
            for name, at in layout.slices.items()
        ]
        return np.concatenate(parts, axis=1)

    def derivatives(self, start: int, stop: int | None) -> Float[np.ndarray, "n p d"] | None:
        """Return those of flat transformed outputs by the emulator's inputs (`Space.inputs`); None if it has none."""
        return _derivatives(zarr.open_group(self.store, mode="r"), list(self.header["layout"]), start, stop)

    def target_derivatives(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "n p m"] | None:
        """Return the derivatives of `targets` by the emulator's inputs; None if there are none."""
        found, slices = self.derivatives(start, stop), Layout.from_json(self.header["layout"]).slices
        if found is None:
            return None
        bases = self.bases()
        parts = [found[..., at] @ bases[name][0].T if name in bases else found[..., at] for name, at in slices.items()]
        return np.concatenate(parts, axis=-1)

    @property
    def piece(self) -> int:
        """The number of rows that lie together on disk."""
        group = zarr.open_group(self.store, mode="r")
        return min(int(array(group, name).chunks[0]) for name in self.header["layout"])

    def bases(self) -> dict[str, Float[np.ndarray, "folds components size"]]:
        """Return the principal components of outputs that have some: [f] never saw the rows of fold f."""
        group = zarr.open_group(self.store, mode="r")
        stored = {name: np.asarray(array(group, f"{name}_basis")[:]) for name in self.header.get("pca", [])}
        return {name: basis.reshape(*basis.shape[:2], -1) for name, basis in stored.items()}

    def to_xarray(self) -> xr.Dataset:
        """Open the training set as a Dataset."""
        return open_xarray(self.store)
