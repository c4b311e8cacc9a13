"""Posterior draws, in a NetCDF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

POSTERIOR = "posterior.nc"


@dataclass(frozen=True)
class Posterior:
    """Posterior draws with their diagnostics, in one NetCDF file of ArviZ's InferenceData schema."""

    file: Path

    @classmethod
    def load(cls, folder: Path) -> Posterior:
        """Open a published posterior."""
        return cls(Path(folder) / POSTERIOR)

    def tree(self) -> xr.DataTree:
        """Read every group into memory."""
        with xr.open_datatree(self.file, engine="h5netcdf") as tree:
            return tree.load()

    def places(self) -> Int[np.ndarray, " draws"]:
        """Return which of several separate places each of these draws lies in; zeros where nothing tells them apart."""
        statistics = self.tree()["sample_stats"].to_dataset()
        return np.asarray(statistics["place"] if "place" in statistics else np.zeros(len(self.z()), int)).reshape(-1)

    def z(self) -> Float[np.ndarray, "draws size"]:
        """Return the whitened draws of all chains in a row, the noise's parameters after the simulator's."""
        draws = np.asarray(self.tree()["unconstrained_posterior"].to_dataset()["z"])
        return draws.reshape(-1, draws.shape[-1])
