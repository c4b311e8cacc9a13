"""A folder that all machines see, for clusters whose nodes reach one another by no network: tasks are files in it.

`tasks/ID` is a task that waits, `claimed/ID@WORKER` one that runs, `answers/ID` its answer; who renames a file has it.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from simfer.stages.errors import StageError
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.heartbeat import Heartbeat

TASKS, CLAIMED, ANSWERS, WORKERS, DRIVERS = "tasks", "claimed", "answers", "workers", "drivers"
LOST = ".lost"  # what an answer ends in that is none: the worker's own exception
_HEAD = struct.Struct("<Q")
_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between two looks
_FRESH = 2.0  # seconds for which it is believed who is alive


class Spool(Engine):
    """The driver's end of the folder."""

    def __init__(self, where: str) -> None:
        self.folder = Path(where)
        self.words = f"the spool folder {self.folder}"
        open_folder(self.folder)
        self._beat, self._count = Heartbeat(self.folder / DRIVERS), itertools.count()
        self._futures, self._lock = dict[str, Future[bytes]](), threading.Lock()
        self._is_over = threading.Event()
        self._workers, self._asked = dict[str, int](), -_FRESH
        threading.Thread(target=self._look, daemon=True).start()

    def slots(self) -> int:
        """Count the slots of the workers that are alive."""
        if time.monotonic() - self._asked > _FRESH:
            self._workers = dict(self._living())
            self._asked = time.monotonic()
        return sum(self._workers.values())

    def _living(self) -> list[tuple[str, int]]:
        files = (file for file in (self.folder / WORKERS).glob("*") if self._beat.is_alive(file))
        return [(file.name, int(file.read_text() or 1)) for file in files]

    def submit(self, task: bytes, sources: bytes) -> Future[bytes]:
        """Write a task into the folder."""
        name, future = f"{self._beat.name}.{next(self._count):09d}", Future[bytes]()
        with self._lock:
            self._futures[name] = future
        write(self.folder / TASKS / name, _HEAD.pack(len(task)) + task + sources)
        return future

    def help(self) -> str:
        """Say how workers are started."""
        return f"start some: simfer work {self.folder}"

    def ready(self, note: Callable[[str], None]) -> None:
        """Wait for a worker, as a job in a queue does."""
        if not self.slots():
            note(f"  {self.words}: no worker yet; waiting for one ({self.help()})")
        while not self.slots():
            time.sleep(0.2)
        note(f"  {self.words}: {len(self._workers)} workers, {self.slots()} slots")

    def gone(self) -> str:
        """Say that the folder is gone."""
        if (self.folder / TASKS).is_dir():
            return ""
        return f"{self.words} is gone. What is finished is kept; run the same command again"

    def close(self) -> None:
        """Take back what nobody has answered: workers leave it."""
        self._is_over.set()
        self._beat.end()
        with self._lock:
            for name in self._futures:
                self._withdraw(name)

    def _look(self) -> None:
        """Hand answers to those who wait for them, and say whose worker is gone."""
        pause, counted = _SHORTEST, 0.0
        while not self._is_over.wait(pause):
            with suppress(OSError):  # the file system was away for a moment, or the folder is gone
                took = self._take_answers()
                if time.monotonic() - counted > _FRESH:  # a file system has more to do than to be asked for the dead
                    self._take_losses()
                    counted = time.monotonic()
                pause = _SHORTEST if took else min(1.5 * pause, _LONGEST)

    def _take_answers(self) -> bool:
        took = False
        for file in list((self.folder / ANSWERS).glob(f"{self._beat.name}.*")):
            content, took = file.read_bytes(), True
            file.unlink(missing_ok=True)
            with self._lock:
                future = self._futures.pop(file.name.removesuffix(LOST), None)
            if future is not None and future.set_running_or_notify_cancel():
                if file.name.endswith(LOST):
                    future.set_exception(RuntimeError(content.decode(errors="replace")))
                else:
                    future.set_result(content)
        return took

    def _take_losses(self) -> None:
        for claim in list((self.folder / CLAIMED).glob(f"{self._beat.name}.*@*")):
            name, _, worker = claim.name.rpartition("@")
            is_answered = any((self.folder / ANSWERS / f"{name}{end}").exists() for end in ("", LOST))
            if is_answered or self._beat.is_alive(self.folder / WORKERS / worker) or not claim.exists():
                continue
            claim.unlink(missing_ok=True)
            with self._lock:
                future = self._futures.pop(name, None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError(f"the worker {worker} went away"))
        with self._lock:
            given_up = [name for name, future in self._futures.items() if future.cancelled()]
            for name in given_up:
                del self._futures[name]
                self._withdraw(name)

    def _withdraw(self, name: str) -> None:
        with suppress(OSError):
            (self.folder / TASKS / name).unlink(missing_ok=True)
            for claim in (self.folder / CLAIMED).glob(f"{name}@*"):
                claim.unlink(missing_ok=True)


def open_folder(folder: Path) -> None:
    """Make a spool folder, or see that it is one's own: what lies in it is run.

    Raises:
        StageError: It is somebody else's, or others may write into it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise StageError(
            f"{folder} is somebody else's, or others may write into it, and what lies there is run: name a new "
            f"folder, or `chmod 700 {folder}`"
        )
    for name in (TASKS, CLAIMED, ANSWERS, WORKERS, DRIVERS):
        (folder / name).mkdir(exist_ok=True)


def write(file: Path, content: bytes) -> None:
    """Put a file in its place, whole."""
    partial = file.with_name(f".{file.name}-{uuid4().hex[:6]}")
    partial.write_bytes(content)
    partial.rename(file)


def read(file: Path) -> tuple[bytes, bytes]:
    """Read a task, and the sources that came with it."""
    content = file.read_bytes()
    (size,) = _HEAD.unpack_from(content)
    return content[_HEAD.size : _HEAD.size + size], content[_HEAD.size + size :]
