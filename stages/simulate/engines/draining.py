"""Some rows on their way through an engine: handed out, taken as they come, handed out again where they are lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any

from simfer.stages.errors import StageError
from simfer.stages.simulate.children.supervisor import Done, Wanted
from simfer.stages.simulate.engines.contract import LostRows
from simfer.stages.simulate.engines.outgoing import TURN, Outgoing
from simfer.stages.simulate.engines.task import SLOW

_TIMES = 3  # that a row is lost with its worker before it is left pending
_PAUSE = 0.2  # seconds, before rows are handed out again while an engine is away


class Draining:
    """Some rows on their way through an engine."""

    def __init__(
        self,
        slots: Outgoing,
        rows: Sequence[Wanted],
        expected: Mapping[str, Any] | None,
        take: Callable[[Done], None],
    ) -> None:
        self._slots, self._expected, self._take = slots, expected, take
        self._waiting, self._running = deque(rows), dict[Future[bytes], list[Wanted]]()
        self._losses, self._left = Counter[int](), dict[int, str]()
        self._size = _num_values(expected)

    def drain(self) -> None:
        """Bring each row to its end, or leave it pending.

        Raises:
            LostRows: Some were lost with their workers three times; all others were taken.
            StageError: The engine is gone, or a worker is not as this machine is.
        """
        try:
            while self._waiting or self._running:
                self._slots.refuse_gone()
                self._hand_out()
                for future in wait(self._running, TURN, FIRST_COMPLETED).done if self._running else ():
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


def _num_values(expected: Mapping[str, Any] | None) -> int:
    size = 0
    for output in (expected or {}).values():
        values = 1
        for dim in output["dims"]:
            values *= len(output["coords"][dim])
        size += values
    return size


def outcome(future: Future[bytes]) -> bytes | BaseException:
    """Return what a task answered, or why it did not."""
    try:
        return future.result(timeout=0)
    except CancelledError as error:
        return error
    except Exception as error:
        return error
