"""Points that go out: a CSV file of runs by their names, with every parameter in its own unit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from simfer.stages.model.space import Space
from simfer.stages.simulate.asked.ledger import Ledger
from simfer.stages.simulate.finished.columns import RUN


def write_points(file: Path, ledger: Ledger, space: Space, num: int | None, again: bool) -> tuple[int, int]:
    """Write the points that nobody was given yet, `num` at most; return how many, and how many are left.

    A row is given out once its file is written; a number has all its digits, so that it reads back as it is.
    """
    rows = ledger.open_rows(again)
    given = rows if num is None else rows[:num]
    if not given:
        return 0, 0
    theta = ledger.theta
    temporary = file.with_name(f".{file.name}.partial")
    with temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([RUN, *space.names, *space.fixed])
        for row in given:
            writer.writerow(
                [ledger.name(row), *map(repr, np.asarray(theta[row]).tolist()), *map(repr, space.fixed.values())]
            )
    temporary.replace(file)
    ledger.give(given)
    return len(given), len(rows) - len(given)
