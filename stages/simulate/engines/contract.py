"""The contract of an engine: so many slots, tasks in, answers out."""

from __future__ import annotations

import abc
from collections.abc import Callable
from concurrent.futures import Future

from simfer.stages.errors import StageError


class LostRows(StageError):
    """Rows that no worker brought to an end, through no fault of theirs: they stay pending."""


class Engine(abc.ABC):
    """Who drains tasks. A task never fails by its rows: whatever its future raises is the machine's."""

    words: str  # what it is called, and where it is
    note: Callable[[str], None] = staticmethod(lambda text: None)  # to whom something is said while rows run

    @abc.abstractmethod
    def slots(self) -> int:
        """Count the tasks that can run at a time just now, which changes while workers come and go."""

    @abc.abstractmethod
    def submit(self, task: bytes, sources: bytes) -> Future[bytes]:
        """Have `run_task(task, sources)` called somewhere."""

    def deaths(self, error: BaseException) -> int:
        """Count how often a task was lost with a worker, where the engine itself tried it again before it gave up."""
        return 1

    def gone(self) -> str:
        """Say that the engine itself is gone, and what then; "" while it is there."""
        return ""

    def help(self) -> str:
        """Say how workers are started, where there are none."""
        return "start some"

    def ready(self, note: Callable[[str], None]) -> None:  # noqa: B027
        """Wait until there is a worker, and say so."""

    def close(self) -> None:  # noqa: B027
        """Let go of it; its workers stay."""
