"""Work shared out among threads: for what lets go of Python's lock, as compiled code and files do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, stop: Callable[[], None] = lambda: None
) -> Iterator[Result]:
    """Yield `function` of each item, in order; after an error, or an interrupt, nothing more is begun.

    What is running is waited for; `stop` may end it.
    """
    with ThreadPoolExecutor(workers) as threads:
        try:
            yield from threads.map(function, items)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
