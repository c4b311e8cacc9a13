"""A CSV file as people have it: text of any usual kind becomes columns of cells, each with its line in the file."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simfer.stages.errors import Mistake
from simfer.stages.settings import Source

_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[<>=≤≥ ]*[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[<>=≤≥ ]*[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_MISSING = re.compile(r"[+-]?(nan|na|n/a|null|none|nd|n\.d\.|missing|\.|-+|\?)", re.IGNORECASE)
DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?", re.ASCII)  # 1.3.2020
_SENTINEL = re.compile(r"-?9{2,}(\.0*)?")
_FEW = 4  # lines or cells are named in a message up to here


@dataclass(frozen=True)
class Table:
    """Columns of cells, and the number of each row's line in the file."""

    file: str
    columns: dict[str, list[str]]
    lines: list[int]


class Complaints:
    """What is wrong with a file, one sentence for each kind of mistake."""

    def __init__(self, place: str, file: str, mistakes: list[Mistake]) -> None:
        self.place, self._file, self._mistakes = place, file, mistakes

    @property
    def count(self) -> int:
        """How many there are, of all files."""
        return len(self._mistakes)

    def say(self, what: str) -> None:
        """Add one."""
        self._mistakes.append(Mistake(f"{self.place}.file", f"{Path(self._file).name}: {what}"))

    def column(self, name: str, what: str) -> None:
        """Add one about an output's data."""
        self._mistakes.append(Mistake(f"{self.place}.file: column {name}", what))

    def cells(self, column: str, cells: Sequence[tuple[int, str]], expected: str) -> None:
        """Name the cells of a column that are not what was expected, the first few of them."""
        if len(cells) == 1:
            self.say(f'line {cells[0][0]}, column {column}: got "{cells[0][1]}", {expected}')
        elif cells:
            got = ", ".join(f'"{cell}" (line {line})' for line, cell in cells[:_FEW])
            more = f" and {len(cells) - _FEW:,} more" if len(cells) > _FEW else ""
            self.say(f"column {column}: got {got}{more}; {expected}")


def read_table(source: Source, complaints: Complaints) -> Table | None:
    """Read a file; None, and what is wrong said, where it is no table."""
    assert source.file is not None
    text = _text(source.file, source.encoding, complaints)
    if text is None:
        return None
    # A commented line is left in as an empty one, so that the numbers in messages are those of the file.
    lines = ["\n" if line.lstrip().startswith("#") else line for line in text.splitlines(keepends=True)]
    separator = source.separator or _separator(lines)
    try:
        rows = [(n, [cell.strip() for cell in row]) for n, row in _rows(lines, separator) if any(map(str.strip, row))]
    except csv.Error as error:
        complaints.say(f"cannot be read as CSV: {error}")
        return None
    if len(rows) < 2:
        complaints.say("no data; expected a line of column names and at least one row")
        return None
    return _columns(source, rows, separator, complaints)


def _text(file: str, encoding: str | None, complaints: Complaints) -> str | None:
    try:
        raw = Path(file).read_bytes()
        marked = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        return raw.decode(encoding or marked)
    except LookupError:
        complaints.say(f'no encoding is called "{encoding}"; such as "utf-8", "latin-1", "cp1252", "utf-16"')
    except UnicodeDecodeError as error:
        say = f'if it is text in another encoding, say it: {complaints.place}.encoding = "latin-1", say'
        complaints.say(f"cannot be read as CSV: not {error.encoding} ({error.reason} at byte {error.start}); {say}")
    except OSError as error:
        complaints.say(f"cannot be read as CSV: {error.strerror}")
    return None


