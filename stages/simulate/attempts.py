"""Two attempts at a row: one that fails is solved once more, as `[simulate.retry]` says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.contract import Attempts as Attempts
from simfer.stages.simulate.backends.contract import Rows
from simfer.stages.simulate.ensemble import Ensemble, build_ensemble

_LANES = 32  # of a second attempt, however many rows failed: they cannot change one another's digits


def build_attempts(settings: Simulate, space: Space) -> Callable[..., Attempts]:
    """Return what solves whitened points, called as an `Ensemble`; a second attempt is compiled when needed."""
    first, second = build_ensemble(settings, space), _second(settings, space)

    def solve(
        z: Float[np.ndarray, "rows size"], numbers: Int[np.ndarray, " rows"], stream: str, like: int = 0
    ) -> Attempts:
        rows = first(z, numbers, stream, like)
        attempt, effort = np.ones(len(z), np.int8), _effort(rows)
        failed = np.flatnonzero(rows.status != Status.OK)
        if second is None or not len(failed):
            return Attempts(rows, attempt, effort)
        again = second(z[failed], numbers[failed], stream)
        attempt[failed] = 2
        outputs, derivatives = (
            {name: _replaced(old[name], failed, new[name]) for name in old}
            for old, new in ((rows.outputs, again.outputs), (rows.derivatives, again.derivatives))
        )
        status = _replaced(rows.status, failed, again.status)
        num_steps = _replaced(rows.num_steps, failed, again.num_steps)
        rows = rows._replace(outputs=outputs, derivatives=derivatives, status=status, num_steps=num_steps)
        return Attempts(rows, attempt, effort + _effort(again))

    return solve


def _second(settings: Simulate, space: Space) -> Ensemble | None:
    if settings.retry is None:
        return None
    changes = {"solver": settings.retry, "retry": None, "batch_size": settings.batch_size or _LANES}
    return build_ensemble(settings.model_copy(update=changes), space)


def _effort(rows: Rows) -> Int[np.ndarray, "2"]:
    done = int(rows.steps_done.sum())
    return np.array([int(rows.num_steps.sum()) if done else 0, done])


def _replaced(old: np.ndarray, at: Int[np.ndarray, " some"], new: np.ndarray) -> np.ndarray:
    out = np.array(old)
    out[at] = new
    return out
