"""Whether the first round's emulator knew the outputs over the prior: later rounds look where it pointed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from simfer.stages.check.verdict import Figure
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.settings import Check


def first_figures(limits: Check, emulator: Emulator, index: Int[np.ndarray, " n"]) -> list[Figure]:
    """Return how far the first round's emulator is off at rows that it had not seen, beside how far outputs vary.

    Both are medians of absolute values over the rows, the latter about the outputs' median, so that a few wild rows
    are nothing; and of the data's ratios the median. At 1 the median itself would have predicted as well: where the
    likelihood is large somewhere else, such an emulator cannot have said so, and no row of later rounds is there.
    Nothing is said of a random simulator, whose outputs nobody can predict.

    Args:
        limits: Of the figures.
        emulator: The one of the first round, whose rows are the prior's.
        index: The data's places among the outputs.
    """
    if emulator.random is not None or emulator.flow is not None:
        return []
    y, residuals = (np.asarray(rows)[:, np.unique(index)] for rows in (emulator.training_y, emulator.residuals))
    varies = np.median(np.abs(y - np.median(y, axis=0)), axis=0)
    off = np.median(np.abs(residuals), axis=0)[varies > 0] / varies[varies > 0]
    if not len(off):
        return []
    name = "first round's error over the prior (outputs' own spread)"
    return [Figure(name, "first", float(np.median(off)), limits.max_first_error)]
