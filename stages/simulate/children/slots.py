"""Slots: so many children, which rows are handed to as they become free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from queue import SimpleQueue
from threading import Lock
from typing import Any

from simfer.stages.simulate.children.supervisor import Child, Closed, Done, Wanted

_WORTH = 0.05  # seconds of work that go to a child at once
_MOST = 256  # rows


class Slots:
    """Children on this machine, each begun when there is work for it."""

    def __init__(self, make: Callable[[], Child], num: int) -> None:
        self._num, self._children, self._lock = num, [make() for _ in range(num)], Lock()
        self._free: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._threads = ThreadPoolExecutor(num, thread_name_prefix="row")
        self._seconds = _WORTH  # of a row, as the last ones were

    def run(self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, take: Callable[[Done], None]) -> None:
        """Run rows, in any order; `take` is given each as it ends, from the thread that ran it."""
        waiting = iter(rows)
        lock = Lock()

        def work() -> None:
            while batch := self._next(waiting, lock):
                child = self._free.get()
                try:
                    for done in child.run(batch, expected):
                        self._seconds += 0.2 * (done.seconds - self._seconds)
                        take(done)
                finally:
                    self._free.put(child)

        futures = [self._threads.submit(work) for _ in range(min(self._num, len(rows)))]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _next(self, waiting: Iterator[Wanted], lock: Any) -> list[Wanted]:
        count = max(1, min(_MOST, int(_WORTH / max(self._seconds, 1e-6))))
        with lock:
            return list(islice(waiting, count))

    def begin(self) -> dict[str, Any]:
        """Start one child, and return what it says of the simulator."""
        return self._children[0].begin()

    def close(self) -> None:
        """End all children, whatever they are at."""
        for child in self._children:
            child.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


__all__ = ["Closed", "Slots"]
