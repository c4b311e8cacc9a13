"""Slots on other machines: what `Slots` is on this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

from simfer.stages.errors import StageError
from simfer.stages.simulate.children.supervisor import Done, Wanted
from simfer.stages.simulate.engines.draining import Draining, outcome
from simfer.stages.simulate.engines.outgoing import TURN, Outgoing
from simfer.stages.simulate.engines.task import read_answer

_BEGUN = 3  # workers that may be lost before one has begun anything


class Elsewhere(Outgoing):
    """The slots of an engine."""

    def begin(self) -> dict[str, Any]:
        """Have a child begun on some worker, and return what it says of the simulator."""
        for _ in range(_BEGUN):
            future = self.submit([], None)
            answer = self._heard(future)
            if isinstance(answer, bytes):
                head, _ = read_answer(answer)
                if "lacks" in head:
                    answer = self._heard(self.submit([], None, with_sources=True))
            if isinstance(answer, bytes):
                head, _ = read_answer(answer)
                self.refuse(head)
                facts: dict[str, Any] = head["facts"]
                return facts
        raise StageError(f"{self.engine.words}: {_BEGUN} workers were lost before they began anything: {answer!r}")

    def _heard(self, future: Future[bytes]) -> bytes | BaseException:
        """Wait for one task, whatever comes of it."""
        while not wait([future], TURN).done:
            self.refuse_gone()
        return outcome(future)

    def run(self, rows: Sequence[Wanted], expected: Mapping[str, Any] | None, take: Callable[[Done], None]) -> None:
        """Run rows, in any order; `take` is given each as it comes.

        Raises:
            LostRows: Some were lost with their workers three times; all others were taken.
            StageError: The engine is gone, or a worker is not as this machine is.
        """
        Draining(self, rows, expected, take).drain()