def _rows(lines: Sequence[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    if separator == " ":
        return ((n, line.split()) for n, line in enumerate(lines, 1))
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return ((reader.line_num, row) for row in reader)


def _separator(lines: Sequence[str]) -> str:
    """Return what parts the header into the most cells; blanks where nothing else does, if they part all rows alike."""
    full = [line for line in lines if line.strip()]
    if not full:
        return ","
    widths = {mark: len(next(csv.reader([full[0]], delimiter=mark))) for mark in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda mark: widths[mark])
    by_blanks = {len(line.split()) for line in full}
    return " " if widths[best] == 1 and by_blanks not in ({1}, set()) and len(by_blanks) == 1 else best


def _columns(source: Source, rows: list[tuple[int, list[str]]], separator: str, complaints: Complaints) -> Table | None:
    (_, names), body = rows[0], rows[1:]
    body = [(line, _trimmed(row, len(names))) for line, row in body]
    while names and not names[-1] and all(len(row) < len(names) or not row[len(names) - 1] for _, row in body):
        names, body = names[:-1], [(line, row[: len(names) - 1]) for line, row in body]  # commas behind every line
    if names and not names[0] and _is_index([row[0] for _, row in body if row]):
        names, body = names[1:], [(line, row[1:]) for line, row in body]  # as pandas writes it
    if repeated := [line for line, row in body if row == names]:
        complaints.say(f"line {repeated[0]} repeats the header; remove it (or name two files: [observation.NAME])")
        return None
    if len(set(names)) < len(names) or "" in names:
        complaints.say(f"got column names {names}, expected each to be there once and none empty")
        return None
    if not _is_even(names, body, separator, complaints):
        return None
    columns = {name: [row[j] for _, row in body] for j, name in enumerate(names)}
    table = Table(str(source.file), columns, [line for line, _ in body])
    return _with_points(source, table, separator, complaints)


def _trimmed(row: list[str], width: int) -> list[str]:
    return row[:width] if len(row) > width and not any(row[width:]) else row


def _is_index(cells: Sequence[str]) -> bool:
    return bool(cells) and any(cells == [str(n + first) for n in range(len(cells))] for first in (0, 1))


def _is_even(names: list[str], body: Sequence[tuple[int, list[str]]], separator: str, complaints: Complaints) -> bool:
    odd = [(line, len(row)) for line, row in body if len(row) != len(names)]
    if not odd:
        return True
    line, got = odd[0]
    others = f" (and {len(odd) - 1:,} more lines like it)" if len(odd) > 1 else ""
    hint = "; are these decimal commas, or commas that part thousands?" if separator == "," and got > len(names) else ""
    complaints.say(f"line {line}: got {got} cells, expected {len(names)} ({', '.join(names)}){others}{hint}")
    return False


def _with_points(source: Source, table: Table, separator: str, complaints: Complaints) -> Table | None:
    """Return the table with decimal points where it has decimal commas; 1,234 alone may be either."""
    cells = [cell for column in table.columns.values() for cell in column]
    with_comma = [cell for cell in cells if _DECIMAL_COMMA.fullmatch(cell)]
    if source.decimal == "." or not with_comma:
        return table
    surely = separator != "," and any(len(re.split("[eE]", cell.partition(",")[2])[0]) != 3 for cell in with_comma)
    if source.decimal != "," and not surely:
        say = f'say which: {complaints.place}.decimal = "," for decimals; thousands are written without a comma'
        complaints.say(f'"{with_comma[0]}" may be a number with decimals or one of thousands; {say}')
        return None
    with_point = [(line, cell) for name, column in table.columns.items() if name not in source.ignore
                  for line, cell in zip(table.lines, column, strict=True) if _THOUSANDS.fullmatch(cell)]  # fmt: skip
    if with_point:  # what 1.045 is there, no error would ever tell
        line, cell = with_point[0]
        say = "write it without the point, with a comma if that is where its decimals begin"
        complaints.say(
            f'line {line}: got "{cell}", where decimals follow a comma: it may be of thousands or not; {say}'
        )
        return None
    points = {name: [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in column]
              for name, column in table.columns.items()}  # fmt: skip
    return Table(table.file, points, table.lines)


def numbers(
    table: Table, name: str, source: Source, complaints: Complaints, *, measured: bool = False
) -> Float[np.ndarray, " rows"]:
    """Read a column as numbers, NaN where a cell is empty, or stands for a missing datum.

    Of a `measured` one, -999 and its like are asked about.
    """
    cells, missing = table.columns[name], [word.strip() for word in source.missing or ()]
    values, strange = np.full(len(cells), np.nan), dict[str, list[tuple[int, str]]]()
    for i, cell in enumerate(cells):
        if not cell or _is_missing(cell, missing):
            continue
        if _NUMBER.fullmatch(cell):
            values[i] = float(cell)
            if np.isfinite(values[i]):
                continue
        strange.setdefault(_expected(cell, complaints.place), []).append((table.lines[i], cell))
    for expected, found in strange.items():
        complaints.cells(name, found, expected)
    if measured and source.missing is None:
        _ask_about_sentinels(table, name, values, complaints)
    return values


def _is_missing(cell: str, missing: Sequence[str]) -> bool:
    if cell in missing:
        return True
    return bool(_NUMBER.fullmatch(cell)) and any(
        _NUMBER.fullmatch(word) and float(word) == float(cell) for word in missing
    )


def _expected(cell: str, place: str) -> str:
    if _MISSING.fullmatch(cell):
        return f'expected a number or an empty cell; if it is a missing datum, say {place}.missing = ["{cell}"]'
    if re.fullmatch(r"[+-]?inf(inity)?", cell, re.IGNORECASE) or _NUMBER.fullmatch(cell):
        return "expected a finite number"
    if re.match(r"\d{4}-\d\d-\d\d", cell):
        return f'expected a number; if these are dates, say {place}.dates = {{ origin = {cell[:10]}, unit = "day" }}'
    if DAY_FIRST.fullmatch(cell):
        return f'expected a number; if these are dates, say {place}.dates = {{ origin = 2020-03-01, unit = "day" }}'
    if re.fullmatch(r"\d{1,4}/\d{1,2}/\d{1,4}( .*)?", cell):
        return "expected a number; write a date as 2020-03-01, since with slashes day and month may be either"
    if re.search(r"\d_\d", cell) or not cell.isascii():
        return "expected a number in plain digits, such as 1000"
    return "expected a number or an empty cell"


def _ask_about_sentinels(table: Table, name: str, values: np.ndarray, complaints: Complaints) -> None:
    """Ask what a -999 is that lies far from all other data: no error would ever tell."""
    found = [
        (line, cell) for line, cell in zip(table.lines, table.columns[name], strict=True) if _SENTINEL.fullmatch(cell)
    ]
    for word in dict.fromkeys(cell for _, cell in found):
        others = values[np.isfinite(values) & (values != float(word))]
        far = len(others) == 0 or np.abs(others - float(word)).min() > np.ptp(others)
        far |= float(word) < 0.0 <= others.min(initial=0.0)
        if far and (float(word) < 0.0 or len([cell for _, cell in found if cell == word]) > 1):
            where = [(line, cell) for line, cell in found if cell == word]
            say = f'say {complaints.place}.missing = ["{word}"] if that is a missing datum, or [] if it is a number'
            complaints.cells(name, where, f"far from all other data; {say}")
