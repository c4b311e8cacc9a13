"""The data: CSV files of coordinates and outputs, matched to the places where the simulator gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.model.censored import Limits, beyond, bounds_of, flagged, split_bounds
from simfer.stages.model.outputs import Layout
from simfer.stages.model.places import match
from simfer.stages.model.table import Complaints, Table, numbers, read_table
from simfer.stages.settings import Observation, Source


@dataclass(frozen=True)
class Series:
    """The data of one output: values, and where each lies in the output's flattened array.

    Several may lie in one place (replicates). A censored one's value is the bound that it lies beyond.
    """

    values: Float[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]
    columns: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    """What the noise takes from other columns."""
    side: Int[np.ndarray, " n"] | None = None
    """-1 where a datum lies below its value, 1 above; None where none is censored."""

    @property
    def limits(self) -> Limits | None:
        """Below and above what each datum would have been censored; None where none is."""
        return None if self.side is None else bounds_of(self.values, self.side)


@dataclass(frozen=True)
class Data:
    """The data of every observed output, by name."""

    series: Mapping[str, Series]

    def index(self, layout: Layout) -> Int[np.ndarray, " n"]:
        """Return where every datum lies in the flat vector of all outputs."""
        return np.concatenate([layout.slices[name].start + s.index for name, s in self.series.items()])

    @property
    def values(self) -> Float[np.ndarray, " n"]:
        """Every datum, output after output."""
        return np.concatenate([s.values for s in self.series.values()])

    @property
    def slices(self) -> dict[str, slice]:
        """Where each output's data lie in `values`."""
        ends = np.cumsum([len(s.values) for s in self.series.values()]).tolist()
        return {name: slice(e - len(s.values), e) for e, (name, s) in zip(ends, self.series.items(), strict=True)}


def read(observation: Observation, layout: Layout, needed: Mapping[str, Sequence[str]] = {}) -> Data:
    """Read observations; raise ConfigError with everything that is wrong with them.

    Args:
        observation: The files, and how they are read.
        layout: The simulator's outputs.
        needed: By output, columns that its noise names.
    """
    mistakes: list[Mistake] = []
    series: dict[str, Series] = {}
    for place, source in observation.sources.items():
        complaints = Complaints(place, str(source.file), mistakes)
        table = read_table(source, complaints)
        before = len(mistakes)
        for name, found in (_Reader(source, table, layout, needed, complaints).series() if table else {}).items():
            if len(mistakes) == before:
                series[name] = _joined(series[name], found) if name in series else found
    if mistakes:
        raise ConfigError(mistakes)
    return Data(series)


def _joined(first: Series, second: Series) -> Series:
    """Return one output's data of two files: one after the other, data of the same place replicates."""
    sides = [np.zeros(len(s.values), int) if s.side is None else s.side for s in (first, second)]
    columns = {name: np.concatenate([first.columns[name], second.columns[name]]) for name in first.columns}
    whole = np.concatenate([first.values, second.values]), np.concatenate([first.index, second.index])
    return Series(*whole, columns, np.concatenate(sides) if any(side.any() for side in sides) else None)


