"""Posterior draws, in a NetCDF file."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from simfer.stages.settings import HANDED

POSTERIOR = "posterior.nc"
POINTS = "simulated_points"  # the group that says where a model of one's own asked for simulations
BORDER = "border.npz"  # where a posterior ends because the simulator has no answer, if it does


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

    def places(self, most: int | None = None) -> Int[np.ndarray, " draws"]:
        """Return which of several separate places each of these draws lies in; zeros where nothing tells them apart."""
        statistics = self.tree()["sample_stats"].to_dataset()
        if "place" not in statistics:
            return np.zeros(len(self.z(most)), int)
        return np.asarray(statistics["place"])[:, :most].reshape(-1)

    def z(self, most: int | None = None) -> Float[np.ndarray, "draws size"]:
        """Return the whitened draws of all chains in a row, the noise's parameters after the simulator's.

        Those are all draws, or the first ones of each chain if `most` says how many.
        """
        draws = np.asarray(self.tree()["unconstrained_posterior"].to_dataset()["z"])[:, :most]
        return draws.reshape(-1, draws.shape[-1])

    def points(
        self, size: int, most: int | None = None
    ) -> tuple[Float[np.ndarray, "points size"], Int[np.ndarray, " points"]]:
        """Return whitened points of the simulator's `size` parameters, and the place that each lies in.

        That is one of each draw, or as many as a model of one's own asked for there.
        """
        tree, places = self.tree(), self.places(most)
        if POINTS not in tree:
            return self.z(most)[:, :size], places
        z = np.asarray(tree[POINTS].to_dataset()["z"])[:, :most]
        return z.reshape(-1, size), np.repeat(places, z.shape[2])

    @property
    def handed(self) -> str:
        """A digest of what a posterior hands over to later rounds: its first draws, and where it ends."""
        parts = [self.z(HANDED), self.places(HANDED)]
        if (border := self.file.with_name(BORDER)).exists():
            with np.load(border) as stored:
                parts += [stored[name] for name in sorted(stored.files)]
        digest = sha256()
        for part in parts:
            digest.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()
