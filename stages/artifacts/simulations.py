"""Simulated rows, in a Zarr store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import array, flat_derivatives, open_store, open_xarray
from simfer.stages.model.outputs import Layout, Status
from simfer.stages.model.space import Space


def begun_layout(folders: Iterable[Path]) -> Layout | None:
    """Return what rows look like that were begun in one of some folders; None where there are none."""
    for folder in folders:
        with suppress(OSError, ValueError, KeyError, TypeError):
            header: dict[str, Any] = dict(zarr.open_group(folder / SIMULATIONS, mode="r").attrs)
            return Layout.from_json(header["layout"])
    return None


SIMULATIONS = "simulations.zarr"
ATTEMPT = "attempt"  # an array that simulations have where failed rows were solved once more


@dataclass(frozen=True)
class Simulations:
    """Simulated rows: whitened points, outputs, statuses and step counts, in a Zarr store that is opened once."""

    store: Path
    group: zarr.Group
    space: Space
    layout: Layout
    stochastic: bool
    has_derivatives: bool
    num_foreign: int = 0  # of the last rows, points that nobody asked for
    num_finished: int = 0  # of the first rows, those of a table: they lie as somebody chose, in whatever order

    @classmethod
    def load(cls, folder: Path) -> Simulations:
        """Open the rows of a published artifact."""
        store = Path(folder) / SIMULATIONS
        group, header = open_store(store)
        space, layout = Space.from_json(header["space"]), Layout.from_json(header["layout"])
        more = (int(header.get(key, 0)) for key in ("foreign", "finished"))
        stochastic, has_derivatives = (bool(header.get(key)) for key in ("stochastic", "derivatives"))
        return cls(store, group, space, layout, stochastic, has_derivatives, *more)

    def rows(self, start: int, stop: int) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n d"], np.ndarray]:
        """Return whitened points, flat outputs and whether each row is usable, for rows `start` to `stop`."""
        z = np.asarray(array(self.group, "z")[start:stop])
        flat = [np.asarray(array(self.group, name)[start:stop]).reshape(len(z), -1) for name in self.layout.outputs]
        y = np.concatenate(flat, axis=1)
        status = np.asarray(array(self.group, "status")[start:stop])
        return z, y, (status == Status.OK) & np.isfinite(y).all(axis=1)

    def derivatives(self, start: int, stop: int) -> Float[np.ndarray, "n p d"] | None:
        """Return those of flat outputs by each parameter in its own unit; None where rows do not carry them."""
        return flat_derivatives(self.group, list(self.layout.outputs), start, stop)

    def endings(self) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Return whitened points, how each row ended (a `Status`), and after which attempt (1 or 2)."""
        status = np.asarray(array(self.group, "status")[:])
        attempt = np.asarray(array(self.group, ATTEMPT)[:]) if ATTEMPT in self.group else np.ones_like(status)
        return np.asarray(array(self.group, "z")[:]), status, attempt

    def __len__(self) -> int:
        return int(array(self.group, "status").shape[0])

    def to_xarray(self) -> xr.Dataset:
        """Open the rows as a Dataset with named parameters, outputs, coordinates and units."""
        return open_xarray(self.store)
