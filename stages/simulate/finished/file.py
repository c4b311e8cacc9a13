"""What a file of runs is to whoever reads it: named columns, and rows of them by number."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from simfer.stages.errors import ConfigError, Mistake


@dataclass(frozen=True)
class Column:
    """What one column holds of each run: a number, an array along named axes, or a text."""

    dims: tuple[str, ...] = ()
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)  # those that the file knows
    sizes: tuple[int, ...] = ()
    unit: str = ""
    is_text: bool = False


class RunFile(abc.ABC):
    """A file of runs, opened. Reading takes no state: several threads may read at once."""

    columns: dict[str, Column]
    num: int
    others: Mapping[str, np.ndarray]  # arrays that are of no run, such as coordinates
    coordinate_units: Mapping[str, str]

    def __init__(self, path: Path) -> None:
        self.path, self.columns, self.num, self.others, self.coordinate_units = path, {}, 0, {}, {}

    @abc.abstractmethod
    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of the runs from `start` to `stop`: `names` as float64, `texts` as what stands there."""

    def place(self, row: int) -> str:
        """Say where a run stands, for a message."""
        return f"{self.path.name}, run {row + 1}"

    def refuse(self, what: str, row: int | None = None) -> NoReturn:
        """Say what is wrong with the file."""
        refuse(f"{self.path.name if row is None else self.place(row)}: {what}")


def refuse(what: str) -> NoReturn:
    """Say what is wrong with a table."""
    raise ConfigError([Mistake("simulate.table", what)])
