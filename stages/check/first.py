"""Whether the first round's emulator knew the outputs over the prior: later rounds look where it pointed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from simfer.stages.check.verdict import Figure
from simfer.stages.infer.predictor import Predictor
from simfer.stages.settings import Check

_ROUNDING = 1e-13  # a spread of outputs, over their size, that may be nothing else


def first_figures(limits: Check, predictor: Predictor, index: Int[np.ndarray, " n"]) -> list[Figure]:
    """Return how far the first round's emulator is off at rows that it had not seen, beside how far outputs vary.

    Of each datum that is the smaller of two ratios: of median absolute values, about the outputs' median, to which a
    few wild rows are nothing; and of root mean squares, about their mean, since outputs that are next to nothing at
    most rows have next to no median. Of the data it is the median. At 1 a constant would have predicted as well: where
    the likelihood is large somewhere else, such an emulator cannot have said so, and no row of later rounds is there.
    Nothing is said of a random simulator, whose outputs nobody can predict, nor where the simulator is the likelihood.

    Args:
        limits: Of the figures.
        predictor: The first round's emulator, whose rows are the prior's.
        index: The data's places among the outputs.
    """
    known = predictor.cross_validation
    if known is None or predictor.random is not None or predictor.flow is not None:
        return []
    y, residuals = (np.asarray(rows)[:, np.unique(index)] for rows in (known.y, known.residuals))
    typical = np.median(np.abs(residuals), axis=0), np.median(np.abs(y - np.median(y, axis=0)), axis=0)
    squares = np.sqrt((residuals**2).mean(axis=0)), y.std(axis=0)
    varies = squares[1] > _ROUNDING * np.abs(y).max(axis=0)
    if not varies.any():
        return []
    ratios = [error[varies] / np.maximum(spread[varies], 1e-300) for error, spread in (typical, squares)]
    off = np.minimum(*ratios)
    name = "first round's error over the prior (outputs' own spread)"
    return [Figure(name, "first", float(np.median(off)), limits.max_first_error)]
