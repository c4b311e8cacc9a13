"""What a program wrote, read: CSV, JSON, NumPy's, NetCDF, HDF5, a pattern, PEST's instructions, Dakota's results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simfer.stages.simulate.children.numbers import number
from simfer.stages.simulate.children.returned import BadOutput

_FORMATS = {".json": "json", ".npy": "npy", ".npz": "npz", ".nc": "netcdf", ".h5": "hdf5", ".hdf5": "hdf5"}


def format_of(wanted: Mapping[str, Any]) -> str:
    """Return how a file is read."""
    if wanted.get("format"):
        return str(wanted["format"])
    if wanted.get("pattern"):
        return "regex"
    if wanted.get("instructions"):
        return "pest"
    return _FORMATS.get(Path(wanted["file"]).suffix.lower(), "csv")


def values(file: Path, wanted: Mapping[str, Any], column: str | int) -> np.ndarray:
    """Read one output, or the coordinates along an axis, of a file."""
    where = f"{file.name}"
    try:
        return READERS[format_of(wanted)](file, wanted, column, where)
    except BadOutput:
        raise
    except FileNotFoundError:
        raise BadOutput(f"{file.name}: the program did not write it") from None
    except Exception as error:  # whatever a reader says of a file that is none of its kind
        raise BadOutput(f"{file.name}: cannot be read as {format_of(wanted)}: {error}") from None


def _csv(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    if not lines:
        raise BadOutput(f"{where}: it is empty")
    split = _splitter(lines)
    head = [name.strip().strip('"') for name in split(lines[0].lstrip("#").strip())]
    has_names = isinstance(column, str)
    if has_names and column not in head:
        raise BadOutput(f"{where}: no column {column}; its first line has {', '.join(head)}")
    at = head.index(column) if isinstance(column, str) else column
    body = [line for line in lines[1 if has_names else 0 :] if not line.lstrip().startswith("#")]
    found = []
    for i, line in enumerate(body):
        cells = split(line)
        if len(cells) <= at:
            raise BadOutput(f"{where}, line {i + 2}: got {len(cells)} columns, expected {len(head)}: is it cut off?")
        found.append(number(cells[at], f"{where}, line {i + 2}"))
    return np.array(found)


def _splitter(lines: list[str]) -> Callable[[str], list[str]]:
    for mark in (";", "\t", ","):
        if mark in lines[0]:
            return lambda line: line.split(mark)
    return lambda line: line.split()


def _json(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    found: Any = json.loads(file.read_text())
    for part in str(column).split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            has = ", ".join(found) if isinstance(found, dict) else type(found).__name__
            raise BadOutput(f"{where}: no {column}: {part} is not in {has}") from None
    return _numeric(
        np.asarray([np.nan if each is None else each for each in found] if isinstance(found, list) else found), where
    )


def _npy(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    return _numeric(np.load(file, allow_pickle=False), where)


def _npz(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    with np.load(file, allow_pickle=False) as arrays:
        if column not in arrays:
            raise BadOutput(f"{where}: no array {column}; it has {', '.join(arrays)}")
        return _numeric(arrays[column], where)


def _netcdf(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    import xarray as xr

    engine = "h5netcdf" if file.read_bytes()[:4] == b"\x89HDF" else "scipy"
    with xr.open_dataset(file, engine=engine, decode_times=False) as data:
        if column not in data.variables:
            raise BadOutput(f"{where}: no variable {column}; it has {', '.join(map(str, data.variables))}")
        return _numeric(data[column].values, where)


def _hdf5(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    import h5py

    with h5py.File(file) as data:
        if column not in data:
            raise BadOutput(f"{where}: no {column}; it has {', '.join(data)}")
        return _numeric(np.asarray(data[column]), where)


def _regex(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    matches = re.findall(wanted["pattern"], file.read_text(errors="replace"), re.MULTILINE)
    found = [each if isinstance(each, str) else each[0] for each in matches]
    if not found:
        raise BadOutput(f"{where}: nothing there matches {wanted['pattern']}")
    numbers = np.array([number(each, where) for each in found])
    return numbers if len(numbers) > 1 else numbers[0]


def _dakota(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    if lines and lines[0][0].lower() == "fail":
        raise BadOutput(f"{where}: the program wrote FAIL")
    labels = {line[1]: line[0] for line in lines if len(line) > 1}
    if isinstance(column, str) and column in labels:
        return np.asarray(number(labels[column], where))
    if labels or not isinstance(column, int):
        raise BadOutput(f"{where}: no result {column}; it has {', '.join(labels) or f'{len(lines)} without labels'}")
    return np.asarray(number(lines[column][0], where))


def _pest(file: Path, wanted: Mapping[str, Any], column: str | int, where: str) -> np.ndarray:
    from simfer.stages.simulate.children.instructions import follow

    found = follow(Path(wanted["instructions"]).read_text(), file.read_text(errors="replace"), where)
    if str(column).lower() not in found:
        raise BadOutput(f"{where}: no observation {column}; the instructions read {', '.join(found)}")
    return np.asarray(found[str(column).lower()])


def _numeric(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise BadOutput(f"{where}: got values of type {array.dtype}, expected numbers")
    return array.astype(float)


READERS: dict[str, Callable[[Path, Mapping[str, Any], str | int, str], np.ndarray]] = {
    "csv": _csv, "json": _json, "npy": _npy, "npz": _npz, "netcdf": _netcdf, "hdf5": _hdf5, "regex": _regex,
    "dakota": _dakota, "pest": _pest,
}  # fmt: skip
