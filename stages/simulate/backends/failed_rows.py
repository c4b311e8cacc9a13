"""Why rows failed, in a file that a person opens: failures.csv beside the store."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.simulate.children.supervisor import Done

NAME = "failures.csv"


def add(folder: Path, rows: Sequence[Done], values: Sequence[Mapping[str, float]], space: Space) -> None:
    """Add the rows that failed."""
    failed = [(row, each) for row, each in zip(rows, values, strict=True) if row.status != Status.OK]
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


def tidy(folder: Path) -> None:
    """Leave each row once, in order: one that was run again after a kill stands there twice."""
    file = folder / NAME
    if not file.exists():
        return
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        names, rows = list(reader.fieldnames or []), {int(row["row"]): row for row in reader if row["row"].isdigit()}
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows(rows[number] for number in sorted(rows))


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