class _Reader:
    """One file's columns, by the simulator's names, as series of data."""

    def __init__(
        self,
        source: Source,
        table: Table,
        layout: Layout,
        needed: Mapping[str, Sequence[str]],
        complaints: Complaints,
    ) -> None:
        own = {name: here for here, name in source.columns.items()}
        prefix, known = source.prefix, {*layout.outputs, *(dim for o in layout.outputs.values() for dim in o.dims)}
        named = {name: own.get(name, name) for name in table.columns}
        named = {name: prefix + here if prefix + here in known else here for name, here in named.items()}
        columns = {named[name]: cells for name, cells in table.columns.items()}
        self.table, self.source = Table(table.file, columns, table.lines), source
        self.layout, self.complaints = layout, complaints
        self.dims = {dim for output in layout.outputs.values() for dim in output.dims}
        self.needed = needed
        self.lost = [here for name, here in own.items() if name not in table.columns]

    def series(self) -> dict[str, Series]:
        """Return the data by output; what is wrong is said."""
        for name in (self.source.columns[here] for here in self.lost):
            self.complaints.say(f'got no column "{name}", which {self.complaints.place}.columns names')
        long = self.source.long
        if long is not None:
            return self._of_long(long.name, long.value)
        rows = np.ones(len(self.table.lines), bool)
        extra = {name for names in self.needed.values() for name in names} | set(self.source.censored.values())
        self._refuse_unknown([name for name in self.table.columns if name not in extra])
        observed = [name for name in self.table.columns if name in self.layout.outputs]
        if not observed:
            self._say_none()
        found = {name: self._series(name, name, rows) for name in observed}
        return {name: series for name, series in found.items() if series is not None}

    def _of_long(self, names: str, value: str) -> dict[str, Series]:
        lacking = [name for name in (names, value) if name not in self.table.columns]
        if lacking:
            self.complaints.say(f"got no column {lacking[0]}, which {self.complaints.place}.long names")
            return {}
        own = {name: here for here, name in self.source.columns.items()}
        told = np.array([self.source.prefix + own.get(cell, cell) for cell in self.table.columns[names]])
        ignored = np.isin(told, self.source.ignore)
        self._refuse_unknown(
            [name for name in dict.fromkeys(told[~ignored].tolist()) if name not in self.layout.outputs]
        )
        observed = [name for name in dict.fromkeys(told[~ignored].tolist()) if name in self.layout.outputs]
        if not observed:
            self._say_none()
        found = {name: self._series(name, value, told == name) for name in observed}
        return {name: series for name, series in found.items() if series is not None}

    def _say_none(self) -> None:
        self.complaints.say(f"got no column of an output; expected at least one of {list(self.layout.outputs)}")

    def _refuse_unknown(self, names: Iterable[str]) -> None:
        known = [*self.layout.outputs, *sorted(self.dims)]
        unknown = [name for name in names if name not in known and name not in self.source.ignore]
        if not unknown:
            return
        what = f"outputs {', '.join(self.layout.outputs)}"
        what += f"; coordinates {', '.join(sorted(self.dims))}" if self.dims else ""
        got = ", ".join(f'"{name}"' for name in unknown)
        hint = "".join(dict.fromkeys(_meant(name, known) for name in unknown))
        columns = "column" if len(unknown) == 1 else "columns"
        self.complaints.say(
            f"got {columns} {got}, which the simulator does not produce ({what}).{hint} If it is no data, say "
            f"{self.complaints.place}.ignore = [{got}]"
        )

    def _series(self, name: str, column: str, rows: Bool[np.ndarray, " rows"]) -> Series | None:
        """Return the data of an output, in a column and in some of the rows."""
        output, complaints = self.layout.outputs[name], self.complaints
        if lacking := [dim for dim in output.dims if dim not in self.table.columns]:
            complaints.column(name, f'needs a column of its coordinate "{lacking[0]}" beside it')
            return None
        if lacking := [other for other in self.needed.get(name, ()) if other not in self.table.columns]:
            known = ", ".join(self.table.columns)
            what = f'its noise names "{lacking[0]}": no column of the file ({known}), and none of [noise_parameters].'
            complaints.column(name, what + did_you_mean(lacking[0], list(self.table.columns)))
            return None
        table, side = split_bounds(self._rows(column, rows), column)
        before = complaints.count
        values = beyond(numbers(table, column, self.source, complaints, measured=True), side)
        side = np.sign(flagged(name, table, side, self.source, complaints))
        present = ~np.isnan(values)
        if not present.any():
            if complaints.count == before:
                complaints.column(name, "every cell is empty")
            return None
        places = match(name, output, table, self.source, present, complaints)
        if places is None:
            return None
        columns = {other: numbers(table, other, self.source, self.complaints) for other in self.needed.get(name, ())}
        for other, numbers_there in columns.items():
            if np.isnan(numbers_there[present]).any():
                line = np.asarray(table.lines)[present & np.isnan(numbers_there)][0]
                complaints.column(name, f"line {line}: column {other}, which its noise needs, is empty beside a datum")
        columns = {other: value[present] for other, value in columns.items()}
        side = side[present]
        return Series(values[present], places, columns, side if side.any() else None)

    def _rows(self, column: str, rows: Bool[np.ndarray, " rows"]) -> Table:
        keep = np.flatnonzero(rows)
        columns = {name: [cells[i] for i in keep] for name, cells in self.table.columns.items()}
        return Table(self.table.file, columns, [self.table.lines[i] for i in keep])


def _meant(name: str, known: Sequence[str]) -> str:
    same = [each for each in known if each.lower() == name.strip().lower()]
    return f' Did you mean "{same[0]}"?' if same else did_you_mean(name, known)
