"""Whether somebody still waits for a task: Dask tells its workers, and stops nothing that has begun."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_OVER = "closing", "closed", "failed", "stopping"


def is_wanted() -> Callable[[], bool] | None:
    """Return what tells whether the Dask task that runs in this thread is still wanted; None where it is of none."""
    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        worker: Any = get_worker()
        key = worker.get_current_task()
    except (ValueError, AttributeError, KeyError):
        return None

    def ask() -> bool:
        task = worker.state.tasks.get(key)
        if worker.status.name in _OVER:  # its scheduler is gone: nobody would hear the answer
            return False
        return task is not None and task.state in ("executing", "long-running", "resumed")

    return ask
