"""Data of which a bound alone is known: below a limit of detection, above the end of a scale, after the last visit."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.model.table import Complaints, Table
from simfer.stages.settings import Source

_BOUND = re.compile(r"(<=|>=|<|>|≤|≥)\s*(.+)")
_SIGNS = {"<": -1, "<=": -2, "≤": -2, ">": 1, ">=": 2, "≥": 2}
_FLAGS = {
    **dict.fromkeys(("", "0", "none", "no", "false"), 0),
    **dict.fromkeys(("1", "left", "below", "<", "yes", "true"), -1),
    **dict.fromkeys(("-1", "right", "above", ">"), 1),
}


class Limits(NamedTuple):
    """Below and above what a datum is censored; infinite where it would not be."""

    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]


def split_bounds(table: Table, column: str) -> tuple[Table, Int[np.ndarray, " rows"]]:
    """Take the sign off cells such as `<0.5`; return which had one: -1 for below, 1 above, twice that for <=, >=."""
    signed = [_BOUND.fullmatch(cell) for cell in table.columns[column]]
    side = np.array([0 if found is None else _SIGNS[found[1]] for found in signed], int)
    cells = [cell if found is None else found[2] for cell, found in zip(table.columns[column], signed, strict=True)]
    return Table(table.file, table.columns | {column: cells}, table.lines), side


def beyond(values: Float[np.ndarray, " rows"], side: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Return bounds so that a datum lies strictly beyond each: of `<= 5`, a count, that is next above 5."""
    moved = np.where(side == -2, np.nextafter(values, np.inf), values)
    return np.where(side == 2, np.nextafter(values, -np.inf), moved)


def flagged(
    output: str, table: Table, side: Int[np.ndarray, " rows"], source: Source, complaints: Complaints
) -> Int[np.ndarray, " rows"]:
    """Return which data are censored, by a column of flags where the config names one."""
    column = source.censored.get(output)
    if column is None:
        return side
    if column not in table.columns:
        complaints.say(f'got no column "{column}", which {complaints.place}.censored.{output} names')
        return side
    cells = [re.sub(r"\.0*$", "", cell.lower()) for cell in table.columns[column]]
    strange = [(line, cell) for line, cell in zip(table.lines, cells, strict=True) if cell not in _FLAGS]
    complaints.cells(column, strange, "expected 1 (below the number beside it), -1 (above), or 0")
    return np.where(side != 0, side, [_FLAGS.get(cell, 0) for cell in cells])


def bounds_of(values: Float[np.ndarray, " n"], side: Int[np.ndarray, " n"]) -> Limits:
    """Return where each datum would have been censored: a censored one at its bound, another at the output's own limit.

    That limit is the lowest of those that data lie below, the highest of those that they lie above: of a datum that was
    measured, nobody knows more.
    """
    least, most = values[side < 0].min(initial=np.inf), values[side > 0].max(initial=-np.inf)
    lower = np.where(side < 0, values, least if np.isfinite(least) else -np.inf)
    upper = np.where(side > 0, values, most if np.isfinite(most) else np.inf)
    return Limits(
        np.where(side == 0, np.minimum(lower, values), lower), np.where(side == 0, np.maximum(upper, values), upper)
    )
