"""The workers' end of a spool folder: claim a task, run it, write its answer, until there is nothing more to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from simfer.stages.simulate.engines.heartbeat import Heartbeat
from simfer.stages.simulate.engines.spool import (
    ANSWERS,
    CLAIMED,
    DRIVERS,
    LOST,
    TASKS,
    WORKERS,
    open_folder,
    read,
    write,
)
from simfer.stages.simulate.engines.task import Cancelled, end_children, run_task

_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between two looks


def work(folder: Path, num_slots: int, idle: float, note: Callable[[str], None]) -> int:
    """Run tasks of a spool folder, so many at a time, until none came for `idle` seconds; return how many were run."""
    open_folder(folder)
    worker = _Worker(folder, num_slots, idle)
    note(f"{worker.name}: {num_slots} slots, in {folder}")
    return worker.run()


class _Worker:
    """Threads that each claim one task after another."""

    def __init__(self, folder: Path, num_slots: int, idle: float) -> None:
        self._folder, self._idle = folder, idle
        self._beat = Heartbeat(folder / WORKERS, str(num_slots))
        self._is_over, self._count, self._lock = threading.Event(), 0, threading.Lock()
        self._last = time.monotonic()
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(num_slots)]

    @property
    def name(self) -> str:
        """What others know this worker by."""
        return self._beat.name

    def run(self) -> int:
        """Work until there is nothing to do, or until the process is told to end."""
        try:
            for thread in self._threads:
                thread.start()
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(0.5)  # or no signal would be heard
        finally:
            self._is_over.set()
            self._beat.end()
            for thread in self._threads:
                thread.join(5.0)
            end_children()
        return self._count

    def _go_on(self) -> None:
        pause = _SHORTEST
        while not self._is_over.wait(pause):
            claim = self._claim()
            if claim is not None:
                self._bring_to_an_end(claim)
                pause, self._last = _SHORTEST, time.monotonic()
            elif time.monotonic() - self._last > self._idle:
                return
            else:
                pause = min(1.5 * pause, _LONGEST)

    def _claim(self) -> Path | None:
        """Take the first task that nobody else takes; those of a driver that is gone are removed."""
        with suppress(OSError):
            for file in sorted(each for each in (self._folder / TASKS).iterdir() if not each.name.startswith(".")):
                if not self._is_driven(file.name):
                    file.unlink(missing_ok=True)
                    continue
                claim = self._folder / CLAIMED / f"{file.name}@{self.name}"
                with suppress(OSError):
                    file.rename(claim)
                if claim.exists():  # a network file system may say no of a rename that it has done
                    return claim
        return None

    def _is_driven(self, task: str) -> bool:
        return self._beat.is_alive(self._folder / DRIVERS / task.rpartition(".")[0])

    def _bring_to_an_end(self, claim: Path) -> None:
        name = claim.name.rpartition("@")[0]
        answer = self._folder / ANSWERS / name

        def is_wanted() -> bool:
            return not self._is_over.is_set() and claim.exists() and self._is_driven(name)

        try:
            task, sources = read(claim)
            write(answer, run_task(task, sources, is_wanted))
        except Cancelled:
            pass
        except Exception as error:
            with suppress(OSError):
                write(answer.with_name(name + LOST), f"{type(error).__name__}: {error}".encode())
        with suppress(OSError):
            claim.unlink(missing_ok=True)
        with self._lock:
            self._count += 1
