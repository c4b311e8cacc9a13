"""What the columns of a table are: parameters, outputs at their coordinates, what a run is called, how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from jaxtyping import Float

from simfer.stages.artifacts.arrays import DERIVATIVES
from simfer.stages.emulator.labels import ERROR, INSIDE, SCATTER
from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.model.outputs import Output
from simfer.stages.model.space import Space
from simfer.stages.model.units import contradict
from simfer.stages.settings import RunTable
from simfer.stages.simulate.finished.file import RunFile

RUN, STATUS = "run", "status"
_OURS = {"z", "num_steps", "attempt", INSIDE}  # beside rows that Simfer has written, and no outputs
_PLACE = re.compile(r"(.+)\[([^\[\]=]+=[^\[\]]+)\]")  # yeast[time=3]
_LOGARITHMS = {"log10": 10.0, "log": np.e}


@dataclass(frozen=True)
class Source:
    """Where an output's values are: in one column of its shape, or in a column for each place of it."""

    columns: Sequence[str]
    output: Output
    order: Sequence[np.ndarray] = ()  # along each axis, so that coordinates increase
    base: float = 0.0  # of the logarithm that the file holds

    def values(self, read: Mapping[str, np.ndarray]) -> Float[np.ndarray, "rows ..."]:
        """Put an output together from columns."""
        if (len(self.columns) == 1 and self.output.dims == ()) or self.order:
            values = read[self.columns[0]]
            for axis, order in enumerate(self.order, 1):
                values = np.take(values, order, axis=axis)
        else:
            values = np.stack([read[name] for name in self.columns], axis=1).reshape(-1, *self.output.shape)
        return np.power(self.base, values) if self.base else values


@dataclass
class Columns:
    """The part that each column of a table has."""

    parameters: dict[str, str]  # name -> column
    fixed: dict[str, str]
    run: str | None
    status: str | None
    outputs: dict[str, Source] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, file: RunFile, table: RunTable, space: Space, needs_parameters: bool = True) -> Columns:
        """Tell columns apart; raise ConfigError with everything that cannot be told."""
        return _Assignment(file, table, space, needs_parameters).done()


