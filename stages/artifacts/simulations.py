"""Simulated rows, in a Zarr store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import _derivatives, array, open_xarray
from simfer.stages.model.outputs import Layout, Status

SIMULATIONS = "simulations.zarr"


ATTEMPT = "attempt"  # an array that simulations have where failed rows were solved once more


@dataclass(frozen=True)
class Simulations:
    """Simulated rows: whitened points, outputs, statuses and step counts, in a Zarr store."""

    store: Path

    @classmethod
    def load(cls, folder: Path) -> Simulations:
        """Open the rows of a published artifact."""
        return cls(Path(folder) / SIMULATIONS)

    @property
    def group(self) -> zarr.Group:
        """The Zarr group that holds them."""
        return zarr.open_group(self.store, mode="r")

    @property
    def header(self) -> dict[str, Any]:
        """The parameters' space and the outputs' layout, as plain data."""
        return dict(self.group.attrs)

    @property
    def layout(self) -> Layout:
        """How the outputs lie."""
        return Layout.from_json(self.header["layout"])

    def rows(self, start: int, stop: int) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n d"], np.ndarray]:
        """Return whitened points, flat outputs and whether each row is usable, for rows `start` to `stop`."""
        group = self.group
        z = np.asarray(array(group, "z")[start:stop])
        flat = [np.asarray(array(group, name)[start:stop]).reshape(len(z), -1) for name in self.layout.outputs]
        y = np.concatenate(flat, axis=1)
        return z, y, (np.asarray(array(group, "status")[start:stop]) == Status.OK) & np.isfinite(y).all(axis=1)

    def derivatives(self, start: int, stop: int) -> Float[np.ndarray, "n p d"] | None:
        """Return those of flat outputs by each parameter in its own unit; None where rows do not carry them."""
        return _derivatives(self.group, list(self.header["layout"]), start, stop)

    def endings(self) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Return whitened points, how each row ended (a `Status`), and after which attempt (1 or 2)."""
        group = self.group
        status = np.asarray(array(group, "status")[:])
        attempt = np.asarray(array(group, ATTEMPT)[:]) if ATTEMPT in group else np.ones_like(status)
        return np.asarray(array(group, "z")[:]), status, attempt

    def __len__(self) -> int:
        return int(array(self.group, "status").shape[0])

    def to_xarray(self) -> xr.Dataset:
        """Open the rows as a Dataset with named parameters, outputs, coordinates and units."""
        return open_xarray(self.store)
