"""What goes out to an engine, and comes back: messages, the window of tasks in flight, the size of blocks."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Condition
from typing import Any

from simfer.stages.errors import StageError, UserCodeError
from simfer.stages.simulate.children.frames import encode
from simfer.stages.simulate.children.supervisor import Closed, Done, Wanted
from simfer.stages.simulate.engines import bundle
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.task import SLOW, identity, read_answer, unpack_run
from simfer.stages.simulate.engines.versions import difference, versions

_BLOCK, _LONGEST = 20.0, 60.0  # seconds of work that go out together,
_RATE = 100  # and longer ones where there would be more tasks than so many in a second
_LEAST = 1.0  # seconds, at the end of a shard, where blocks become small so that no slot waits long for another
_MOST = 16384  # rows of a block
_BYTES = 2**23  # of a block's answer
_EACH = 2  # tasks in flight for each slot: one that runs, one that waits
TURN = 1.0  # seconds between two looks at whether the engine is there
_DESERTED = 10.0  # seconds without a worker before it is said
_TOLD = 512  # rows of which workers are told that they have arrived


class Outgoing:
    """Rows of one simulator on their way out: how many go together, how many are out, and what the answers say."""

    def __init__(
        self,
        engine: Engine,
        spec: Mapping[str, Any],
        files: Sequence[Path],
        timeout: float | None,
        rows_per_worker: int | None,
        num_folders: int = 0,
    ) -> None:
        self.engine, self._spec = engine, dict(spec)
        self._sources, self._versions = bundle.sources_of(files), versions(spec["kind"])
        self._limits = {"timeout": timeout, "most": rows_per_worker}
        key = {name: value for name, value in spec.items() if name not in ("edited", "threads")}
        text = json.dumps([key, self._sources.digest], sort_keys=True, default=str)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self._seconds: float | None = None  # of a row, as the last ones were
        self._deserted: float | None = None  # since when there is no worker
        self._flying, self._lock, self._closed = 0, Condition(), False
        self._folders, self._taken = num_folders, deque[str](maxlen=_TOLD)

    def close(self) -> None:
        """Take back what was handed out."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def refuse_gone(self) -> None:
        """Stop where there is nobody to wait for; say so where all workers have left, as at the end of their job."""
        if self._closed:
            raise Closed
        if said := self.engine.gone():
            raise StageError(said)
        if self.engine.slots():
            self._deserted = None
        elif self._deserted is None:
            self._deserted = time.monotonic()
        elif time.monotonic() - self._deserted > _DESERTED:
            self.engine.note(f"  {self.engine.words}: no worker is left; waiting for one ({self.engine.help()})")
            self._deserted = float("inf")  # it is said once

    def enter(self, *, waits: bool) -> bool:
        """Take a place among the tasks in flight, if there is one, after a turn's wait at most."""
        with self._lock:
            most = _EACH * self.engine.slots()
            if self._flying >= most and waits:
                self._lock.wait(TURN)
            if self._flying >= most:
                return False
            self._flying += 1
            return True

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._flying -= 1
            self._lock.notify()

    def block(self, num: int, size: int) -> int:
        """Return how many of the next `num` rows go out together, each with `size` numbers in its answer."""
        if self._seconds is None:
            return 1
        each = max(self._seconds, 1e-6)
        share = max(num / (_EACH * max(self.engine.slots(), 1)), _LEAST / each)
        seconds = min(max(_BLOCK, self.engine.slots() / _RATE), _LONGEST)
        return max(1, int(min(seconds / each, share, _MOST, _BYTES / (8 * max(size, 1) + 256))))

    def submit(
        self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, with_sources: bool = False
    ) -> Future[bytes]:
        """Hand rows out; with the simulator's files, where a worker lacked them."""
        head = {"spec": self._spec, "sources": list(self._sources), "versions": self._versions, "outputs": expected,
                "key": self._key, "slow": self._seconds is None or self._seconds > 0.5 * SLOW,
                "keep": self._folders > 0, "taken": list(self._taken), **self._limits}  # fmt: skip
        rest = [encode({"row": row.number, "parameters": row.parameters, "seed": row.seed}) for row in rows]
        messages = [encode(head), *rest]
        return self.engine.submit(b"".join(messages), bundle.packed(self._sources) if with_sources else b"")

    def learn(self, head: Mapping[str, Any]) -> None:
        """Learn how long a row takes, from what a task took."""
        if head["rows"]:
            seconds = head["seconds"] / head["rows"]
            self._seconds = seconds if self._seconds is None else 0.5 * (self._seconds + seconds)

    def refuse(self, head: Mapping[str, Any]) -> None:
        """Stop where a worker could begin nothing: by the user's own code, or for it is not as this machine is."""
        if "error" in head:
            raise UserCodeError(f"on {head['host']}: {head['error']}")
        if "differs" in head:
            what = difference(self._versions, head["differs"])
            raise StageError(
                f"{self.engine.words}: the worker on {head['host']} would give other rows, since it has {what}. "
                "Install the same there as here"
            )

    def read(self, answer: bytes, rows: Sequence[Wanted]) -> tuple[dict[str, Any], list[Done]]:
        """Read an answer, and put the folders of failed runs where they would lie if they had run here."""
        head, done = read_answer(answer)
        self.refuse(head)
        folders = {row.number: row.folder for row in rows}
        for i, each in enumerate(done):
            if packed := each.more.get("run"):
                self._folders -= 1
                unpack_run(packed, Path(folders[each.number]))
                done[i] = each._replace(more={name: value for name, value in each.more.items() if name != "run"})
        return head, done

    def arrived(self, row: Wanted) -> None:
        """Remember that a slow row is here: its worker need not keep it."""
        self._taken.append(identity(self._key, row))
