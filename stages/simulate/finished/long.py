"""Runs of several lines each, one for each place along coordinates such as time; a file may be a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from jaxtyping import Float

from simfer.stages.simulate.finished.file import Column, RunFile

_BLOCK = 65536  # lines that are looked at together
_LOOK = 50  # runs that say what changes within one


class Long(RunFile):
    """A file in long format as one whose rows are runs; the lines of a run stand together, all places in each."""

    def __init__(self, file: RunFile, run: str, coordinates: Collection[str] = ()) -> None:
        super().__init__(file.path)
        self._file, self._run = file, run
        self._lines = self._count()
        self.num = file.num // self._lines
        first = self._first_runs()
        self._dims = list(coordinates) or self._coordinates(first)
        self._coords = {dim: np.unique(first[dim][0]) for dim in self._dims}
        sizes = tuple(map(len, self._coords.values()))
        if np.prod(sizes) != self._lines:
            many = " x ".join(f"{len(at)} of {dim}" for dim, at in self._coords.items())
            self.refuse(f"got {self._lines} lines of each run, expected one for each place: {many}")
        self.coordinate_units = {dim: file.columns[dim].unit for dim in self._dims if file.columns[dim].unit}
        series = Column(tuple(self._dims), self._coords, sizes)
        for name, column in file.columns.items():
            if name not in self._dims:
                changes = name in first and not (first[name] == first[name][:, :1]).all()
                self.columns[name] = replace(series, unit=column.unit) if changes else column

    def _count(self) -> int:
        """Return how many lines a run has; all must have as many, and stand together."""
        lengths, seen = [], set()
        for run, lines in groupby(self._runs()):
            lengths.append(sum(1 for _ in lines))
            if run in seen:
                self.refuse(f"the lines of run {run} do not stand together; sort the file by {self._run}")
            seen.add(run)
            if lengths[-1] != lengths[0]:
                what = f"got {lengths[-1]} lines of run {run}, and {lengths[0]} of the first one; expected as many of"
                self.refuse(f"{what} each (an empty cell is a missing output)")
        return lengths[0]

    def _runs(self) -> Iterator[str]:
        for start in range(0, self._file.num, _BLOCK):
            stop = min(start + _BLOCK, self._file.num)
            yield from self._file.read(start, stop, (), [self._run])[self._run]

    def _first_runs(self) -> dict[str, Float[np.ndarray, "runs lines"]]:
        count = min(self.num, _LOOK)
        names = [name for name, column in self._file.columns.items() if not column.is_text and name != self._run]
        read = self._file.read(0, count * self._lines, names)
        return {name: values.reshape(count, self._lines) for name, values in read.items()}

    def _coordinates(self, first: dict[str, np.ndarray]) -> list[str]:
        """Return the columns that go through the same values, no others, in every run."""
        if self.num < 2:
            self.refuse("got a single run of several lines; say in simulate.table.coordinates what runs along them")
        same = [n for n, v in first.items() if np.ptp(v[0]) > 0 and (np.sort(v, axis=1) == np.sort(v[0])).all()]
        alone = [name for name in same if len(np.unique(first[name][0])) == self._lines]
        found = alone[:1] or same
        if not found:
            self.refuse(
                "got several lines of each run, and no column that is the same in all of them, as time would be"
            )
        return found

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs; what runs along coordinates in the order of these."""
        lines, count = self._lines, stop - start
        numbers = list(dict.fromkeys([*self._dims, *names]))
        read = self._file.read(start * lines, stop * lines, numbers, texts)
        rows = {name: values.reshape(count, lines) for name, values in read.items()}
        order = self._order(start, rows)
        return {name: self._of_run(name, rows[name], order, start) for name in (*names, *texts)}

    def _order(self, start: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """Return which line of each run is at each place."""
        at = np.zeros(rows[self._dims[0]].shape, int)
        for dim in self._dims:
            coordinate = self._coords[dim]
            place = np.minimum(np.searchsorted(coordinate, rows[dim]), len(coordinate) - 1)
            if (wrong := (coordinate[place] != rows[dim]).any(axis=1)).any():
                what = f"got another {dim} than in the first run; expected every run at the same places"
                self.refuse(what, start + int(wrong.argmax()))
            at = at * len(coordinate) + place
        order = np.argsort(at, axis=1, kind="stable")
        if (wrong := (np.sort(at, axis=1) != np.arange(self._lines)).any(axis=1)).any():
            self.refuse("got a place twice in one run", start + int(wrong.argmax()))
        return order

    def _of_run(self, name: str, values: np.ndarray, order: np.ndarray, start: int) -> np.ndarray:
        column = self.columns[name]
        if column.dims:
            return np.take_along_axis(values, order, axis=1).reshape(len(values), *column.sizes)
        same = (values == values[:, :1]) | (values != values)
        if not same.all():
            self.refuse(f"{name} changes within the run", start + int((~same).any(axis=1).argmax()))
        return np.asarray(values[:, 0])

    def place(self, row: int) -> str:
        """Say where a run begins."""
        return self._file.place(row * self._lines)


def is_long(file: RunFile, run: str) -> bool:
    """Say whether runs have several lines: whether the first two are of one run."""
    if run not in file.columns or file.num < 2:
        return False
    first, second = file.read(0, 2, (), [run])[run]
    return bool(first == second)
