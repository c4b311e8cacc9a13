"""One child and its supervisor: rows go in, answers come out, and whatever goes wrong is the row's own end."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from simfer.stages.errors import UserCodeError
from simfer.stages.model.outputs import Status
from simfer.stages.simulate.children.child import last_lines
from simfer.stages.simulate.children.frames import Frame, Reader, encode, write_all

_PIPE = 2**15  # bytes that a pipe takes for certain, as Linux and macOS have them
_KILLED, _TIMES = "ended by SIGKILL", 3  # which no program does to itself; the third time it is the row's own
_MODULE = "simfer.stages.simulate.children.child"


class Closed(Exception):
    """The child was closed while rows were asked of it."""


class Wanted(NamedTuple):
    """One row that is to be run."""

    number: int
    parameters: dict[str, float]
    seed: int | None
    folder: str = ""  # of its own, where it needs one


class Done(NamedTuple):
    """How one row ended."""

    number: int
    status: int
    y: Float[np.ndarray, " outputs"]  # empty of a row that failed
    seconds: float
    reason: str
    tail: str  # of what it wrote to standard output and error; kept of rows that failed
    more: Mapping[str, Any]
    host: str = ""


class Child:
    """A process of its own group that runs one row at a time; it is begun anew when it dies."""

    def __init__(
        self, spec: Mapping[str, Any], timeout: float | None = None, rows_per_worker: int | None = None
    ) -> None:
        self.facts: dict[str, Any] = {}
        self._spec, self._timeout, self._most = dict(spec), timeout, rows_per_worker
        self._process: subprocess.Popen[bytes] | None = None
        self._closed, self._lock, self._kills = False, Lock(), Counter[int]()

    def run(self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None) -> Iterator[Done]:
        """Run rows in their order and yield how each ended; one that kills the child costs nothing but itself."""
        with self._lock:
            is_done = False
            try:
                yield from self._run(list(rows), expected)
                is_done = True
            finally:
                if not is_done:
                    self._end()  # answers that nobody took would be the next rows'

    def _run(self, waiting: list[Wanted], expected: Mapping[str, Any] | None) -> Iterator[Done]:
        while waiting:
            self._ready(expected)
            # Several at once, so that the child needs not wait for the driver between two short ones.
            sent = self._fitting(waiting)
            self._send(b"".join(data for _, data in sent))
            for row, _ in sent:
                done = self._one(row)
                if self._is_killed(done):
                    break  # and run again, in the next child
                waiting.pop(0)
                yield done
                if self._process is None:
                    break  # those after it go to the next child

    def _is_killed(self, done: Done) -> bool:
        """Say whether somebody else ended the child: whoever frees memory takes one that may not have taken it."""
        if not done.reason.startswith(_KILLED) or self._kills[done.number] + 1 >= _TIMES:
            return False
        self._kills[done.number] += 1
        return True

    def _fitting(self, waiting: Sequence[Wanted]) -> list[tuple[Wanted, bytes]]:
        """Return the first rows, as many as a pipe takes at once: both ends would wait for ever if both were full."""
        most = len(waiting) if self._most is None else max(self._most - self._num_rows, 1)
        sent, size = list[tuple[Wanted, bytes]](), 0
        for row in waiting[:most]:
            data = encode({"row": row.number, "parameters": row.parameters, "seed": row.seed, "folder": row.folder})
            size += len(data)
            if sent and size > _PIPE:
                break
            sent.append((row, data))
        return sent

    def begin(self) -> dict[str, Any]:
        """Start the process, if it is not there, and return what it says of the simulator."""
        with self._lock:
            self._ready(None)
        return self.facts

    def close(self) -> None:
        """End the process and all that it started, whatever it is at."""
        self._closed = True
        if self._process is not None:
            _kill(self._process)
        with self._lock:
            self._end()

    def _ready(self, expected: Mapping[str, Any] | None) -> None:
        if self._process is not None and self._most is not None and self._num_rows >= self._most:
            self._end()
        if self._process is None:
            self._start()
            self._told = None
        if expected is not None and self._told is not expected:
            self._send(encode({"outputs": expected}))
            self._told = expected

    def _start(self) -> None:
        if self._closed:
            raise Closed
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        fcntl.fcntl(self._log, fcntl.F_SETFL, fcntl.fcntl(self._log, fcntl.F_GETFL) | os.O_APPEND)
        read, wanted = os.pipe()
        self._answers, answers = os.pipe()
        command = [sys.executable, "-u", "-P", "-m", _MODULE, str(read), str(answers)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(read, answers),
                start_new_session=True, env=_environment(self._spec),
            )  # fmt: skip
        finally:
            os.close(read)
            os.close(answers)
        self._wanted, self._reader, self._frames, self._num_rows = wanted, Reader(), list[Frame](), 0
        self._send(encode(self._spec))
        frame = self._frame(None)
        if isinstance(frame, str) or "error" in frame.table:
            said = self._tail() if isinstance(frame, str) else frame.table["error"]
            how = f"{frame}\n" if isinstance(frame, str) else ""
            self._end()
            raise UserCodeError(f"{self._spec['who']} could not be begun: {how}{said}")
        self.facts = frame.table

    def _one(self, row: Wanted) -> Done:
        begun = time.monotonic()
        frame = self._frame(self._timeout)
        self._num_rows += 1
        host = socket.gethostname()
        if isinstance(frame, str):
            status = Status.TIMEOUT if frame.startswith("took longer") else Status.CRASHED
            done = Done(row.number, int(status), np.zeros(0), time.monotonic() - begun, frame, self._tail(), {}, host)
            self._end()
            return done
        table = frame.table
        more = {key: value for key, value in table.items() if key not in ("row", "status", "reason", "seconds", "tail")}
        tail = table.get("tail", "")
        return Done(row.number, table["status"], frame.numbers, table["seconds"], table["reason"], tail, more, host)

    def _frame(self, timeout: float | None) -> Frame | str:
        """Return the next answer; what became of the child, in words, where none comes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._frames:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if left is not None and not select.select([self._answers], [], [], left)[0]:
                return f"took longer than {timeout:g} s"
            data = os.read(self._answers, 1 << 20)
            if not data:
                return self._how_it_died()
            self._reader.feed(data)
            self._frames.extend(self._reader.frames())
        return self._frames.pop(0)

    def _how_it_died(self) -> str:
        if self._closed:
            raise Closed
        assert self._process is not None
        code = self._process.wait()
        if code < 0:
            return f"ended by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
        return f"its process ended, with exit code {code}, in the middle of the row"

    def _send(self, data: bytes) -> None:
        try:
            write_all(self._wanted, data)
        except BrokenPipeError:
            return  # it died; reading says how

    def _tail(self) -> str:
        return last_lines(self._log.fileno())

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        for file in (self._wanted, self._answers):
            os.close(file)
        self._log.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: its number is its own until it is waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment(spec: Mapping[str, Any]) -> dict[str, str]:
    """Leave a core to each child: libraries that start threads of their own would take all, in every child."""
    threads = {
        name: str(spec.get("threads", 1)) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    return threads | dict(os.environ) | spec.get("environment", {})
