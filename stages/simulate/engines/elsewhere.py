"""Slots on other machines: rows go out in blocks, a few for each slot, and come back one by one."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from threading import Condition
from typing import Any

from simfer.stages.errors import StageError, UserCodeError
from simfer.stages.simulate.children.frames import encode
from simfer.stages.simulate.children.supervisor import Closed, Done, Wanted
from simfer.stages.simulate.engines import bundle
from simfer.stages.simulate.engines.contract import Engine, LostRows
from simfer.stages.simulate.engines.task import SLOW, identity, read_answer, unpack_run
from simfer.stages.simulate.engines.versions import difference, versions

_BLOCK = 20.0  # seconds of work that go out together
_LEAST = 1.0  # seconds, at the end of a shard, where blocks become small so that no slot waits long for another
_MOST = 16384  # rows of a block
_BYTES = 2**23  # of a block's answer
_EACH = 2  # tasks in flight for each slot: one that runs, one that waits
_TIMES = 3  # that a row is lost with its worker before it is left pending
_PAUSE = 0.2  # seconds, before rows are handed out again while an engine is away
_TURN = 1.0  # seconds between two looks at whether the engine is there
_TOLD = 512  # rows of which workers are told that they have arrived


class Elsewhere:
    """What `Slots` is on this machine, on the slots of an engine."""

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
        self._flying, self._lock, self._closed = 0, Condition(), False
        self._folders, self._taken = num_folders, deque[str](maxlen=_TOLD)

    def begin(self) -> dict[str, Any]:
        """Have a child begun on some worker, and return what it says of the simulator."""
        for _ in range(_TIMES):
            future = self._submit([], None)
            answer = self._heard(future)
            if isinstance(answer, bytes):
                head, _ = read_answer(answer)
                if "lacks" in head:
                    answer = self._heard(self._submit([], None, with_sources=True))
            if isinstance(answer, bytes):
                head, _ = read_answer(answer)
                self._refuse(head)
                facts: dict[str, Any] = head["facts"]
                return facts
        raise StageError(f"{self.engine.words}: {_TIMES} workers were lost before they began anything: {answer!r}")

    def run(self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, take: Callable[[Done], None]) -> None:
        """Run rows, in any order; `take` is given each as it comes.

        Raises:
            LostRows: Some were lost with their workers three times; all others were taken.
            StageError: The engine is gone, or a worker is not as this machine is.
        """
        _Draining(self, rows, expected, take).drain()

    def close(self) -> None:
        """Take back what was handed out."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def refuse_gone(self) -> None:
        """Stop where there is nobody to wait for."""
        if self._closed:
            raise Closed
        if said := self.engine.gone():
            raise StageError(said)

    def enter(self, *, waits: bool) -> bool:
        """Take a place among the tasks in flight, if there is one, after a turn's wait at most."""
        with self._lock:
            most = _EACH * self.engine.slots()
            if self._flying >= most and waits:
                self._lock.wait(_TURN)
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
        return max(1, int(min(_BLOCK / each, share, _MOST, _BYTES / (8 * max(size, 1) + 256))))

    def submit(self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, sources: bool) -> Future[bytes]:
        """Hand rows out; with the simulator's files, where a worker lacked them."""
        return self._submit(rows, expected, sources)

    def _submit(
        self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, with_sources: bool = False
    ) -> Future[bytes]:
        head = {"spec": self._spec, "sources": list(self._sources), "versions": self._versions, "outputs": expected,
                "key": self._key, "slow": self._seconds is None or self._seconds > 0.5 * SLOW,
                "keep": self._folders > 0, "taken": list(self._taken), **self._limits}  # fmt: skip
        rest = [encode({"row": row.number, "parameters": row.parameters, "seed": row.seed}) for row in rows]
        messages = [encode(head), *rest]
        return self.engine.submit(b"".join(messages), bundle.packed(self._sources) if with_sources else b"")

    def _heard(self, future: Future[bytes]) -> bytes | BaseException:
        """Wait for one task, whatever comes of it."""
        while not wait([future], _TURN).done:
            self.refuse_gone()
        return outcome(future)

    def learn(self, head: Mapping[str, Any]) -> None:
        """Learn how long a row takes, from what a task took."""
        if head["rows"]:
            seconds = head["seconds"] / head["rows"]
            self._seconds = seconds if self._seconds is None else 0.5 * (self._seconds + seconds)

    def _refuse(self, head: Mapping[str, Any]) -> None:
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
        self._refuse(head)
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


