"""How a stage tells of its progress: whoever runs it hands it something of this shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


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
