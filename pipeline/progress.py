"""How long work reports on itself: a bar on a terminal, plain lines elsewhere, or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from simfer.stages.progress import Progress as Progress
from simfer.stages.progress import Silent as Silent
from simfer.stages.progress import Task as Task

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REWRITES = 1.0
_WITHOUT_BAR = 95  # columns that all has room in that stands beside a bar; where there are fewer, the rate is left out
_SHORTEST_BAR, _WIDEST_BAR = 5, 40


def reporter(quiet: bool | None = False, stream: TextIO | None = None) -> Progress:
    """Choose what suits the stream (standard error if left out); `quiet` of None is quiet but in a notebook."""
    notebook = stream is None and in_notebook()
    if quiet or (quiet is None and not notebook):
        return Silent()
    if notebook:
        return Lines(sys.stdout, _SECONDS_BETWEEN_REWRITES, rewrites=True)  # standard error would look like an error
    stream = stream or sys.stderr
    return Bars(stream) if stream.isatty() else Lines(stream)


def in_notebook() -> bool:
    """Say whether this runs in the kernel of a notebook; IPython is asked if it is there, and not imported."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


class Lines(Progress):
    """Says how far it is in plain lines, one every few seconds.

    As suits a log file; where a line `rewrites` the one before, as suits a notebook.
    """

    def __init__(self, stream: TextIO, seconds: float = _SECONDS_BETWEEN_LINES, *, rewrites: bool = False) -> None:
        self._stream, self._seconds, self.rewrites = stream, seconds, rewrites
        self._width = 0  # of the line that is to be rewritten

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Task]:
        """Open a task; its last line comes however it ends."""
        task = _LinesTask(self, description, total, unit, self._seconds)
        try:
            yield task
        finally:
            task.close()

    def note(self, text: str) -> None:
        """Write a line."""
        print(text.ljust(self._width), file=self._stream, flush=True)
        self._width = 0

    def passing(self, text: str) -> None:
        """Write a line that the next one may take the place of."""
        if self.rewrites:
            print(text.ljust(self._width), file=self._stream, end="\r", flush=True)
            self._width = len(text)
        else:
            self.note(text)


class _LinesTask(Task):
    def __init__(self, lines: Lines, name: str, total: int, unit: str, seconds: float) -> None:
        self._lines, self._name, self._total, self._unit, self._seconds = lines, name, total, unit, seconds
        self._done, self._fields = 0.0, dict[str, Any]()
        self._noted: float | None = None
        self._start = self._last = time.monotonic()
        self._first: tuple[float, float] | None = None  # when, and how much: with it ends what is compiled once

    def advance(self, count: int, **fields: Any) -> None:
        """Count, and write a line if the last one was long enough ago."""
        self._done += count
        self._fields |= fields
        now = time.monotonic()
        self._first = self._first or (now, self._done)
        if now - self._last >= self._seconds:
            self._last, self._noted = now, self._done
            self._lines.passing(self._line(now))

    def close(self) -> None:
        """Write a last line, unless it stands there already."""
        if self._lines.rewrites or self._noted != self._done:
            self._lines.note(self._line(time.monotonic()))

    def _line(self, now: float) -> str:
        rate, steady = self._rate(now)
        left = f", {duration((self._total - self._done) / rate)} left" if steady and self._done < self._total else ""
        count = f"{number(self._done)} of {number(self._total)} {self._unit}"
        shown = f", {fields_in_words(self._fields)}" if self._fields else ""
        speed = f", {number(rate)} {self._unit}/s" if steady or self._done >= self._total else ""
        return f"  {self._name}: {count}{shown}{speed}{left}"

    def _rate(self, now: float) -> tuple[float, bool]:
        """Return how much is done in a second, and whether that leaves out what came before the first piece ended."""
        if self._first is not None and self._done > self._first[1] and now > self._first[0]:
            return (self._done - self._first[1]) / (now - self._first[0]), True
        return (self._done / (now - self._start) if now > self._start else 0.0), False


class Bars(Progress):
    """Draws a bar with the rate and the time left, as suits a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False)

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Task]:
        """Open a task; its bar stays on the screen when it is done."""
        from rich import progress
        from rich.table import Column

        room = self._console.width
        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("  {task.description}", markup=False),
            progress.BarColumn(
                min(_WIDEST_BAR, max(_SHORTEST_BAR, room - _WITHOUT_BAR)), table_column=Column(no_wrap=True)
            ),
            progress.TextColumn("{task.fields[count]}", markup=False),
        ]
        if room >= _WITHOUT_BAR:
            columns += [progress.TextColumn("{task.fields[rate]}", markup=False), progress.TimeElapsedColumn()]
        columns += [
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("left", markup=False),
            progress.TextColumn("{task.fields[shown]}", markup=False, table_column=Column()),  # goes on below
        ]
        with progress.Progress(*columns, console=self._console) as bars:
            yield _Bar(bars, bars.add_task(description, total=total, count="", rate="", shown=""), unit)

    def note(self, text: str) -> None:
        """Write a line."""
        self._console.print(text, markup=False)


class _Bar(Task):
    def __init__(self, bars: Any, identity: Any, unit: str) -> None:
        self._bars, self._identity, self._unit = bars, identity, unit
        self._fields: dict[str, Any] = {}

    def advance(self, count: int, **fields: Any) -> None:
        """Move the bar."""
        self._fields |= fields
        self._bars.advance(self._identity, count)
        task = next(task for task in self._bars.tasks if task.id == self._identity)
        rate = f"{number(task.speed)}/s" if task.speed else ""
        so_far = f"{number(task.completed)}/{number(task.total)} {self._unit}"
        self._bars.update(self._identity, count=so_far, rate=rate, shown=fields_in_words(self._fields))


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


def place(path: Path) -> str:
    """Write a path as one types it: from the working folder where it lies below that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
