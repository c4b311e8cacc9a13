"""Zarr stores: how arrays lie in them, with their coordinates, units and derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float
from zarr.codecs import Crc32cCodec, ZstdCodec

from simfer.stages.model.outputs import Output

DERIVATIVES = "_derivatives"  # after an output's name: the array of its derivatives, where rows carry them


@contextmanager
def _quiet_zarr() -> Iterator[None]:
    # Zarr v3 has not written consolidated metadata into its specification yet, and says so each time.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        yield


def open_store(store: Path) -> tuple[zarr.Group, dict[str, Any]]:
    """Open a store to read: its group, and the header that its attributes are."""
    group = zarr.open_group(store, mode="r")
    return group, dict(group.attrs)


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


def flat_derivatives(
    group: zarr.Group, outputs: Sequence[str], start: int, stop: int | None
) -> Float[np.ndarray, "n p d"] | None:
    """Return the derivatives of some rows' outputs, side by side; None where rows do not carry them."""
    if any(name + DERIVATIVES not in group for name in outputs):
        return None
    values = [np.asarray(array(group, name + DERIVATIVES)[start:stop]) for name in outputs]
    return np.concatenate([value.reshape(*value.shape[:2], -1) for value in values], axis=2)
