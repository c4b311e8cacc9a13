"""Where a stage's time went: into XLA, which traces and compiles, or into what the stage is there for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from simfer.pipeline.progress import Progress, Task
from simfer.stages.spans import span, watched_by

PARTS = ("import", "trace", "compile", "solve", "train", "sample", "write", "draw", "rest")
_REST = PARTS[-1]
# What lies within another counts by itself: XLA compiles while a network is trained.
_INNER_FIRST = ("compile", "trace", "import", "draw", "write", "solve", "train", "sample")
_OF_JAX = {
    "/jax/core/compile/backend_compile_duration": "compile",  # or read from the cache on disk
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace",
    "/jax/core/compile/jaxpr_trace_duration": "trace",
}
_OF_TASKS = {"simulate": "solve", "dataset": "write", "infer": "sample", "population": "sample"}
_TRAINING = ("train", "scatter", "flow")


class Interval(NamedTuple):
    """When a part of the work was going on, in seconds of one clock."""

    part: str
    begun: float
    ended: float


class Timing:
    """The intervals of a piece of work, and what they come to."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.intervals: list[Interval] = []
        self.num_programs = 0  # that XLA was asked for, those in the cache on disk among them

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.intervals.append(Interval(name, begun, time.perf_counter()))

    def told(self, event: str, seconds: float, **_: Any) -> None:
        """Take down what JAX says has just ended."""
        if event in _OF_JAX:
            now = time.perf_counter()
            self.num_programs += _OF_JAX[event] == "compile"
            self.intervals.append(Interval(_OF_JAX[event], now - seconds, now))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part that took any; they add up to all that went by."""
        return parts_of([*self.intervals], self.begun, time.perf_counter())


def parts_of(intervals: list[Interval], begun: float, ended: float) -> dict[str, float]:
    """Share a stretch of time out among the intervals in it: every moment is the innermost one's, or the rest's."""
    ends = sorted({begun, ended, *(min(max(t, begun), ended) for each in intervals for t in each[1:])})
    at = {end: i for i, end in enumerate(ends)}
    owner = [_REST] * (len(ends) - 1)
    for part in reversed(_INNER_FIRST):
        for each in intervals:
            if each.part == part:
                first, last = (at[min(max(t, begun), ended)] for t in each[1:])
                owner[first:last] = [part] * (last - first)
    totals = dict.fromkeys(PARTS, 0.0)
    for part, one, other in zip(owner, ends, ends[1:], strict=False):
        totals[part] += other - one
    return {part: round(total, 3) for part, total in totals.items() if total >= 0.0005}


@contextmanager
def timed() -> Iterator[Timing]:
    """Time what is done within; JAX, if it is there, tells of its share."""
    timing, monitoring = Timing(), getattr(sys.modules.get("jax"), "monitoring", None)
    if monitoring is not None:
        monitoring.register_event_duration_secs_listener(timing.told)
    try:
        with watched_by(timing.part):
            yield timing
    finally:
        if monitoring is not None:
            monitoring.unregister_event_duration_listener(timing.told)


class Timed(Progress):
    """A progress whose pieces of work are timed by what they are."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Task]:
        """Begin a piece of work."""
        with _part(description), self._progress.task(description, total, unit) as task:
            yield task

    def note(self, text: str) -> None:
        """Say one line."""
        self._progress.note(text)


def _part(description: str) -> AbstractContextManager[None]:
    if description.startswith(_TRAINING):
        return span("train")
    return span(_OF_TASKS.get(description, _REST))
