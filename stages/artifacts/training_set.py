"""The training set, in a Zarr store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import array, coordinate_units, flat_derivatives, open_store, open_xarray
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import Transform

DATASET = "dataset.zarr"
TEST = 0  # the fold of rows that no network sees; the others are 1, 2, ...


@dataclass(frozen=True)
class TrainingSet:
    """The training set: whitened points, transformed outputs and folds, in a Zarr store that is opened once.

    Of a `fraction` of it the rows after the first ones are test rows too: the rows are those that fewer simulations
    would have given, and more of them only add some (of a table, which may be sorted, rows are taken at random).
    Location, scale and principal components stay those of all.
    """

    store: Path
    group: zarr.Group
    space: Space
    layout: Layout
    transform: Mapping[str, Transform]
    floor: float
    location: Float[np.ndarray, " outputs"]  # the training rows' means, in the transformed scale
    scale: Float[np.ndarray, " outputs"]  # and standard deviations; zero where an output never changes
    components: Sequence[str]  # outputs with principal components
    stochastic: bool
    fraction: float = 1.0
    is_ordered: bool = False  # whether rows follow one another as somebody chose: the first ones stand for no others

    @classmethod
    def load(cls, folder: Path, fraction: float = 1.0) -> TrainingSet:
        """Open a published training set."""
        store = Path(folder) / DATASET
        group, header = open_store(store)
        space, layout = Space.from_json(header["space"]), Layout.from_json(header["layout"])
        location, scale = (np.asarray(header["scaling"][key]) for key in ("location", "scale"))
        components, stochastic = header.get("pca", []), bool(header.get("stochastic"))
        scaling = header["transform"], header["floor"], location, scale
        is_ordered = bool(header.get("ordered"))
        return cls(store, group, space, layout, *scaling, components, stochastic, fraction, is_ordered)

    @property
    def coordinate_units(self) -> dict[str, str]:
        """The units of the coordinates that have one."""
        return coordinate_units(self.group, self.layout.outputs)

    def arrays(self) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
        """Return whitened points, flat transformed outputs, and the fold of every row."""
        z, fold = self.points()
        return z, self.outputs(0, len(z)), fold

    def points(self) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
        """Return the whitened point and the fold of every row."""
        z, fold = np.asarray(array(self.group, "z")[:]), np.asarray(array(self.group, "fold")[:])
        order = np.random.default_rng(0).permutation(len(z)) if self.is_ordered else np.arange(len(z))
        return z, np.where(order < round(self.fraction * len(z)), fold, TEST)

    def outputs(self, start: int, stop: int) -> Float[np.ndarray, "n d"]:
        """Return flat transformed outputs of the rows from `start` to `stop`."""
        return self._flat(list(self.layout.outputs), start, stop)

    def _flat(self, names: Sequence[str], start: int, stop: int | None) -> Float[np.ndarray, "n m"]:
        values = [np.asarray(array(self.group, name)[start:stop]) for name in names]
        return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)

    def targets(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "n m"]:
        """Return what networks learn of rows, centred: coefficients where there are some, values elsewhere."""
        parts = [
            self._flat([f"{name}_coefficients"], start, stop)
            if name in self.components
            else self._flat([name], start, stop) - self.location[at]
            for name, at in self.layout.slices.items()
        ]
        return np.concatenate(parts, axis=1)

    def derivatives(self, start: int, stop: int | None) -> Float[np.ndarray, "n p d"] | None:
        """Return those of flat transformed outputs by the emulator's inputs (`Space.inputs`); None if it has none."""
        return flat_derivatives(self.group, list(self.layout.outputs), start, stop)

    def target_derivatives(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "n p m"] | None:
        """Return the derivatives of `targets` by the emulator's inputs; None if there are none."""
        slopes = self.derivatives(start, stop)
        if slopes is None:
            return None
        bases = self.bases()
        parts = [
            slopes[..., at] @ bases[name][0].T if name in bases else slopes[..., at]
            for name, at in self.layout.slices.items()
        ]
        return np.concatenate(parts, axis=-1)

    @property
    def piece(self) -> int:
        """The number of rows that lie together on disk."""
        return min(int(array(self.group, name).chunks[0]) for name in self.layout.outputs)

    def bases(self) -> dict[str, Float[np.ndarray, "folds components size"]]:
        """Return the principal components of outputs that have some: [f] never saw the rows of fold f."""
        stored = {name: np.asarray(array(self.group, f"{name}_basis")[:]) for name in self.components}
        return {name: basis.reshape(*basis.shape[:2], -1) for name, basis in stored.items()}

    def to_xarray(self) -> xr.Dataset:
        """Open the training set as a Dataset."""
        return open_xarray(self.store)
