"""How long work reports on itself: a bar on a terminal, plain lines elsewhere, or not at all."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 5.0


class Task(ABC):
    """A piece of work of known length."""

    @abstractmethod
    def advance(self, count: float, **fields: Any) -> None:
        """Say that `count` more are done; `fields` (failed=3, loss=0.1) are shown beside it."""


class Reporter(ABC):
    """Where stages say how far they are."""

    @abstractmethod
    def task(self, description: str, total: float, unit: str = "") -> AbstractContextManager[Task]:
        """Open a task of `total` units."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Say something in a line."""


def reporter(quiet: bool = False, stream: TextIO | None = None) -> Reporter:
    """Choose the reporter that suits the stream (standard error if left out)."""
    if quiet:
        return Silent()
    stream = stream or sys.stderr
    return Bars(stream) if stream.isatty() else Lines(stream)


class Silent(Reporter):
    """Says nothing."""

    @contextmanager
    def task(self, description: str, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task that no one hears of."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Say nothing."""


class _SilentTask(Task):
    def advance(self, count: float, **fields: Any) -> None:
        """Say nothing."""


class Lines(Reporter):
    """Says how far it is in plain lines, one every few seconds, as suits a log file."""

    def __init__(self, stream: TextIO, seconds: float = _SECONDS_BETWEEN_LINES) -> None:
        self._stream, self._seconds = stream, seconds

    @contextmanager
    def task(self, description: str, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task; its last line comes however it ends."""
        task = _LinesTask(self, description, total, unit, self._seconds)
        try:
            yield task
        finally:
            task.close()

    def note(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)


class _LinesTask(Task):
    def __init__(self, lines: Lines, name: str, total: float, unit: str, seconds: float) -> None:
        self._lines, self._name, self._total, self._unit, self._seconds = lines, name, total, unit, seconds
        self._done, self._said, self._fields = 0.0, -1.0, dict[str, Any]()
        self._start = self._last = time.monotonic()

    def advance(self, count: float, **fields: Any) -> None:
        """Count, and write a line if the last one was long enough ago."""
        self._done += count
        self._fields |= fields
        if time.monotonic() - self._last >= self._seconds:
            self.say()

    def close(self) -> None:
        """Write a last line, unless it is written already."""
        if self._said != self._done:
            self.say()

    def say(self) -> None:
        """Write a line now."""
        self._said = self._done
        self._last = time.monotonic()
        elapsed = self._last - self._start
        rate = self._done / elapsed if elapsed > 0 else 0.0
        left = f", {duration((self._total - self._done) / rate)} left" if 0 < self._done < self._total and rate else ""
        count = f"{number(self._done)} of {number(self._total)} {self._unit}"
        shown = f"{fields_in_words(self._fields)}, " if self._fields else ""
        self._lines.note(f"  {self._name}: {count}, {shown}{number(rate)} {self._unit}/s{left}")


class Bars(Reporter):
    """Draws a bar with the rate and the time left, as suits a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False)

    @contextmanager
    def task(self, description: str, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task; its bar stays on the screen when it is done."""
        from rich import progress

        columns = (
            progress.TextColumn("  {task.description}", markup=False),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[count]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left", markup=False),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[shown]}", markup=False),
        )
        with progress.Progress(*columns, console=self._console) as bars:
            yield _Bar(bars, bars.add_task(description, total=total, count="", shown=""), unit)

    def note(self, text: str) -> None:
        """Write a line."""
        self._console.print(text, markup=False)


class _Bar(Task):
    def __init__(self, bars: Any, identity: Any, unit: str) -> None:
        self._bars, self._identity, self._unit = bars, identity, unit
        self._fields: dict[str, Any] = {}

    def advance(self, count: float, **fields: Any) -> None:
        """Move the bar."""
        self._fields |= fields
        self._bars.advance(self._identity, count)
        task = next(task for task in self._bars.tasks if task.id == self._identity)
        rate = f", {number(task.speed)}/s" if task.speed else ""
        so_far = f"{number(task.completed)}/{number(task.total)} {self._unit}{rate}"
        self._bars.update(self._identity, count=so_far, shown=fields_in_words(self._fields))


def fields_in_words(fields: dict[str, Any]) -> str:
    """Write the fields of a task in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in fields.items())


def number(value: Any) -> str:
    """Write a number so that it is read at a glance: thousands apart, four digits where it is not whole."""
    if isinstance(value, (bool, str)) or value is None:
        return "-" if value is None else str(value)
    value = float(value)
    if (value.is_integer() and abs(value) < 1e15) or 1e4 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Write a time span: 0.4 s, 12 s, 3:05, 1:02:07."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
