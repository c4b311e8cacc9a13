"""The types that pass between stages, and how each lies on disk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int
from zarr.codecs import Crc32cCodec, ZstdCodec

from stages.simulators.base import Output, Status

SIMULATIONS, DATASET, POSTERIOR, VERDICT = "simulations.zarr", "dataset.zarr", "posterior.nc", "verdict.json"


ATTEMPT = "attempt"  # an array that simulations have where failed rows were solved once more
DERIVATIVES = "_derivatives"  # after an output's name: the array of its derivatives, where rows carry them
TEST = 0  # the fold of rows that no network sees; the others are 1, 2, ...


@contextmanager
def _quiet_zarr() -> Iterator[None]:
    # Zarr v3 has not written consolidated metadata into its specification yet, and says so each time.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        yield


def consolidate(store: Path) -> None:
    """Gather a store's metadata in one place, once it is complete."""
    with _quiet_zarr():
        zarr.consolidate_metadata(store)


def open_xarray(store: Path) -> xr.Dataset:
    """Open a Zarr store as a lazily loaded xarray Dataset."""
    with _quiet_zarr():
        return xr.open_zarr(store, chunks=None, consolidated=True)


def create_array(group: zarr.Group, name: str, shape: tuple[int, ...], rows: int, dtype: str, **kwargs: Any) -> Any:
    """Create one array, chunked along its first axis, a checksum on every chunk and none of them left out."""
    fill = {"f": float("nan"), "i": -1}[np.dtype(dtype).kind]
    return group.create_array(
        name,
        shape=shape,
        chunks=(min(rows, shape[0]), *shape[1:]) if shape else (),
        dtype=dtype,
        fill_value=fill,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
        **kwargs,
    )


def put_coordinates(group: zarr.Group, outputs: Mapping[str, Output], units: Mapping[str, str]) -> None:
    """Write the coordinates of every output's dimensions."""
    for dim, values in {dim: out.coords[dim] for out in outputs.values() for dim in out.dims}.items():
        array = group.create_array(dim, data=np.asarray(values), dimension_names=(dim,), overwrite=True)
        if units.get(dim):
            array.attrs["units"] = units[dim]


def coordinate_units(group: zarr.Group, outputs: Mapping[str, Output]) -> dict[str, str]:
    """Return the units of the coordinates that have one."""
    dims = dict.fromkeys(dim for out in outputs.values() for dim in out.dims)
    return {dim: str(unit) for dim in dims if (unit := array(group, dim).attrs.get("units"))}


def array(group: zarr.Group, name: str) -> Any:
    """Return an array of a group; zarr's own type cannot tell it from a group."""
    return group[name]


@dataclass(frozen=True)
class Layout:
    """How named outputs lie in one flat vector, in a fixed order."""

    outputs: Mapping[str, Output]

    @property
    def size(self) -> int:
        """The length of the flat vector."""
        return sum(output.size for output in self.outputs.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Where each output lies in it."""
        ends = np.cumsum([output.size for output in self.outputs.values()]).tolist()
        return {name: slice(end - out.size, end) for end, (name, out) in zip(ends, self.outputs.items(), strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Describe the layout in plain data."""
        return {
            name: {
                "dims": list(o.dims),
                "coords": {d: np.asarray(o.coords[d]).tolist() for d in o.dims},
                "unit": o.unit,
            }
            for name, o in self.outputs.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Layout:
        """Rebuild a layout from `to_json`."""
        return cls(
            {
                name: Output(tuple(o["dims"]), {d: np.asarray(o["coords"][d]) for d in o["dims"]}, o["unit"])
                for name, o in stored.items()
            }
        )


def _derivatives(
    group: zarr.Group, outputs: Sequence[str], start: int, stop: int | None
) -> Float[np.ndarray, "n p d"] | None:
    if any(name + DERIVATIVES not in group for name in outputs):
        return None
    values = [np.asarray(array(group, name + DERIVATIVES)[start:stop]) for name in outputs]
    return np.concatenate([value.reshape(*value.shape[:2], -1) for value in values], axis=2)


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

    def z(self) -> Float[np.ndarray, "draws size"]:
        """Return the whitened draws of all chains in a row, the noise's parameters after the simulator's."""
        draws = np.asarray(self.tree()["unconstrained_posterior"].to_dataset()["z"])
        return draws.reshape(-1, draws.shape[-1])


@dataclass(frozen=True)
class Verdict:
    """What the true simulator says of a posterior; the value of a figure that could not be computed is None."""

    figures: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Verdict:
        """Read a published verdict."""
        return cls(json.loads((Path(folder) / VERDICT).read_text()))

    @property
    def passed(self) -> bool:
        """Whether every figure is within its threshold."""
        return bool(self.figures["passed"])


def load(stage: str, folder: Path, config: Any) -> Any:
    """Open a published artifact as what users work with: xarray Datasets, a callable emulator, a DataTree."""
    if stage == "simulate":
        return Simulations.load(folder).to_xarray()
    if stage == "dataset":
        return Dataset.load(folder).to_xarray()
    if stage == "train":
        from stages.saved import load_emulator

        return load_emulator(folder, config.train.architecture, config.train.candidates)
    return Posterior.load(folder).tree() if stage == "infer" else Verdict.load(folder)
