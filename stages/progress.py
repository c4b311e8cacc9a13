"""How a stage tells of its progress: whoever runs it hands it something of this shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Event, Thread
from typing import Any, Protocol

_A_WHILE = 15.0  # s


class Task(Protocol):
    """One piece of long work."""

    def advance(self, count: int, **fields: Any) -> None:
        """Say that `count` more units are done; `fields` (failed=3, loss=0.1) are shown beside the bar."""


class Progress(Protocol):
    """Where a stage reports to."""

    def task(self, description: str, total: int, unit: str = "") -> AbstractContextManager[Task]:
        """Begin a piece of work of `total` units."""

    def note(self, text: str) -> None:
        """Say one line."""


class _SilentTask(Task):
    def advance(self, count: int, **fields: Any) -> None:
        pass


class Silent(Progress):
    """A progress that nobody watches."""

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Task]:
        """Begin a piece of work, in silence."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Drop the line."""


@contextmanager
def until_the_first(progress: Progress, what: str, seconds: float = _A_WHILE) -> Iterator[Callable[[], None]]:
    """Say after some seconds, and then ever more seldom, that something still lasts; yield what is called when it ends.

    XLA may take minutes over a program, in which no row comes back that a bar could move by.
    """
    ended = Event()

    def say() -> None:
        begun, wait = time.monotonic(), seconds
        while not ended.wait(begun + wait - time.monotonic()):
            with suppress(KeyboardInterrupt):  # of one who asked the run to stop: that is the run's own thread's to do
                progress.note(f"  {what}: {time.monotonic() - begun:.0f} s so far")
            wait *= 3.0

    thread = Thread(target=say, daemon=True)
    thread.start()
    try:
        yield ended.set
    finally:
        ended.set()
        thread.join()
