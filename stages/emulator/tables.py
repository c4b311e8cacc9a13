"""Tables of predictions, written block by block: CSV, a column for each value, or NetCDF, an array for each output."""

from __future__ import annotations

import abc
import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.labels import INSIDE, POINT, dims_of, output_of
from simfer.stages.model.outputs import Layout

Block = Mapping[str, np.ndarray]


class Table(abc.ABC):
    """What predictions are written into."""

    @abc.abstractmethod
    def write(self, points: Block, predicted: Block) -> None:
        """Append a block: the parameters' values by name, and what was predicted."""

    @abc.abstractmethod
    def close(self) -> None:
        """Write what is left."""


@contextmanager
def table(file: Path, emulator: Emulator, names: list[str], num: int) -> Iterator[Table]:
    """Open a table of `num` points, which has its name only once it is complete."""
    partial = file.with_name(f".{file.name}.partial")
    kinds: dict[str, Any] = {".csv": Csv, ".nc": NetCdf}
    try:
        opened: Table = kinds[file.suffix](partial, emulator, names, num)
        try:
            yield opened
        finally:
            opened.close()
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


class Csv(Table):
    """Columns: the parameters, each value of each output with its coordinates, the errors alike, and `inside`."""

    def __init__(self, file: Path, emulator: Emulator, names: list[str], num: int) -> None:
        self._file, self._names = file.open("w"), names
        columns = [*emulator.space.names, *(column for name in names for column in _columns(name, emulator.layout))]
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(columns)
        self._file.write(line.getvalue())
        exact = set(emulator.space.names)  # so that rows can be joined with those of the points' own table
        kinds = ["%d" if name == INSIDE else "%r" if name in exact else "%.10g" for name in columns]
        self._format = ",".join(kinds) + "\n"

    def write(self, points: Block, predicted: Block) -> None:
        """Append lines."""
        parts = [*points.values(), *(predicted[name] for name in self._names)]
        rows = np.concatenate([np.asarray(part, float).reshape(len(part), -1) for part in parts], axis=1)
        # One format for the whole block takes a third of the time of one for each line.
        self._file.write(self._format * len(rows) % tuple(rows.ravel().tolist()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _columns(name: str, layout: Layout) -> list[str]:
    if name == INSIDE:
        return [name]
    output = layout.outputs[output_of(name, layout)]
    places = product(*(output.coords[dim].tolist() for dim in output.dims))
    label = " ".join(f"{dim}={{}}" for dim in output.dims)
    return [f"{name}[{label.format(*map(_shortest, place))}]" if output.dims else name for place in places]


def _shortest(value: float) -> str:
    """Write a coordinate shortly, but never so that two have one name."""
    return short if float(short := f"{value:.10g}") == value else repr(value)


class NetCdf(Table):
    """Variables: the parameters along `point`; outputs and errors along it and their own dimensions; `inside`."""

    def __init__(self, file: Path, emulator: Emulator, names: list[str], num: int) -> None:
        self._file, self._at = h5netcdf.File(file, "w"), 0
        layout, parameters = emulator.layout, emulator.space.names
        places = {dim: values for each in emulator.coordinates.values() for dim, values in each.items()}
        self._file.dimensions = {POINT: num} | {dim: len(values) for dim, values in places.items()}
        for name in (*places, *parameters, *names):
            dims = (name,) if name in places else (POINT,) if name in parameters else dims_of(name, layout)
            variable = self._file.create_variable(name, dims, np.int8 if name == INSIDE else np.float64)
            if unit := emulator.units.get(output_of(name, layout)):
                variable.attrs["units"] = unit
            if name in names:
                variable.attrs["coordinates"] = " ".join(parameters)
        for dim, values in places.items():
            self._file[dim][:] = values

    def write(self, points: Block, predicted: Block) -> None:
        """Write a stretch along `point`."""
        rows = slice(self._at, self._at + len(predicted[INSIDE]))
        for name, values in (points | dict(predicted)).items():  # type: ignore[operator]
            self._file[name][rows] = values
        self._at = rows.stop

    def close(self) -> None:
        """Close the file."""
        self._file.close()
