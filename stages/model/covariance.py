"""Covariances of data, from files: of one output's in their order, or of several outputs' by a header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.observation import Data
from simfer.stages.model.outputs import Layout
from simfer.stages.model.places import match
from simfer.stages.model.table import Complaints, Table, numbers, read_table
from simfer.stages.settings import MultivariateNormalNoise, Noise, Source

_NAMES = "output"  # the column that says of which output a row is


class Joint(NamedTuple):
    """Data that scatter together, of one output or of several, by a file whose header says which row is which."""

    names: tuple[str, ...]
    matrix: Float[np.ndarray, "n n"]
    """Output after output, each in the order of its data."""
    said: str
    """Which rows of the file these are, in words."""

    def of(self, name: str, data: Data) -> Float[np.ndarray, "m m"]:
        """Return the covariance of one output's data among themselves."""
        sizes = [len(data.series[each].values) for each in self.names]
        start = sum(sizes[: self.names.index(name)])
        at = slice(start, start + len(data.series[name].values))
        return self.matrix[at, at]


def joint_covariance(noise: MultivariateNormalNoise, size: int) -> Float[np.ndarray, "n n"]:
    """Return the covariance of data whose common offset is integrated over; raise ConfigError where it is none.

    An offset ~ Normal(0, offset_scale) that all of them share adds its variance to every element (Bishop 2006,
    equation 2.115).
    """
    matrix, variance = read_covariance(noise.covariance, size), (noise.offset_scale or 0.0) ** 2
    most = np.sqrt(1e12 * np.linalg.eigvalsh(matrix).min() / size)
    if variance > most**2:  # the rest would be lost to rounding, in the factors of the sum
        what = f"got {noise.offset_scale:g}, expected at most {most:.2g}; far less is as good as flat"
        raise ConfigError([Mistake("noise: offset_scale", what)])
    return matrix + variance


def read_covariance(file: str, size: int) -> Float[np.ndarray, "n n"]:
    """Read a covariance matrix from a CSV file of numbers; raise ConfigError where it is none."""

    def refuse(what: str) -> ConfigError:
        return ConfigError([Mistake("noise", f"covariance file {Path(file).name}: {what}")])

    try:
        matrix = np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError as error:
        raise refuse(f"cannot be read as numbers: {error}") from error
    if matrix.shape != (size, size):
        raise refuse(
            f"got {matrix.shape[0]} x {matrix.shape[1]} numbers, expected {size} x {size}, a row for each datum; data "
            "of several outputs, or in another order, need a header: output, the coordinates, a name for each row"
        )
    if not _is_covariance(matrix):
        raise refuse("expected a matrix that is symmetric and positive definite")
    return matrix


def _is_covariance(matrix: Float[np.ndarray, "n n"]) -> bool:
    return np.allclose(matrix, matrix.T, rtol=1e-8, atol=0) and bool(np.linalg.eigvalsh(matrix).min() > 0)


def has_header(file: str) -> bool:
    """Say whether a covariance's file begins with words, and not with numbers."""
    with Path(file).open(encoding="utf-8-sig", errors="replace") as text:
        first = text.readline()
    return any(cell.strip() and not _is_number(cell) for cell in first.replace(";", ",").replace("\t", ",").split(","))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def joints(noise: Mapping[str, Noise], data: Data, layout: Layout) -> list[Joint]:
    """Return the covariances of data whose files have a header; raise ConfigError where these do not fit the data.

    Outputs whose noise names the same file scatter together. A row is a datum's by its output and its coordinates; of
    data that have these in common, replicates, the first row is the first one's.
    """
    files: dict[str, list[str]] = {}
    for name in data.series:
        own = noise.get(name)
        if isinstance(own, MultivariateNormalNoise) and has_header(own.covariance):
            files.setdefault(own.covariance, []).append(name)
    mistakes: list[Mistake] = []
    for names in files.values():
        offsets = [name for name in names if getattr(noise[name], "offset_scale", None) is not None]
        if offsets and len(names) > 1:
            what = "is of one output alone; add its square to the elements of the covariance that it is common to"
            mistakes.append(Mistake(f"noise.{offsets[0]}.offset_scale", what))
    found = [joint for file, names in files.items() if (joint := _read(file, names, data, layout, mistakes))]
    if mistakes:
        raise ConfigError(mistakes)
    return [_with_offset(joint, noise[joint.names[0]]) for joint in found]


def _with_offset(joint: Joint, noise: Noise) -> Joint:
    scale = getattr(noise, "offset_scale", None) or 0.0
    return joint._replace(matrix=joint.matrix + scale**2)


def _read(file: str, names: list[str], data: Data, layout: Layout, mistakes: list[Mistake]) -> Joint | None:
    source = Source(file=file)
    complaints = Complaints(f"noise.{names[0]}.covariance", file, mistakes)
    before = complaints.count
    table = read_table(source, complaints)
    if table is None:
        return None
    dims = list(dict.fromkeys(dim for name in names for dim in layout.outputs[name].dims))
    labels = [column for column in table.columns if column in (_NAMES, *dims)]
    if lacking := [c for c in (*([_NAMES] if len(names) > 1 else []), *dims) if c not in labels]:
        what = f'got no column "{lacking[0]}"; expected a header of {", ".join([_NAMES, *dims])}, then a name a row'
        complaints.say(what)
        return None
    columns = [column for column in table.columns if column not in labels]
    if len(columns) != len(table.lines):
        what = f"got {len(columns)} columns of numbers and {len(table.lines)} rows, expected as many of either"
        complaints.say(f"{what} (beside the columns {', '.join(labels)})")
        return None
    matrix = np.stack([numbers(table, column, source, complaints) for column in columns], axis=1)
    rows = [_rows_of(name, table, source, data, layout, complaints) for name in names]
    if complaints.count > before:
        return None
    if not np.isfinite(matrix).all() or not _is_covariance(matrix):
        complaints.say("expected a matrix that is symmetric and positive definite, columns in the order of rows")
        return None
    at = np.concatenate(rows)
    of = " and ".join(names) if len(names) < 3 else ", ".join(names)
    said = f"{len(at)} rows are data of {of} by {' and '.join(labels)}"
    said += f"; {len(matrix) - len(at)} of {len(matrix)} are of no datum" if len(at) < len(matrix) else ""
    return Joint(tuple(names), matrix[np.ix_(at, at)], said)


def _rows_of(
    name: str, table: Table, source: Source, data: Data, layout: Layout, complaints: Complaints
) -> Int[np.ndarray, " n"]:
    """Return the row of each of an output's data."""
    told = table.columns.get(_NAMES, [name] * len(table.lines))
    rows = np.flatnonzero([cell == name for cell in told])
    own = Table(table.file, {column: [cells[i] for i in rows] for column, cells in table.columns.items()},
                [table.lines[i] for i in rows])  # fmt: skip
    output, wanted = layout.outputs[name], data.series[name].index
    places = match(name, output, own, source, np.ones(len(rows), bool), complaints)
    if places is None:
        return np.zeros(0, int)
    of_place: dict[int, list[int]] = {}
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        of_place.setdefault(place, []).append(row)
    for place, count in Counter(wanted.tolist()).items():
        if (there := len(of_place.get(place, []))) < count:
            at = np.unravel_index(place, output.shape) if output.dims else ()
            where = ", ".join(f"{dim} = {output.coords[dim][i]:g}" for dim, i in zip(output.dims, at, strict=True))
            complaints.say(f"got {there or 'no'} rows of {name}{f' at {where}' if where else ''}, expected {count}")
            return np.zeros(0, int)
    return np.array([of_place[place].pop(0) for place in wanted.tolist()], int)
