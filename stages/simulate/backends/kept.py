"""Rows that a smaller ensemble of the same config has already, before those that are new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simfer.stages.artifacts.arrays import DERIVATIVES, array
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.simulate.backends.behind import Behind
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows


class KeptFirst(Behind):
    """The first rows of another artifact, which depend on the config and their number alone, and then a backend's."""

    def __init__(self, kept: Simulations, num: int, simulator: Backend) -> None:
        super().__init__(num, simulator, counts_anew=False)
        self.kept = kept

    @property
    def num_finished(self) -> int:
        """How many of the first rows are finished runs."""
        return self.simulator.num_finished

    def read(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Give rows as the other artifact has them."""
        start, stop = int(block.numbers[0]), int(block.numbers[-1]) + 1

        def column(name: str) -> np.ndarray:
            return np.asarray(array(self.kept.group, name)[start:stop])

        status, outputs = column("status"), list(self.outputs())
        slopes = [name for name in outputs if self.settings.derivatives]
        rows = Rows(
            np.stack([column(name) for name in self.space.names], axis=1),
            {name: column(name) for name in outputs},
            {name: column(name + DERIVATIVES) for name in slopes},
            status,
            column("num_steps"),
            np.zeros(1, int),
        )
        tell(len(status), int((status != Status.OK).sum()))
        return Attempts(rows, self.kept.endings()[2][start:stop], np.zeros(2, int), column("z"))
