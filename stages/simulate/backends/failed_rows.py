"""Why rows failed, in a file that a person opens: failures.csv beside the store."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.simulate.children.supervisor import Done

NAME = "failures.csv"
_ROUNDED = 0.999  # of a timeout: seconds are written with four digits


def add(folder: Path, rows: Sequence[Done], values: Mapping[int, Mapping[str, float]], space: Space) -> None:
    """Add the rows that failed, and take those out that did before and no longer do."""
    failed = [(row, values[row.number]) for row in rows if row.status != Status.OK]
    if solved := _rows(folder).keys() & {row.number for row in rows if row.status == Status.OK}:
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
    return {number for number, row in _rows(folder).items() if is_long(float(row["seconds"]), timeout)}


def is_long(seconds: float, timeout: float | None) -> bool:
    """Say whether a row that timed out had as much time as it would have now."""
    return timeout is not None and seconds >= _ROUNDED * timeout


def tidy(folder: Path, without: Collection[int] = ()) -> None:
    """Leave each row once, in order: one that was run again after a kill stands there twice."""
    file = folder / NAME
    if not file.exists():
        return
    rows = {number: row for number, row in _rows(folder).items() if number not in without}
    if not rows:
        file.unlink()
        return
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(next(iter(rows.values()))))
        writer.writeheader()
        writer.writerows(rows[number] for number in sorted(rows))


def _rows(folder: Path) -> dict[int, dict[str, str]]:
    """Read the rows by their numbers, each as it ended last."""
    file = folder / NAME
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {int(row["row"]): row for row in csv.DictReader(lines) if row["row"].isdigit()}


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
