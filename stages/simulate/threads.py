"""Work shared out among threads: for what lets go of Python's lock, as compiled code and files do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Count the cores that this process may use (a cluster's job has fewer than its machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function` of each item, in order; after an error, or an interrupt, nothing more is begun."""
    with ThreadPoolExecutor(workers) as threads:
        try:
            yield from threads.map(function, items)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
