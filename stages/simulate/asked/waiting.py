"""Rows that somebody else makes: they are asked for once, waited for, and then there as any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.asked.ledger import Ledger
from simfer.stages.simulate.backends.contract import Backend
from simfer.stages.simulate.backends.table import Table, TableFirst
from simfer.stages.simulate.backends.told import Told

TOLD = "told"  # the input that is a step's ledger


def told(
    inputs: Mapping[str, Sequence[Path]],
    settings: Simulate,
    space: Space,
    z: Float[np.ndarray, "rows size"],
    beside_table: bool = False,
    offset: int = 0,
) -> tuple[Backend | None, int]:
    """Return what gives rows that are asked for at points `z`, and how many there are with those told beside them.

    None for a simulator that can be run. In round 0 a table's rows come first (`beside_table`), and `offset` rows that
    were told for a smaller ensemble.

    Raises:
        WaitingForRuns: Not all were told yet.
    """
    if settings.kind != "ask":
        return None, len(z)
    ledger = Ledger(inputs[TOLD][0])
    ledger.ask(z, np.asarray(space.theta(z)))
    ledger.refuse_untold()
    table = Table(settings, space) if beside_table and settings.table else None
    if table and ledger.layout is None:
        return table, 0
    rows = Told(settings, space, ledger, offset)
    return (TableFirst(table, rows) if table else rows), len(rows)
