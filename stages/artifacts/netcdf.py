"""NetCDF files, made in memory and then written: where a disk is full, HDF5 takes the process with it."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from simfer.stages.spans import span


def write_netcdf(data: xr.DataTree | xr.Dataset, file: Path) -> None:
    """Write a dataset, or a tree of them, into a file."""
    with span("write"):
        content = data.to_netcdf(engine="h5netcdf")
        assert isinstance(content, memoryview)
        file.write_bytes(content)
