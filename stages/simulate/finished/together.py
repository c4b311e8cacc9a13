"""Several files as one: runs below one another, or what belongs to the same runs side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from simfer.stages.model.units import contradict
from simfer.stages.simulate.finished.file import Column, RunFile, refuse

_GAP = 64  # rows between two that are read rather than skipped
_BLOCK = 65536


class Stacked(RunFile):
    """Files with the same columns, one below the other."""

    def __init__(self, files: Sequence[RunFile]) -> None:
        super().__init__(files[0].path)
        self._files, self.columns = list(files), files[0].columns
        self.others, self.coordinate_units = files[0].others, files[0].coordinate_units
        self._starts = np.cumsum([0, *(file.num for file in files)])
        self.num = int(self._starts[-1])
        self._refuse_other_units()

    def _refuse_other_units(self) -> None:
        told: dict[str, tuple[str, str]] = {}
        for file in self._files:
            units = {name: column.unit for name, column in file.columns.items()} | dict(file.coordinate_units)
            for name, unit in units.items():
                of, other = told.get(name, ("", ""))
                if contradict(other, unit):
                    what = f'got {name} in "{other}" in {of}, and in "{unit}" in {file.path.name}'
                    refuse(f"{what}; expected one unit in files of the same columns: convert one of them")
                if unit:
                    told.setdefault(name, (file.path.name, unit))

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs, from whichever files they are in."""
        parts = []
        for file, at in zip(self._files, self._starts, strict=False):
            a, b = max(start - at, 0), min(stop - at, file.num)
            if a < b:
                parts.append(file.read(int(a), int(b), names, texts))
        return {name: np.concatenate([part[name] for part in parts]) for name in (*names, *texts)}

    def place(self, row: int) -> str:
        """Say in which file a run is, and where."""
        at = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[at].place(row - int(self._starts[at]))

    def runs_by_name(self) -> list[str] | None:
        """Return the run that each file's name gives, as out_17.csv does; None where names do not say it."""
        return self._names() if self.num == len(self._files) else None

    def _names(self) -> list[str] | None:
        parts = [re.split(r"(\d+)", str(file.path)) for file in self._files]
        if len({len(each) for each in parts}) > 1:
            return None
        varied = [i for i, each in enumerate(zip(*parts, strict=True)) if len(set(each)) > 1]
        # A folder and a file may both be named by the run: out_17/result_17.csv.
        numbers = {tuple(each[i] for each in parts) for i in varied}
        return _plain(numbers.pop()) if len(numbers) == 1 and varied[0] % 2 else None

    def of_a_run_each(self, run: str) -> Named | None:
        """Return the files with a column of their runs, where each has several lines, and its name says which run."""
        names = self._names() if all(file.num > 1 for file in self._files) else None
        if names is None:
            return None
        order = sorted(range(len(names)), key=lambda i: int(names[i]))
        return Named([self._files[i] for i in order], run, [names[i] for i in order])


