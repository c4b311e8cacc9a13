"""The data: a CSV file of coordinates and outputs, matched to the places where the simulator gives them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.outputs import Layout, Output


@dataclass(frozen=True)
class Series:
    """The data of one output: values, and where each lies in the output's flattened array."""

    values: Float[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]


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


def read(file: str, layout: Layout) -> Data:
    """Read observations; raise ConfigError with everything that is wrong with them."""
    mistakes: list[Mistake] = []
    columns = _columns(file, mistakes)
    if not mistakes:
        data = _match(columns, layout, mistakes)
        if not mistakes:
            return data
    raise ConfigError(mistakes)


def _columns(file: str, mistakes: list[Mistake]) -> dict[str, Float[np.ndarray, " rows"]]:
    def complain(what: str) -> None:
        mistakes.append(Mistake("observation.file", f"{Path(file).name}: {what}"))

    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            lines = [(n, row) for n, row in enumerate(csv.reader(_uncommented(stream)), 1) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        complain(f"cannot be read as CSV: {error}")
        return {}
    if len(lines) < 2:
        complain("no data; expected a line of column names and at least one row")
        return {}
    names = [name.strip() for name in lines[0][1]]
    if len(set(names)) < len(names) or "" in names:
        complain(f"got column names {names}, expected each to be there once and none empty")
    table = np.full((len(lines) - 1, len(names)), np.nan)
    for i, (line, row) in enumerate(lines[1:]):
        if len(row) != len(names):
            complain(f"line {line}: got {len(row)} cells, expected {len(names)} ({', '.join(names)})")
            continue
        for j, cell in enumerate(row):
            try:
                table[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError:
                complain(f'line {line}, column {names[j]}: got "{cell}", expected a number or an empty cell')
            else:
                if np.isinf(table[i, j]) or cell.strip().lower() == "nan":
                    complain(f'line {line}, column {names[j]}: got "{cell.strip()}", expected a finite number')
    return dict(zip(names, table.T, strict=True))


def _uncommented(stream: object) -> list[str]:
    # A commented line is left in as an empty one, so that the numbers in messages are those of the file.
    return ["\n" if line.lstrip().startswith("#") else line for line in stream]  # type: ignore[attr-defined]


def _match(columns: dict[str, np.ndarray], layout: Layout, mistakes: list[Mistake]) -> Data:
    where = "observation.file"
    dims = {dim for output in layout.outputs.values() for dim in output.dims}
    for name in columns:
        if name not in layout.outputs and name not in dims:
            known = f"outputs {', '.join(layout.outputs)}" + (
                f"; coordinates {', '.join(sorted(dims))}" if dims else ""
            )
            mistakes.append(Mistake(where, f'got column "{name}", which the simulator does not produce ({known})'))
    observed = [name for name in columns if name in layout.outputs]
    if not observed:
        mistakes.append(Mistake(where, f"got no column of an output; expected at least one of {list(layout.outputs)}"))
    series = {}
    for name in observed:
        found = _series(name, layout.outputs[name], columns, mistakes)
        if found is not None:
            series[name] = found
    return Data(series)


def _series(name: str, output: Output, columns: dict[str, np.ndarray], mistakes: list[Mistake]) -> Series | None:
    where = f"observation.file: column {name}"
    lacking = [dim for dim in output.dims if dim not in columns]
    if lacking:
        mistakes.append(Mistake(where, f'needs a column of its coordinate "{lacking[0]}" beside it'))
        return None
    present = ~np.isnan(columns[name])
    if not present.any():
        mistakes.append(Mistake(where, "every cell is empty"))
        return None
    places = [_places(where, dim, output.coords[dim], columns[dim][present], mistakes) for dim in output.dims]
    if any(place is None for place in places):
        return None
    if not output.dims:
        return Series(columns[name][present], np.zeros(present.sum(), int))
    index = np.asarray(np.ravel_multi_index(places, output.shape))  # type: ignore[arg-type]
    if len(np.unique(index)) < len(index):
        mistakes.append(Mistake(where, "two rows have the same coordinates; give one datum for each"))
    return Series(columns[name][present], index)


def _places(
    where: str, dim: str, coordinate: np.ndarray, given: np.ndarray, mistakes: list[Mistake]
) -> np.ndarray | None:
    if np.isnan(given).any():
        mistakes.append(Mistake(where, f'the coordinate "{dim}" is missing (empty) beside a datum'))
        return None
    coordinate = np.asarray(coordinate, float)
    nearest = np.abs(given[:, None] - coordinate[None, :]).argmin(axis=1)
    tolerance = 1e-9 * max(float(np.abs(coordinate).max()), 1e-300)
    off = np.abs(given - coordinate[nearest]) > tolerance
    if off.any():
        got = ", ".join(f"{value:g}" for value in given[off][:4]) + (", ..." if off.sum() > 4 else "")
        near = ", ".join(f"{value:g}" for value in coordinate[nearest[off]][:4])
        mistakes.append(
            Mistake(
                where, f"got {dim} = {got}, where the simulator gives no output (nearest: {near}); see simulate.options"
            )
        )
        return None
    return nearest
