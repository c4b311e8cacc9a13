"""The data as a model of one's own has them: every column of the file by its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.infer.own_model.named import Named
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.places import match
from simfer.stages.model.table import Complaints, Table, numbers, read_table
from simfer.stages.settings import Observation, Source

INDEX = "_index"  # what follows a coordinate's name where it says which of the simulator's each row has


def read_columns(observation: Observation, layout: Layout) -> Named:
    """Read the data; raise ConfigError with everything that is wrong with them.

    Returns:
        An array of numbers by the name of its column, NaN where a cell is empty. Where a column has the name of a
        simulator's coordinate, its values are looked up there: `time_index` says which of them each row has. Columns of
        further files are in a table by the file's name.
    """
    mistakes: list[Mistake] = []
    data: dict[str, Any] = {}
    for place, source in observation.sources.items():
        complaints = Complaints(place, str(source.file), mistakes)
        table = read_table(source, complaints)
        columns = _columns(source, table, layout, complaints) if table else {}
        key = place.partition(".")[2]
        data |= {key: Named(f'data["{key}"]', columns)} if key else columns
    if mistakes:
        raise ConfigError(mistakes)
    return Named("data", data)


def _columns(source: Source, table: Table, layout: Layout, complaints: Complaints) -> dict[str, np.ndarray]:
    own = {name: here for here, name in source.columns.items()}
    named = {own.get(name, name): cells for name, cells in table.columns.items() if name not in source.ignore}
    table = Table(table.file, named, table.lines)
    found: dict[str, np.ndarray] = {}
    for name in named:
        if (axis := _axis(source.prefix + name, layout)) is None:
            found[name] = numbers(table, name, source, complaints, measured=True)
            continue
        renamed = Table(table.file, {source.prefix + name: named[name]}, table.lines)
        index = match(name, axis, renamed, source, np.ones(len(table.lines), bool), complaints)
        if index is not None:
            found |= {name: np.asarray(axis.coords[axis.dims[0]], float)[index], name + INDEX: index}
    return found


def _axis(name: str, layout: Layout) -> Output | None:
    """Return a coordinate of the simulator as an output of its own; None where there is none of that name."""
    for output in layout.outputs.values():
        if name in output.dims:
            return Output((name,), {name: output.coords[name]})
    return None
