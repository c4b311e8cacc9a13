"""Rows that are finished, kept one by one until their block is written: a kill loses nothing but what was running."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from simfer.stages.simulate.children.frames import Reader, encode
from simfer.stages.simulate.children.supervisor import Done

_FOLDER = "journal"
_BETWEEN = 1.0  # seconds from one fsync to the next: rows that take longer are each on the disk when they end


class Journal:
    """The finished rows of one block, in a file beside the store."""

    def __init__(self, folder: Path, stream: str, first: int) -> None:
        self._path = folder / _FOLDER / f"{stream}-{first}"
        self._file: int | None = None
        self._synced = time.monotonic() - _BETWEEN

    def rows(self) -> dict[int, Done]:
        """Read what was finished before."""
        if not self._path.is_file():
            return {}
        reader = Reader()
        reader.feed(self._path.read_bytes())
        rows = [Done(y=frame.numbers, **frame.table) for frame in reader.frames()]
        os.truncate(self._path, reader.num_read)  # what a kill left half written would hide what comes after
        return {row.number: row for row in rows}

    def add(self, row: Done) -> None:
        """Keep a finished row."""
        if self._file is None:
            self._path.parent.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        table = {key: value for key, value in row._asdict().items() if key != "y"}
        os.write(self._file, encode(table, row.y))
        if time.monotonic() - self._synced >= _BETWEEN:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file, and leave it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Remove the file: its rows are in the store."""
        self.close()
        self._path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove what journals left: the store has all their rows."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)
