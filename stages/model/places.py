"""Where data lie: coordinates of a file beside those of the simulator, as exactly as the file shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from jaxtyping import Bool, Float, Int

from simfer.stages.model.outputs import Output
from simfer.stages.model.table import DAY_FIRST, Complaints, Table, numbers
from simfer.stages.settings import Source
from simfer.stages.settings.observation import Dates

_ROUNDING = 1e-9  # of the largest coordinate: what arithmetic leaves
_SHARE = 0.05  # of the gap to the next coordinate: what a file may have rounded away
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0, "year": 31557600.0}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?")


def match(
    name: str, output: Output, table: Table, source: Source, present: Bool[np.ndarray, " rows"], complaints: Complaints
) -> Int[np.ndarray, " data"] | None:
    """Return where the data that are present lie in an output's flattened array; None where that was refused."""
    places = []
    for dim in output.dims:
        given, half = _coordinates(table, dim, source, complaints)
        coordinate = np.asarray(output.coords[dim], float)
        found = _nearest(dim, coordinate, given[present], half[present])
        if isinstance(found, str):
            complaints.column(name, found)
            return None
        places.append(found)
    if not output.dims:
        return np.zeros(present.sum(), int)
    return np.asarray(np.ravel_multi_index(tuple(places), output.shape))


def _coordinates(
    table: Table, dim: str, source: Source, complaints: Complaints
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Return a column's coordinates, and half a unit of the last digit that each shows."""
    cells = table.columns[dim]
    if source.dates is not None:
        cells = [_since(cell, source.dates) for cell in cells]
        table = Table(table.file, table.columns | {dim: cells}, table.lines)
    return numbers(table, dim, source, complaints), np.array([_half_unit(cell) for cell in cells])


def _since(cell: str, dates: Dates) -> str:
    """Return a date, 2020-03-01 or 1.3.2020, as the number that it is; what is none stays as it is."""
    date = cell
    if (day_first := DAY_FIRST.fullmatch(cell)) is not None:
        day, month, year, time = day_first.groups()
        date = f"{year}-{int(month):02}-{int(day):02}" + (f" {time}" if time else "")
    if not _DATE.fullmatch(date):
        return cell
    try:
        span = datetime.fromisoformat(date.removesuffix("Z")) - dates.origin
    except ValueError:  # the 31st of February, which is said as what is no number is
        return cell
    return repr(span.total_seconds() / _SECONDS[dates.unit])


def _half_unit(cell: str) -> float:
    """Return half a unit of the last decimal that a number shows; zero of one without decimals, which is exact."""
    digits, _, power = cell.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.5 * 10.0 ** (int(power or 0) - decimals) if decimals else 0.0


def _nearest(
    dim: str, coordinate: Float[np.ndarray, " m"], given: np.ndarray, half: np.ndarray
) -> Int[np.ndarray, " data"] | str:
    """Return which of a simulator's coordinates each given one is, or what is wrong."""
    if np.isnan(given).any():
        return f'the coordinate "{dim}" is missing (empty) beside a datum'
    order = np.argsort(coordinate)
    ranked = coordinate[order]
    after = np.clip(np.searchsorted(ranked, given), 1, max(len(ranked) - 1, 1))
    before, after = after - 1, np.minimum(after, len(ranked) - 1)
    nearest = np.where(np.abs(given - ranked[before]) <= np.abs(ranked[after] - given), before, after)
    gaps = np.diff(ranked, prepend=-np.inf, append=np.inf)
    gap = np.minimum(gaps[nearest], gaps[nearest + 1])
    exact = _ROUNDING * max(float(np.abs(coordinate).max()), 1e-300)
    # The file's own rounding, where it cannot mean a neighbour; 1.0000001 for the half of a unit itself.
    rounded = np.minimum(1.0000001 * half, _SHARE * gap)
    off = np.abs(given - ranked[nearest]) > np.maximum(exact, np.where(np.isfinite(gap), rounded, 0.0))
    if off.any():
        got = _listed(given[off]) + (", ..." if off.sum() > 4 else "")
        near = _listed(ranked[nearest[off]])
        return f"got {dim} = {got}, where the simulator gives no output (nearest: {near}); see simulate.options"
    return order[nearest]


def _listed(values: Sequence[float] | np.ndarray) -> str:
    """Write numbers with as many digits as tell them from all others."""
    return ", ".join(repr(float(value)).removesuffix(".0") for value in values[:4])
