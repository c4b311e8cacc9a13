"""Points in parameter space from a CSV file, block by block: the file may be larger than memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simfer.stages.errors import Mistake, UsageError, did_you_mean
from simfer.stages.model.space import Space


class Points:
    """A CSV file whose first line names the parameters, in any order, and whose others are points."""

    def __init__(self, file: Path, space: Space) -> None:
        self.file, self.space = file, space
        try:
            with file.open(encoding="utf-8-sig") as text:
                lines = _lines(text)
                self.first, line = next(lines, (1, ""))
                self.header = [name.strip() for name in next(csv.reader([line]), [])]
                self.num = sum(1 for _ in lines)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _mistake(f"{file} cannot be read: {error}; expected a CSV file in UTF-8") from error
        self._check_header()
        if not self.num:
            raise _mistake(f"{file} has no points below the parameters' names")

    def blocks(self, size: int) -> Iterator[Float[np.ndarray, "n size"]]:
        """Yield the points, their columns in the order of the space's names, at most `size` at a time."""
        with self.file.open(encoding="utf-8-sig") as text:
            lines = islice(_lines(text), 1, None)
            while block := list(islice(lines, size)):
                yield self._numbers(block)

    def _check_header(self) -> None:
        known = [*self.space.names, *self.space.fixed]
        if not any(name in known for name in self.header):
            raise _mistake(
                f"{self.file}, line {self.first}: got {', '.join(self.header)[:80] or 'nothing'}, expected the "
                f"parameters' names, with commas between: {','.join(self.space.names)}"
            )
        for name in self.header:
            if name not in known:
                hint = did_you_mean(name, known) or f" The parameters are {', '.join(known)}."
                raise _mistake(f'{self.file}, line {self.first}: got the column "{name}".{hint}')
            if self.header.count(name) > 1:
                raise _mistake(f'{self.file}, line {self.first}: the column "{name}" is there more than once')
        if missing := [name for name in self.space.names if name not in self.header]:
            raise _mistake(f"{self.file}, line {self.first}: no column for {', '.join(missing)}")

    def _numbers(self, block: Sequence[tuple[int, str]]) -> Float[np.ndarray, "n size"]:
        try:
            rows = np.loadtxt([line for _, line in block], delimiter=",", ndmin=2, comments=None, quotechar='"')
        except ValueError:
            rows = np.empty((0, 0))
        if rows.shape != (len(block), len(self.header)) or not np.isfinite(rows).all():
            rows = np.asarray([self._row(number, line) for number, line in block])
        for name, value in self.space.fixed.items():
            if name in self.header and (wrong := rows[:, self.header.index(name)] != value).any():
                number = block[int(wrong.argmax())][0]
                raise _mistake(f"{self.file}, line {number}: {name} was fixed at {value} when the emulator was trained")
        return rows[:, [self.header.index(name) for name in self.space.names]]

    def _row(self, number: int, line: str) -> list[float]:
        """Read a line by itself, to say what is wrong with it."""
        try:
            cells = next(csv.reader([line]))
        except csv.Error as error:
            raise _mistake(f"{self.file}, line {number}: {error}") from None
        if len(cells) != len(self.header):
            raise _mistake(f"{self.file}, line {number}: got {len(cells)} cells, expected {len(self.header)}")
        return [self._cell(number, name, cell.strip()) for name, cell in zip(self.header, cells, strict=True)]

    def _cell(self, number: int, name: str, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            got = f'"{cell}"' if cell else "an empty cell"
            raise _mistake(f"{self.file}, line {number}: got {got} for {name}, expected a finite number")
        return value


def _lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    return ((number, line) for number, line in enumerate(text, 1) if line.strip() and not line.startswith("#"))


def _mistake(text: str) -> UsageError:
    place, _, what = text.partition(": ")
    return UsageError([Mistake(place, what)])
