"""Why rows failed, in a file that a person opens: failures.csv beside the store."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.simulate.children.supervisor import Done

NAME = "failures.csv"
_LIMIT = re.compile(r"took longer than (\d[\d.e+-]*) s")
_ROUNDED = 0.999  # of a timeout: seconds are written with four digits


def add(folder: Path, rows: Sequence[Done], values: Mapping[int, Mapping[str, float]], space: Space) -> None:
    """Add the rows that failed, and take those out that did before and no longer do."""
    failed = [(row, values[row.number]) for row in rows if row.status != Status.OK]
    there, is_whole = _read(folder)
    solved = there.keys() & {row.number for row in rows if row.status == Status.OK}
    if solved or not is_whole:  # what follows half a line would be a part of it
        tidy(folder, solved)
    if not failed:
        return
    is_new = not (folder / NAME).exists()
    with (folder / NAME).open("a", newline="", encoding="utf-8") as file:
        names = _columns([*space.names, *space.fixed])
        writer = csv.DictWriter(file, names)
        if is_new:
            writer.writeheader()
        writer.writerows(_row(row, each) for row, each in failed)
        file.flush()
        os.fsync(file.fileno())


def lasting(folder: Path, timeout: float | None) -> set[int]:
    """Return the rows that had as much time as they would have now."""
    return {number for number, row in _read(folder)[0].items() if is_long(float(row["seconds"]), timeout)}


def limits(folder: Path) -> list[float]:
    """Return the time limit, in seconds, that each row had which timed out."""
    late = [row for row in _read(folder)[0].values() if row["status"] == Status.TIMEOUT.name.lower()]
    told = [_LIMIT.match(row.get("reason", "")) for row in late]
    return [float(limit[1] if limit else row["seconds"]) for row, limit in zip(late, told, strict=True)]


def is_long(seconds: float, timeout: float | None) -> bool:
    """Say whether a row that timed out had as much time as it would have now."""
    return timeout is not None and seconds >= _ROUNDED * timeout


def tidy(folder: Path, without: Collection[int] = ()) -> None:
    """Leave each row once, in order: one that was run again after a kill stands there twice."""
    file = folder / NAME
    if not file.exists():
        return
    rows = {number: row for number, row in _read(folder)[0].items() if number not in without}
    if not rows:
        file.unlink()
        return
    written = file.with_suffix(".csv.tmp")
    with written.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(next(iter(rows.values()))))
        writer.writeheader()
        writer.writerows(rows[number] for number in sorted(rows))
        lines.flush()
        os.fsync(lines.fileno())
    written.replace(file)


def _read(folder: Path) -> tuple[dict[int, dict[str, str]], bool]:
    """Read the rows by their numbers, each as it ended last; say whether none is half a line, as a kill leaves it."""
    file = folder / NAME
    if not file.exists():
        return {}, True
    text = file.read_bytes().decode("utf-8", "replace")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    whole = [row for row in read if _is_whole(row)]
    return {int(row["row"]): row for row in whole}, len(whole) == len(read) and text.endswith("\n")


def _is_whole(row: Mapping[Any, Any]) -> bool:
    if None in row or None in row.values() or not {"row", "status", "seconds"} <= row.keys():
        return False
    try:
        return int(row["row"]) >= 0 and float(row["seconds"]) >= 0.0
    except ValueError:
        return False


def _columns(parameters: Sequence[str]) -> list[str]:
    return ["row", *parameters, "status", "reason", "seconds", "host", "last_lines", "folder"]


def _row(row: Done, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "row": row.number,
        **values,
        "status": Status(row.status).name.lower(),
        "reason": row.reason,
        "seconds": f"{row.seconds:.4g}",
        "host": row.host,
        "last_lines": row.tail,
        "folder": row.more.get("folder", ""),
    }
