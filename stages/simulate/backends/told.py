"""Rows that were asked for and told: a ledger as a backend, points that nobody asked for after its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simfer.stages.errors import StageError
from simfer.stages.model.outputs import Output, Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.asked.ledger import Ledger
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows


class Told(Backend):
    """The rows of a ledger whose points are all told."""

    def __init__(self, settings: Simulate, space: Space, ledger: Ledger, offset: int = 0) -> None:
        super().__init__(settings, space)
        self._offset = offset  # the number of the ledger's first row
        asked, others = ledger.told()
        if ledger.layout is None:
            raise StageError("nothing was told")
        self._outputs, self._records = dict(ledger.layout.outputs), [*(asked[row] for row in sorted(asked)), *others]
        self._num_foreign = len(others)
        own = np.array([each.theta for each in others]).reshape(len(others), len(space.names))
        named = dict(zip(space.names, own.T, strict=True))
        foreign = np.asarray(space.whiten(named)) if others else np.zeros((0, space.size))
        if not np.isfinite(foreign).all():
            raise StageError("a point of your own lies outside a prior: widen it, in [parameters]")
        self._z = np.concatenate([ledger.z.reshape(-1, space.size), foreign])
        self._theta = np.concatenate([ledger.theta.reshape(-1, len(space.names)), own])

    @property
    def num_foreign(self) -> int:
        """How many of the last rows are points that nobody asked for."""
        return self._num_foreign

    def __len__(self) -> int:
        return len(self._records)

    @property
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter; the config knows its unit."""
        return dict.fromkeys([*self.space.names, *self.space.fixed], "")

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return 1024

    def outputs(self) -> dict[str, Output]:
        """Describe each output, as the first file that was told had it."""
        return self._outputs

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Return rows as they were told."""
        numbers = block.numbers - self._offset
        records = [self._records[row] for row in numbers]
        status = np.array([each.status for each in records], np.int8)
        outputs = {
            name: np.array([each.outputs[name] for each in records], float).reshape(-1, *output.shape)
            for name, output in self._outputs.items()
        }
        tell(len(records), int((status != Status.OK).sum()))
        rows = Rows(self._theta[numbers], outputs, {}, status, np.zeros(len(records), np.int32), np.zeros(1, int))
        return Attempts(rows, np.ones(len(records), np.int8), np.zeros(2, int), self._z[numbers])
