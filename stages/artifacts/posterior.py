"""Posterior draws, in a NetCDF file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from simfer.stages.model.vectors import of_names
from simfer.stages.settings import HANDED

POSTERIOR = "posterior.nc"
POINTS = "simulated_points"  # the group that says where a model of one's own asked for simulations
AT_DATA = "posterior_predictive", "log_likelihood", "prior_predictive"  # groups with a number for each draw and datum
_SAMPLE = ("chain", "draw")
BORDER = "border.npz"  # where a posterior ends because the simulator has no answer, if it does
# What small groups hold, by file and name: xarray takes 30 ms to read one, and a run's check and page ask again.
_read: dict[tuple[Any, ...], xr.Dataset] = {}
_SMALL, _MOST_READ = 1 << 20, 32  # bytes, groups


def together(variables: Mapping[str, tuple[Any, np.ndarray, Mapping[str, Any]]]) -> dict[str, Any]:
    """Put the numbers of vectors together, as ArviZ has them: `effect` along `effect_dim_0`, what all share said of it.

    Args:
        variables: By name the dimensions, the values and the attributes of each.
    """
    vectors = of_names(variables)
    vector_of = {number: name for name, numbers in vectors.items() for number in numbers}
    found: dict[str, Any] = {}
    for name, one in variables.items():
        vector = vector_of.get(name)
        if vector is None or vector in variables:
            found[name] = one
        elif vector not in found:
            parts = [variables[number] for number in vectors[vector]]
            shared = {key: value for key, value in parts[0][2].items() if all(p[2].get(key) == value for p in parts)}
            values = np.stack([part[1] for part in parts], axis=-1)
            found[vector] = ((*one[0], f"{vector}_dim_0"), values, shared)
    return found


def scalars(dataset: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return each number of a group of draws by name, those of vectors as `effect[0]`."""
    found: dict[str, xr.DataArray] = {}
    for name, values in dataset.data_vars.items():
        others = [dim for dim in values.dims if dim not in _SAMPLE]
        if not others:
            found[str(name)] = values
            continue
        for i in np.ndindex(*(values.sizes[dim] for dim in others)):
            found[f"{name}[{','.join(map(str, i))}]"] = values.isel(dict(zip(others, i, strict=True)))
    return found


@dataclass(frozen=True)
class Posterior:
    """Posterior draws with their diagnostics, in one NetCDF file of ArviZ's InferenceData schema."""

    file: Path

    @classmethod
    def load(cls, folder: Path) -> Posterior:
        """Open a published posterior."""
        return cls(Path(folder) / POSTERIOR)

    def tree(self, but: Collection[str] = ()) -> xr.DataTree:
        """Read every group into memory, `but` those."""
        # One by one: xarray's own tree opens each more than once, which takes half as long again.
        kept = [name for name in self.groups if name not in but]
        return xr.DataTree.from_dict({name: self.group(name) for name in ("/", *kept)})

    @property
    def groups(self) -> list[str]:
        """The names of what the file holds."""
        with h5py.File(self.file) as stored:
            return [name for name, item in stored.items() if isinstance(item, h5py.Group)]

    def group(self, name: str) -> xr.Dataset:
        """Read one group into memory."""
        written = self.file.stat()
        key = str(self.file), written.st_ino, written.st_mtime_ns, written.st_size, name
        if (read := _read.get(key)) is None:
            with xr.open_dataset(self.file, group=name, engine="h5netcdf") as group:
                read = group.load()
            if read.nbytes > _SMALL:
                return read
            _read[key] = read
            if len(_read) > _MOST_READ:
                del _read[next(iter(_read))]
        return read.copy(deep=True)

    def places(self, most: int | None = None) -> Int[np.ndarray, " draws"]:
        """Return which of several separate places each of these draws lies in; zeros where nothing tells them apart."""
        statistics = self.group("sample_stats")
        if "place" not in statistics:
            return np.zeros(len(self.z(most)), int)
        return np.asarray(statistics["place"])[:, :most].reshape(-1)

    def z(self, most: int | None = None) -> Float[np.ndarray, "draws size"]:
        """Return the whitened draws of all chains in a row, the noise's parameters after the simulator's.

        Those are all draws, or the first ones of each chain if `most` says how many.
        """
        draws = np.asarray(self.group("unconstrained_posterior")["z"])[:, :most]
        return draws.reshape(-1, draws.shape[-1])

    def points(
        self, size: int, most: int | None = None
    ) -> tuple[Float[np.ndarray, "points size"], Int[np.ndarray, " points"]]:
        """Return whitened points of the simulator's `size` parameters, and the place that each lies in.

        That is one of each draw, or as many as a model of one's own asked for there.
        """
        places = self.places(most)
        if POINTS not in self.groups:
            return self.z(most)[:, :size], places
        z = np.asarray(self.group(POINTS)["z"])[:, :most]
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
