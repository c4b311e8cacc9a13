"""What a table file says, whichever way its numbers and the ends of its lines are written."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from io import StringIO
from pathlib import Path

# Plain decimals alone: of "007" or "1_000" it is for whoever reads the table to say whether that is a number.
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_OTHER_MARKS = ";", "\t", "|"


def cells_digest(file: Path) -> str:
    """Return a digest of a CSV file's cells; of its bytes where it cannot be read as a table.

    Two files of one digest are one table to any reader: 9.60 is 9.6, and lines end as they may, the last one or not.
    """
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        # What parts cells otherwise may write numbers otherwise: there lines count as they are.
        plain = "," in text and not any(mark in text for mark in _OTHER_MARKS)
        lines = StringIO(text, newline="")
        rows = list(csv.reader(lines, strict=True)) if plain else [[line] for line in text.splitlines() if line]
    except (UnicodeDecodeError, csv.Error):
        return hashlib.sha256(content).hexdigest()
    table = [[_number(cell) if plain else cell for cell in row] for row in rows if row]
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _number(cell: str) -> str:
    text = cell.strip(" \t")
    return repr(float(text)) if _NUMBER.fullmatch(text) else cell