class Named(Stacked):
    """Files of several lines, each of one run, with a column of the runs that their names give."""

    def __init__(self, files: Sequence[RunFile], run: str, runs: Sequence[str]) -> None:
        super().__init__(files)
        self.runs = list(runs)
        self._run, self._runs = run, np.repeat(np.array(runs, object), [file.num for file in files])
        self.columns = {run: Column(is_text=True), **self.columns}

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some lines, what their run is called among them."""
        found = super().read(start, stop, names, [name for name in texts if name != self._run])
        return found | ({self._run: self._runs[start:stop]} if self._run in texts else {})


class Joined(RunFile):
    """Files that hold different columns of the same runs, matched by a column `run`, or row by row without one.

    The first has the parameters; a run of it that another file lacks has no outputs there. Where it alone has a column
    `run`, and the others are a file for each run, the numbers in these files' names are the runs.
    """

    def __init__(self, files: Sequence[RunFile], run: str) -> None:
        super().__init__(files[0].path)
        self._files, self.num = list(files), files[0].num
        by_run = [run in files[0].columns and run in file.columns for file in files[1:]]
        self._rows = [self._matched(file, run) if by else self._in_order(file, run)
                      for file, by in zip(files[1:], by_run, strict=True)]  # fmt: skip
        for file in files:
            if twice := (self.columns.keys() & file.columns.keys()) - {run}:
                refuse(f"{self.path.name} and {file.path.name} both have {', '.join(sorted(twice))}")
            self.columns |= {name: c for name, c in file.columns.items() if name != run or file is files[0]}
            self.others = {**self.others, **file.others}
            self.coordinate_units = {**self.coordinate_units, **file.coordinate_units}

    def _in_order(self, file: RunFile, run: str) -> np.ndarray:
        """Return where each run is by the name of its file; row by row where that says nothing."""
        named = file.runs_by_name() if isinstance(file, Stacked) else None
        if named is not None and run in self._files[0].columns:
            ids = ids_of(self._files[0], run)
            if all(each.isdecimal() for each in ids):
                return self._places(ids, named, file)
        if file.num != self.num:
            what = f"got {self.num} runs in {self.path.name} and {file.num} in {file.path.name}"
            how = "a column `run` in both by which they are matched, or the number of its run in each file's name"
            refuse(f"{what}, expected as many, or {how}")
        return np.arange(self.num)

    def _matched(self, file: RunFile, run: str) -> np.ndarray:
        """Return where each run of the first file is in another; -1 where it is not."""
        return self._places(ids_of(self._files[0], run), ids_of(file, run), file)

    def _places(self, ids: list[str], others: list[str], file: RunFile) -> np.ndarray:
        for each, which in ((ids, self.path), (others, file.path)):
            if len(set(each)) < len(each):
                twice = next(name for name in each if each.count(name) > 1)
                refuse(f"{which.name}: run {twice} is there more than once")
        at = {name: i for i, name in enumerate(others)}
        if unknown := at.keys() - set(ids):
            refuse(f"{file.path.name}: run {sorted(unknown)[0]} has no parameters in {self.path.name}")
        return np.array([at.get(name, -1) for name in ids])

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs, from the files that have them."""
        first = self._files[0]
        read = first.read(start, stop, *([n for n in some if n in first.columns] for some in (names, texts)))
        for file, rows in zip(self._files[1:], self._rows, strict=True):
            own = [[n for n in some if n in file.columns and n not in first.columns] for some in (names, texts)]
            if any(own):
                read |= _gather(file, rows[start:stop], *own)
        return read

    def place(self, row: int) -> str:
        """Say where a run's parameters stand."""
        return self._files[0].place(row)


def ids_of(file: RunFile, run: str) -> list[str]:
    """Return what each run of a file is called."""
    starts = range(0, file.num, _BLOCK)
    return _plain([i for a in starts for i in file.read(a, min(a + _BLOCK, file.num), (), [run])[run]])


def _plain(ids: Sequence[str]) -> list[str]:
    """Return what runs are called; numbers without the zeros that fill them up, 0017 and 17 being one run."""
    return [str(int(each)) for each in ids] if all(str(each).isdecimal() for each in ids) else list(ids)


def _gather(file: RunFile, rows: np.ndarray, names: Sequence[str], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Read rows in any order, stretch by stretch; those that are not there (-1) are missing."""
    there = np.unique(rows[rows >= 0])
    out: dict[str, np.ndarray] = {n: np.full((len(rows), *file.columns[n].sizes), np.nan) for n in names}
    out |= {name: np.full(len(rows), "", object) for name in texts}
    if not len(there):
        return out
    for stretch in np.split(there, np.flatnonzero(np.diff(there) > _GAP) + 1):
        a, b = int(stretch[0]), int(stretch[-1]) + 1
        at = np.flatnonzero((rows >= a) & (rows < b))
        for name, values in file.read(a, b, names, texts).items():
            out[name][at] = values[rows[at] - a]
    return out
