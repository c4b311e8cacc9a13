"""Runs as text: a line of names, then a line for each run; commas, semicolons, tabs, blanks, decimal commas.

A file may be larger than memory: where its lines begin is noted once, and then any of them can be read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simfer.stages.simulate.finished.file import Column, RunFile

_STRIDE = 256  # lines between two places that are noted
_LOOK = 200  # lines that say what is a number and what a text
_SEPARATORS = ";", "\t", "|", ","  # the first that fits; a comma last, since it may be a decimal one
_MISSING = ["", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", ".", "-", "--", "null", "NULL", "None", "#N/A",
            "#VALUE!"]  # fmt: skip
_MISSING += ["*" * count for count in range(1, 33)]  # what Fortran writes of a number that has no room
# As exact as Python's own: so by default since pandas 3, which warns where it is asked for.
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if int(pd.__version__.split(".")[0]) < 3 else {}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_BRACKETED = re.compile(r"\[(.*)\]|\((.*)\)")  # as units often are


class _Dialect(NamedTuple):
    """How a file writes its cells."""

    separator: str  # " ": any blanks
    decimal: str
    names: list[str]
    first: int  # lines up to the first run
    units: list[str]  # of a line below the names; none where there is no such line


class Text(RunFile):
    """A file of delimited text."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._content = _in_utf_8(path)  # of a file in another encoding
        self._dialect = self._look()
        self._places, self._lines = self._index()
        self.num = self._lines
        if not self.num:
            self.refuse("got no runs below the line of names")
        self.columns = self._kinds()

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs."""
        frame = self._frame(b"".join(self._read_lines(start, stop)), [*names, *texts], texts)
        written = {name: frame[name].fillna("").to_numpy(object) for name in texts}
        return {name: self._numbers(frame, name, start) for name in names} | written

    def place(self, row: int) -> str:
        """Say which line a run is."""
        offset, line = self._places[row // _STRIDE]
        with self._open() as file:
            file.seek(offset)
            numbers = (n for n, text in enumerate(file, line) if _says_something(text))
            return f"{self.path.name}, line {next(islice(numbers, row % _STRIDE, None))}"

    def _open(self) -> io.BufferedIOBase | io.BytesIO:
        return self.path.open("rb") if self._content is None else io.BytesIO(self._content)

    def _look(self) -> _Dialect:
        with self._open() as file:
            lines = [line.decode("utf-8", "replace") for line in islice(file, 100)]
        if lines:
            lines[0] = lines[0].removeprefix("\ufeff")
        said = [(n, line) for n, line in enumerate(lines) if _says_something(line.encode())]
        if len(said) < 2:
            self.refuse("got no runs, expected a line of names and a line for each run")
        (at, header), (first, data), below = said[0], said[1], ""
        if _is_numeric(header):  # NumPy's savetxt writes the names behind a #
            above = [line.lstrip("# ") for line in lines[:at] if line.lstrip().startswith("#")]
            if not above:
                self.refuse("line 1 holds numbers, expected the names of the columns above them")
            if len(above) > 1 and _are_bracketed(above[-1], above[-2], header):
                below = above.pop()
            (first, data), header = said[0], above[-1]
        elif len(said) > 2 and _are_units(data, said[2][1]):
            below, (first, data) = data, said[2]
        header = header.lstrip("%")  # as Dakota has it
        for separator in (*_SEPARATORS, " "):
            names, cells = _split(header, separator), _split(data, separator)
            if len(cells) == len(names) + 1 and len(names) > 1:  # R leaves the name of its first column out
                names = ["", *names]
            if len(names) == len(cells) and (len(names) > 1 or separator == " "):
                break
        else:
            self.refuse(f"line {first + 1}: got other cells than names; expected one for each of {header.strip()[:80]}")
        others = [_split(line, separator) for n, line in said if n >= first]
        comma = separator != "," and any(_DECIMAL_COMMA.fullmatch(cell) for line in others for cell in line)
        units = [_unit(cell) for cell in _split(below, separator)] if below else []
        return _Dialect(separator, "," if comma else ".", self._named(names), first, units)

    def _named(self, names: list[str]) -> list[str]:
        names = [name.strip() for name in names]
        for name in names:
            if name and names.count(name) > 1:
                self.refuse(f'the column "{name}" is there more than once')
        return [name or f"Unnamed: {i}" for i, name in enumerate(names)]

    def _index(self) -> tuple[list[tuple[int, int]], int]:
        """Note where every so many runs begin, and on which line; count them."""
        places, runs, offset, separator = [], 0, 0, self._dialect.separator.encode()
        expected = len(self._dialect.names) - 1
        with self._open() as file:
            for number, line in enumerate(file, 1):
                if number > self._dialect.first and _says_something(line):
                    if runs % _STRIDE == 0:
                        places.append((offset, number))
                    runs += 1
                    got = line.count(separator) if separator != b" " else len(line.split()) - 1
                    if got != expected and b'"' not in line:
                        what = f"got {got + 1} cells, expected {expected + 1}"
                        self.refuse(f"line {number}: {what}, one for each name in the first line")
                offset += len(line)
        return places, runs

    def _read_lines(self, start: int, stop: int) -> Iterator[bytes]:
        offset, _ = self._places[start // _STRIDE]
        with self._open() as file:
            file.seek(offset)
            lines = (line if line.endswith(b"\n") else line + b"\n" for line in file if _says_something(line))
            yield from islice(lines, start % _STRIDE, start % _STRIDE + stop - start)

    def _frame(self, content: bytes, names: Sequence[str], texts: Sequence[str] = ()) -> pd.DataFrame:
        how = self._dialect
        return pd.read_csv(
            io.BytesIO(content),
            sep=r"\s+" if how.separator == " " else how.separator,
            header=None,
            names=how.names,
            usecols=list(names),
            index_col=False,
            decimal=how.decimal,
            na_values=_MISSING,
            keep_default_na=False,
            skipinitialspace=True,
            **_EXACT,
            dtype=dict.fromkeys(texts, "object"),
            low_memory=False,
        )

    def _kinds(self) -> dict[str, Column]:
        """Tell texts from numbers by the first runs; columns without a name, or with nothing in them, are left out."""
        frame = self._frame(b"".join(self._read_lines(0, min(_LOOK, self.num))), self._dialect.names)
        names = self._dialect.names
        units = dict(zip(names, self._dialect.units, strict=False)) if len(names) == len(self._dialect.units) else {}
        kinds = {}
        for name in names:
            cells = [
                cell for cell in frame[name].dropna() if _number(str(cell).replace(self._dialect.decimal, ".")) is None
            ]
            if not name.startswith("Unnamed: "):
                is_text = len(cells) > 0.5 * frame[name].notna().sum()
                kinds[name] = Column(is_text=is_text, unit=units.get(name, ""))
        return kinds

    def _numbers(self, frame: pd.DataFrame, name: str, start: int) -> np.ndarray:
        column = frame[name]
        if column.dtype.kind in "biuf":
            return column.to_numpy(float)
        numbers = np.full(len(column), np.nan)
        for i, cell in enumerate(column):
            if not isinstance(cell, float):
                if self._dialect.decimal == "," and _THOUSANDS.fullmatch(str(cell).strip()):
                    what = f'got "{cell}" for {name}, where decimals follow a comma'
                    self.refuse(f"{what}: it may be of thousands or not; write it without the point", start + i)
                number = _number(str(cell).replace(self._dialect.decimal, "."))
                if number is None:
                    units = "" if start + i else "; if this is a line of units, write each in brackets, as [1/h]"
                    self.refuse(f'got "{cell}" for {name}, expected a number or an empty cell{units}', start + i)
                numbers[i] = number
            else:
                numbers[i] = cell
        return numbers


def _says_something(line: bytes) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(b"#")


def _separator(*lines: str) -> str | None:
    """Return what separates as many cells in each of some lines; None where nothing does."""
    for separator in (*_SEPARATORS, " "):
        counts = {len(_split(line, separator)) for line in lines}
        if len(counts) == 1 and (counts != {1} or separator == " "):
            return separator
    return None


def _are_units(line: str, data: str) -> bool:
    """Say whether a line between names and numbers holds units; in doubt it is a run, which is not to be lost."""
    if (separator := _separator(line, data)) is None:
        return False
    cells = zip(_split(line, separator), _split(data, separator), strict=True)
    said = [(cell, below) for cell, below in cells if not _is_empty(cell)]
    bare = [(cell, below) for cell, below in said if not _BRACKETED.fullmatch(cell)]
    if not all(_is_empty(below) or _counts(below) for _, below in bare):
        return False  # a text has no unit: it is what a run is called, and the run failed
    numbers = {cell for cell, _ in bare if _counts(cell)}
    clear = any(("/" in cell or "^" in cell) and not cell.startswith("#") for cell, _ in said)  # not as #DIV/0! is
    over_a_number = any(_counts(below) and not _is_empty(below) for _, below in said)
    return over_a_number and (not numbers or (numbers == {"1"} and clear))


def _are_bracketed(line: str, names: str, data: str) -> bool:
    """Say whether a line holds units in brackets, one for each name above and each number below."""
    if (separator := _separator(line, data)) is None:
        return False
    cells = _split(line, separator)
    return all(map(_BRACKETED.fullmatch, cells)) and len(_split(names, separator)) == len(cells)


def _counts(cell: str) -> bool:
    """Say whether a cell is a number, be it with a decimal comma or marks of thousands."""
    return _number(cell) is not None or _number(re.sub("[.,]", "", cell)) is not None


def _is_empty(cell: str) -> bool:
    return cell in _MISSING


def _unit(cell: str) -> str:
    bare = _BRACKETED.fullmatch(cell)
    unit = (bare[1] or bare[2] or "") if bare else cell
    return "" if _is_empty(unit) or unit == "1" else unit


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return [
        cell.strip() for cell in next(csv.reader([line.rstrip("\r\n")], delimiter=separator, skipinitialspace=True))
    ]


def _is_numeric(line: str) -> bool:
    return all(_number(cell) is not None for cell in re.split(r"[;,|\s]+", line.strip().strip(";,|")))


def _number(cell: str) -> float | None:
    """Read a number, Fortran's 1.0D+00 and 0.12-100 too."""
    cell = cell.strip().replace("D", "E").replace("d", "e")
    if (short := re.fullmatch(r"([+-]?\d*\.\d*)([+-]\d+)", cell)) is not None:
        cell = f"{short[1]}E{short[2]}"
    try:
        return float(cell)
    except ValueError:
        return None


def _in_utf_8(path: Path) -> bytes | None:
    """Return the content of a file that begins as one in UTF-16 does; None of any other."""
    with path.open("rb") as file:
        mark = file.read(2)
    return path.read_text("utf-16").encode() if mark in (b"\xff\xfe", b"\xfe\xff") else None