class _Draining:
    """Some rows on their way through an engine."""

    def __init__(
        self,
        slots: Elsewhere,
        rows: Sequence[Wanted],
        expected: Mapping[str, Any] | None,
        take: Callable[[Done], None],
    ) -> None:
        self._slots, self._expected, self._take = slots, expected, take
        self._waiting, self._running = deque(rows), dict[Future[bytes], list[Wanted]]()
        self._losses, self._left = Counter[int](), dict[int, str]()
        self._size = _num_values(expected)

    def drain(self) -> None:
        """Bring each row to its end, or leave it pending."""
        try:
            while self._waiting or self._running:
                self._slots.refuse_gone()
                self._hand_out()
                for future in wait(self._running, _TURN, FIRST_COMPLETED).done if self._running else ():
                    self._settle(future, self._running.pop(future))
        finally:
            for future in self._running:
                future.cancel()
                self._slots.leave()
        if self._left:
            raise LostRows(self._words())

    def _hand_out(self) -> None:
        while self._waiting and self._slots.enter(waits=not self._running):
            num = self._slots.block(len(self._waiting), self._size)
            block = [self._waiting.popleft()]
            while (
                len(block) < num and self._waiting and not self._alone(block[0]) and not self._alone(self._waiting[0])
            ):
                block.append(self._waiting.popleft())
            self._submit(block)

    def _alone(self, row: Wanted) -> bool:
        """Say whether a row goes out by itself: one that was lost more than once may be what its worker dies of."""
        return self._losses[row.number] > 1

    def _submit(self, block: list[Wanted], sources: bool = False) -> None:
        try:
            self._running[self._slots.submit(block, self._expected, sources)] = block
        except StageError:
            self._slots.leave()
            raise
        except Exception as error:  # an executor that was shut down, a scheduler that is away
            self._lose(block, error)
            self._slots.leave()

    def _settle(self, future: Future[bytes], block: list[Wanted]) -> None:
        answer = outcome(future)
        if not isinstance(answer, bytes):
            self._slots.leave()
            self._slots.refuse_gone()
            self._lose(block, answer)
            return
        head, done = self._slots.read(answer, block)
        if "lacks" in head:
            self._submit(block, sources=True)
            return
        self._slots.leave()
        self._slots.learn(head)
        rows = {row.number: row for row in block}
        for each in done:
            if machine := each.more.get("machine"):
                self._lose([rows[each.number]], machine)
            else:
                self._take(each)
                if each.seconds > SLOW:
                    self._slots.arrived(rows[each.number])

    def _lose(self, block: list[Wanted], why: BaseException | str) -> None:
        """Have rows run elsewhere that were lost with their worker, or leave them pending."""
        deaths = self._slots.engine.deaths(why) if isinstance(why, BaseException) else 1
        if not deaths:
            time.sleep(_PAUSE)
        for row in block:
            # A block that a scheduler gave up goes out row by row: one of them may be what its workers died of.
            self._losses[row.number] += min(deaths, 2) if len(block) > 1 else deaths
            if self._losses[row.number] < _TIMES:
                self._waiting.append(row)
            else:
                self._left[row.number] = f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else why

    def _words(self) -> str:
        numbers = sorted(self._left)
        shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
        last = self._left[numbers[-1]].strip()[:500]
        return (
            f"{len(numbers)} rows ({shown}) were lost {_TIMES} times, each time with its worker or its machine, "
            f"through no fault that a row could show; they stay pending, and all others are kept. The last: {last}. "
            "Look at the workers' logs (memory? a time limit?), then run the same command again"
        )


def outcome(future: Future[bytes]) -> bytes | BaseException:
    """Return what a task answered, or why it did not."""
    try:
        return future.result(timeout=0)
    except CancelledError as error:
        return error
    except Exception as error:
        return error


def _num_values(expected: Mapping[str, Any] | None) -> int:
    size = 0
    for output in (expected or {}).values():
        values = 1
        for dim in output["dims"]:
            values *= len(output["coords"][dim])
        size += values
    return size
