"""Runs as arrays: NPZ, NetCDF, Zarr and HDF5, where a run is one place along an axis that the parameters share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from simfer.stages.simulate.finished.file import Column, RunFile

_RUNS = "simulation", "run", "runs", "sample", "ensemble", "member", "realization", "realisation", "point", "row"
_COMPONENT = re.compile(r"(.+)\[(\d+)\]")  # X[0]: of an array that holds several parameters side by side


class Variable(NamedTuple):
    """One array of a file: what it is called, its axes ("" where the file names none), and how it is sliced."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    unit: str
    is_text: bool
    values: Any  # [a:b] gives that stretch of the first axis


class Arrays(RunFile):
    """A file of arrays."""

    def __init__(self, path: Path, wanted: Collection[str] = ()) -> None:
        super().__init__(path)
        self._lock = Lock()  # HDF5 and NPZ files are read by one thread at a time
        self._variables = dict(OPENERS[path.suffix.lower()](path))
        if not self._variables:
            self.refuse("there are no arrays in it")
        axis, self.num = self._axis([_COMPONENT.sub(r"\1", name) for name in wanted])
        places = {name for name, v in self._variables.items() if v.dims == (name,)}
        self.others = {
            name: np.asarray(v.values[:], float)
            for name, v in self._variables.items()
            if len(v.shape) == 1 and not v.is_text and (name in places or v.shape[0] != self.num)
        }
        self.coordinate_units = {name: self._variables[name].unit for name in places if self._variables[name].unit}
        for name, variable in self._variables.items():
            if name not in places and self._is_of_runs(variable, axis):
                self.columns[name] = self._column(variable)
        for name in wanted:  # several parameters in one array
            found = _COMPONENT.fullmatch(name)
            if found and name not in self.columns and found[1] in self.columns:
                self.columns[name] = Column()

    def _axis(self, wanted: Sequence[str]) -> tuple[str, int]:
        """Return the axis along which runs lie: its name, if it has one, and its length."""
        known = [self._variables[name] for name in wanted if name in self._variables and self._variables[name].shape]
        named = [v for v in self._variables.values() if v.shape and v.dims[0] in _RUNS]
        for group in (known, named):
            if group:
                return group[0].dims[0], group[0].shape[0]
        lengths = Counter(v.shape[0] for v in self._variables.values() if v.shape)
        if not lengths:
            self.refuse("there is no array of several runs in it")
        return "", max(lengths, key=lambda length: (lengths[length], length))

    def _is_of_runs(self, variable: Variable, axis: str) -> bool:
        if not variable.shape:
            return False
        return variable.dims[0] == axis if variable.dims[0] or axis else variable.shape[0] == self.num

    def _column(self, variable: Variable) -> Column:
        dims = variable.dims[1:]
        coords = {dim: self.others[dim] for dim in dims if dim in self.others}
        return Column(dims, coords, variable.shape[1:], variable.unit, variable.is_text)

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs."""
        with self._lock:
            values = {name: self._read(name, start, stop) for name in (*names, *texts)}
        numbers = {name: np.asarray(values[name], float) for name in names}
        return numbers | {name: np.array([_text(value) for value in values[name]], object) for name in texts}

    def _read(self, name: str, start: int, stop: int) -> Any:
        if name in self._variables:
            return self._variables[name].values[start:stop]
        found = _COMPONENT.fullmatch(name)
        assert found is not None
        values, at = np.asarray(self._variables[found[1]].values[start:stop]), int(found[2])
        if values.ndim != 2 or at >= values.shape[1]:
            self.refuse(f"got {name}, and {found[1]} is of shape {(self.num, *values.shape[1:])}")
        return values[:, at]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_text(dtype: Any) -> bool:
    return np.dtype(dtype).kind not in "biuf"


def _npz(path: Path) -> dict[str, Variable]:
    """Open an NPZ file, whose arrays can only be read whole, each when it is first asked for."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: Variable(("",) * a.ndim, a.shape, "", _is_text(a.dtype), a) for name, a in arrays.items()}


def _netcdf(path: Path) -> dict[str, Variable]:
    with path.open("rb") as file:
        if file.read(3) == b"CDF":
            return _classic(path)
    import h5netcdf

    file = h5netcdf.File(path, "r")
    return {
        name: Variable(
            tuple(v.dimensions), tuple(v.shape), _unit(v.attrs), _is_text(v.dtype), _Filled(v, v.attrs, file)
        )
        for name, v in file.variables.items()
    }  # fmt: skip


def _classic(path: Path) -> dict[str, Variable]:
    from scipy.io import netcdf_file

    file = netcdf_file(path, "r", mmap=False)
    return {
        name: Variable(v.dimensions, v.shape, _unit(v._attributes), _is_text(v.data.dtype), v.data)
        for name, v in file.variables.items()
    }


class _Filled:
    """An array whose fill value stands for what is missing."""

    def __init__(self, values: Any, attributes: Mapping[str, Any], file: Any) -> None:
        self._values, self._file = values, file  # which is closed when nobody holds it
        given = (attributes.get(name) for name in ("_FillValue", "missing_value"))
        self._fills = [float(np.ravel(fill)[0]) for fill in given if fill is not None and not isinstance(fill, str)]

    def __getitem__(self, at: Any) -> Any:
        values = self._values[at]
        if not self._fills or np.asarray(values).dtype.kind not in "iuf":
            return values
        values = np.asarray(values, float)
        return np.where(np.isin(values, self._fills), np.nan, values)


def _zarr(path: Path) -> dict[str, Variable]:
    import zarr

    group = zarr.open_group(path, mode="r")
    found = {}
    for name, values in group.arrays():
        attributes: dict[str, Any] = dict(values.attrs)
        given = getattr(values.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
        dims = tuple(dim or "" for dim in given) if given else ("",) * values.ndim
        found[name] = Variable(dims, values.shape, _unit(attributes), _is_text(values.dtype), values)
    return found


def _hdf5(path: Path) -> dict[str, Variable]:
    import h5py

    file, found = h5py.File(path, "r"), {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            unit, is_text = _unit(item.attrs), item.dtype.kind not in "biuf"
            found[name] = Variable(("",) * item.ndim, item.shape, unit, is_text, item)

    file.visititems(visit)
    return found


def _unit(attributes: Mapping[str, Any]) -> str:
    unit = attributes.get("units", attributes.get("unit", ""))
    return _text(unit) if isinstance(unit, (str, bytes)) else ""


OPENERS: dict[str, Callable[[Path], Mapping[str, Variable]]] = {
    ".npz": _npz,
    ".nc": _netcdf,
    ".nc4": _netcdf,
    ".cdf": _netcdf,
    ".zarr": _zarr,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".he5": _hdf5,
}
