"""Whether somebody still waits for a task: no engine stops one that has begun, so it asks for itself."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

_OVER = "closing", "closed", "failed", "stopping"


def is_wanted() -> Callable[[], bool] | None:
    """Return what tells whether the task that runs in this thread is still wanted; None where nobody can know."""
    _end_with_parent()
    return _asked_of_dask() if "distributed.worker" in sys.modules else None


@cache
def _end_with_parent() -> None:
    """Have a worker of a pool of processes end with the driver: it would wait for ever for tasks from nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _asked_of_dask() -> Callable[[], bool] | None:
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
