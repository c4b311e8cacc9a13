"""How a run is stopped from outside: Ctrl-C, SIGTERM and SIGHUP all end it, whatever it is at.

Python raises KeyboardInterrupt in whatever callback runs just then, and one of JAX's cannot hand it on: it is lost.
And while XLA compiles or computes, Python has no turn at all. So the wish to stop is remembered and asked for at each
report of progress, and a thread ends the process if it has not ended by itself. Nothing is lost by that: a process may
be killed at any point.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from simfer.pipeline.progress import Progress, Task

SECONDS = 10.0  # that a run has to end by itself
_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
_BY_DEFAULT = signal.SIG_DFL, signal.default_int_handler
_wish: int | None = None  # the signal that asked for the end
_last_words: list[Callable[[], None]] = []


def listen() -> None:
    """Have the signals end this process; those that its parent has it ignore (nohup) stay ignored."""
    ours = [number for number in _SIGNALS if signal.getsignal(number) in _BY_DEFAULT]
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read, frozenset(ours)), daemon=True).start()
    for number in ours:
        signal.signal(number, _stop)


def exit_code() -> int:
    """Return the code of a process that was interrupted: 130 by Ctrl-C."""
    return 128 + (_wish or signal.SIGINT)


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """Have something said if the process must be ended while this is going on."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.pop()


def _stop(number: int, frame: Any) -> None:
    global _wish
    _wish = number
    raise KeyboardInterrupt


def _watch(descriptor: int, ours: frozenset[int]) -> None:
    """Wait for a signal, which arrives here whatever the main thread is at; then end the process, if it must be."""
    while (number := os.read(descriptor, 1)[0]) not in ours:
        pass
    _expect_the_end(descriptor)
    with suppress(OSError, IndexError):
        _last_words[-1]()
    os._exit(128 + number)


def _expect_the_end(descriptor: int) -> None:
    """Wait as long as a run has, or until it is asked for once more."""
    select.select([descriptor], [], [], SECONDS)


class Stoppable(Progress):
    """A progress at whose reports a run ends that was asked to."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Task]:
        """Begin a piece of work."""
        with self._progress.task(description, total, unit) as task:
            yield _Stoppable(task)

    def note(self, text: str) -> None:
        """Say one line."""
        self._progress.note(text)
        _ask()


class _Stoppable(Task):
    def __init__(self, task: Task) -> None:
        self._task = task

    def advance(self, count: int, **fields: Any) -> None:
        """Count."""
        self._task.advance(count, **fields)
        _ask()


def _ask() -> None:
    if _wish is not None:
        raise KeyboardInterrupt