class _Assignment:
    def __init__(self, file: RunFile, table: RunTable, space: Space, needs_parameters: bool) -> None:
        self.needs_parameters = needs_parameters
        self.file, self.table, self.space, self.mistakes = file, table, space, list[Mistake]()
        self.free = dict(file.columns)  # that have no part yet

    def done(self) -> Columns:
        found = Columns(self._parameters(), self._fixed(), self._named(RUN), self._named(STATUS))
        found.left_out = self._left_out()
        for name in self._own_outputs():
            self._mapped(found, name)
        self._others(found)
        self._refuse_unknown(found)
        if not found.outputs and not self.mistakes:
            self._complain("", f"there are no outputs: all columns are parameters ({', '.join(self.file.columns)})")
        if self.mistakes:
            raise ConfigError(self.mistakes)
        return found

    def _complain(self, key: str, what: str) -> None:
        where = f"simulate.table.{key}" if key else "simulate.table"
        self.mistakes.append(Mistake(where, what if key else f"{self.file.path.name}: {what}"))

    def _refuse_unknown(self, found: Columns) -> None:
        """Refuse a unit or a scale of what there is not: what was meant would go without it."""
        dims = [dim for each in found.outputs.values() for dim in each.output.dims]
        measured = [*found.outputs, *dims, *self.space.names, *self.space.fixed]
        for key, known in (("units", measured), ("scale", list(found.outputs))):
            for name in getattr(self.table, key):
                if name not in known and not self.mistakes:
                    what = f"there is no such {'output' if key == 'scale' else 'output, coordinate or parameter'}"
                    hint = did_you_mean(name, known) or f" (there is {_some(known)})"
                    self._complain(f"{key}.{name}", f"{what}.{hint}")

    def _column(self, name: str) -> str:
        mapped = self.table.columns.get(name, name)
        return mapped if isinstance(mapped, str) else mapped[0]

    def _parameters(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if not self.needs_parameters and not any(self._column(name) in self.free for name in self.space.names):
            return found
        for name in self.space.names:
            column = self._column(name)
            if column not in self.free:
                hint = did_you_mean(column, self.file.columns) or f" (its columns: {_some(self.file.columns)})"
                what = f"there is no column for the parameter {name}.{hint} `columns` says what it is called there"
                if not self.file.columns.keys() & set(map(self._column, self.space.names)):
                    what += "; if another file has the parameters of each run, name both in `files`"
                self._complain("", what)
                continue
            kind = self.free.pop(column)
            unit, own = self._unit(name, kind.unit), self.space.priors[name].unit
            if kind.is_text or kind.sizes:
                self._complain("", f"the column {column} of the parameter {name} does not hold a number of each run")
            if contradict(unit, own):
                what = f'got {name} in "{unit}", and its prior is in "{own}"; write the prior in "{unit}"'
                self._complain("", f"{what}, or mend simulate.table.units.{name} if the runs are in {own}")
            found[name] = column
        return found

    def _fixed(self) -> dict[str, str]:
        found = {name: self._column(name) for name in self.space.fixed if self._column(name) in self.free}
        for column in found.values():
            self.free.pop(column)
        return found

    def _named(self, what: str) -> str | None:
        column = self._column(what)
        if what in self.table.columns and column not in self.free:
            self._complain(f"columns.{what}", f"there is no column {column}.{did_you_mean(column, self.free)}")
        return column if self.free.pop(column, None) is not None else None

    def _left_out(self) -> list[str]:
        ours = {name + end for name in self.free for end in (ERROR, SCATTER, DERIVATIVES)}
        ours |= {f"{m[1]}{end}[{m[2]}]" for n in self.free if (m := _PLACE.fullmatch(n)) for end in (ERROR, SCATTER)}
        left = [name for name in self.free if name in ours | _OURS]
        for pattern in self.table.ignore:
            fits = [name for name in self.free if fnmatchcase(name, pattern) or name == pattern]
            if not fits:
                self._complain(
                    "ignore", f'got "{pattern}", and no column is so called.{did_you_mean(pattern, self.free)}'
                )
            left += fits
        for name in left:
            self.free.pop(name, None)
        return list(dict.fromkeys(left))

    def _own_outputs(self) -> list[str]:
        """Return the outputs that the config maps."""
        known = {*self.space.names, *self.space.fixed, RUN, STATUS}
        return [name for name in self.table.columns if name not in known]

    def _mapped(self, found: Columns, name: str) -> None:
        given = self.table.columns[name]
        if isinstance(given, str) and given in self.free:
            self._whole(found, name, given)
        elif isinstance(given, list):
            if missing := [column for column in given if column not in self.free]:
                hint = did_you_mean(missing[0], self.free)
                return self._complain(f"columns.{name}", f"there is no column {missing[0]}.{hint}")
            dim, places = self._axis(name, len(given))
            self._placed(found, name, (dim,), {(float(at),): c for at, c in zip(places, given, strict=True)})
        else:
            self._fitting(found, name, given)
        return None

    def _fitting(self, found: Columns, name: str, pattern: str) -> None:
        """Gather the columns that fit a pattern, such as T_{depth}, into one output."""
        dims = re.findall(r"\{(\w+)\}", pattern)
        if not dims and "*" not in pattern:
            hint = did_you_mean(pattern, self.free) or f" (there is {_some(self.free)})"
            return self._complain(f"columns.{name}", f"there is no column {pattern}.{hint}")
        parts = re.split(r"\{\w+\}|\*", pattern)
        fits = re.compile("(.+?)".join(map(re.escape, parts)))
        matched = {column: m.groups() for column in self.free if (m := fits.fullmatch(column))}
        if not matched:
            return self._complain(f"columns.{name}", f'no column fits "{pattern}" (there is {_some(self.free)})')
        dims = dims or [f"{name}_index"]
        try:
            places = {tuple(map(float, at)): column for column, at in matched.items()}
        except ValueError:
            if len(dims) > 1:
                return self._complain(
                    f"columns.{name}", f'"{pattern}" fits {_some(matched)}, where not all are numbers'
                )
            dim, numbers = self._axis(name, len(matched), dims[0])
            if len(numbers) != len(matched):
                what = f'got {len(numbers)} numbers for {len(matched)} columns that fit "{pattern}"'
                return self._complain(f"coordinates.{dim}", what)
            dims, places = [dim], {(float(at),): c for at, c in zip(numbers, matched, strict=True)}
        return self._placed(found, name, tuple(dims), places)

    def _axis(self, name: str, size: int, dim: str = "") -> tuple[str, np.ndarray]:
        """Return an axis that the files do not name: the config's own of that length, or one that counts from 1."""
        known = {d: self._places(d) for d in self.table.coordinates}
        if dim in known:
            return dim, known[dim]
        fits = [d for d, at in known.items() if len(at) == size]
        if not dim and len(fits) == 1:
            return fits[0], known[fits[0]]
        return dim or f"{name}_index", np.arange(1.0, size + 1.0)

    def _places(self, dim: str) -> np.ndarray:
        given = self.table.coordinates[dim]
        if not isinstance(given, str):
            return np.asarray(given, float)
        if given in self.file.others:
            return np.asarray(self.file.others[given], float)
        if given in self.file.columns or any(given in c.dims for c in self.file.columns.values()):
            return np.zeros(0)  # of a file in long format, which knows
        hint = did_you_mean(given, self.file.others)
        self._complain(f"coordinates.{dim}", f'there is no array "{given}" that could be it.{hint}')
        return np.zeros(0)

    def _whole(self, found: Columns, name: str, column: str) -> None:
        """Take a column as an output, of whatever shape it is."""
        kind = self.free.pop(column)
        if kind.is_text:
            what = f'the column "{column}" holds text; name it in simulate.table.ignore if it is no output'
            return self._complain("", what)
        dims, coords, order = [], {}, []
        for dim, size in zip(kind.dims, kind.sizes, strict=True):
            at = kind.coords.get(dim)
            if not dim or at is None or dim in self.table.coordinates:
                given, places = self._axis(name, size, dim)
                dim, at = given, at if at is not None and not len(places) else places
            if len(at) != size or len(np.unique(at)) < size or not np.isfinite(at).all():
                return self._complain(
                    f"coordinates.{dim}",
                    f"got {len(at)} for {size} values of {name}, expected as many different numbers",
                )
            order.append(np.argsort(at))
            dims.append(dim)
            coords[dim] = np.asarray(at, float)[order[-1]]
        self._put(found, name, [column], Output(tuple(dims), coords, self._unit(name, kind.unit)), order)
        return None

    def _placed(
        self, found: Columns, name: str, dims: tuple[str, ...], places: Mapping[tuple[float, ...], str]
    ) -> None:
        """Take columns as the places of one output."""
        coords = {dim: np.unique([at[i] for at in places]) for i, dim in enumerate(dims)}
        grid = np.stack(np.meshgrid(*coords.values(), indexing="ij"), axis=-1).reshape(-1, len(dims))
        columns = [places.get(tuple(at.tolist())) for at in grid]
        if None in columns:
            at = ", ".join(f"{dim}={value:g}" for dim, value in zip(dims, grid[columns.index(None)], strict=True))
            return self._complain("", f"there is no column {name}[{at}], which a full grid of {name} would have")
        unit = self._unit(name, next((self.free[c].unit for c in places.values() if self.free[c].unit), ""))
        for column in places.values():
            if self.free.pop(column).is_text:
                self._complain("", f'the column "{column}" holds text, expected numbers')
        self._put(found, name, [c for c in columns if c is not None], Output(dims, coords, unit))
        return None

    def _unit(self, name: str, unit: str) -> str:
        return self.table.units.get(name, unit)

    def _put(
        self, found: Columns, name: str, columns: Sequence[str], output: Output, order: Sequence[np.ndarray] = ()
    ) -> None:
        base = _LOGARITHMS.get(self.table.scale.get(name, ""), 0.0)
        found.outputs[name] = Source(columns, output, order, base)

    def _others(self, found: Columns) -> None:
        """Take every column that is left as an output, those that name a place together."""
        series: dict[str, dict[tuple[float, ...], str]] = {}
        dims: dict[str, tuple[str, ...]] = {}
        for column in list(self.free):
            place = _place(column)
            if place is None:
                self._whole(found, column, column)
                continue
            name, at = place
            if dims.setdefault(name, tuple(at)) != tuple(at):
                self._complain("", f'got "{column}", and {name} along {", ".join(dims[name])} in other columns')
            series.setdefault(name, {})[tuple(at.values())] = column
        for name, places in series.items():
            self._placed(found, name, dims[name], places)


def _place(column: str) -> tuple[str, dict[str, float]] | None:
    """Read a column's name as an output at a place: yeast[time=3], T[x=1 y=2]."""
    if (found := _PLACE.fullmatch(column)) is None:
        return None
    parts = [part.split("=") for part in re.split(r"[,;\s]+", found[2].strip())]
    try:
        return found[1].strip(), {dim.strip(): float(value) for dim, value in parts}
    except ValueError:
        return None


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:8]) + (f", and {len(listed) - 8} more" if len(listed) > 8 else "")
