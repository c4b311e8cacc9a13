"""Rows that a smaller ensemble of the same config has already, before those that are new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simfer.stages.artifacts.arrays import DERIVATIVES, array
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Layout, Output, Status
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows
from simfer.stages.simulate.backends.table import FIRST, joined


class KeptFirst(Backend):
    """The first rows of another artifact, which depend on the config and their number alone, and then a backend's."""

    def __init__(self, kept: Simulations, num: int, simulator: Backend) -> None:
        super().__init__(simulator.settings, simulator.space)
        self.kept, self.num, self.simulator, self.blocks_at_once = kept, num, simulator, simulator.blocks_at_once

    @property
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter that the simulator takes -> its unit."""
        return self.simulator.parameters

    @property
    def stochastic(self) -> bool:
        """Whether rows are random."""
        return self.simulator.stochastic

    @property
    def coordinate_units(self) -> Mapping[str, str]:
        """Unit of each coordinate, where it is known."""
        return self.simulator.coordinate_units

    @property
    def num_finished(self) -> int:
        """How many of the first rows are finished runs."""
        return self.simulator.num_finished

    @property
    def num_foreign(self) -> int:
        """How many of the last rows are points that nobody asked for."""
        return self.simulator.num_foreign

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return self.simulator.least_rows

    @property
    def has_solver(self) -> bool:
        """Whether [simulate.solver] has a part in the rows."""
        return self.simulator.has_solver

    def outputs(self) -> dict[str, Output]:
        """Describe each output."""
        return self.simulator.outputs()

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Read those rows of a block that are kept, and have the others solved."""
        kept = block.numbers < (self.num if block.stream == FIRST else 0)
        parts = []
        if kept.any():
            parts.append(self._read(int(block.numbers[0]), int(block.numbers[kept][-1]) + 1, tell))
        if not kept.all():
            z = block.z[~kept]
            part = self.simulator.solve(block._replace(z=z, numbers=block.numbers[~kept]), tell)
            parts.append(part._replace(z=z if part.z is None else part.z))
        return parts[0] if len(parts) == 1 else joined(*parts)

    def _read(self, start: int, stop: int, tell: Callable[[int, int], Any]) -> Attempts:
        def read(name: str) -> np.ndarray:
            return np.asarray(array(self.kept.group, name)[start:stop])

        status, outputs = read("status"), list(self.outputs())
        slopes = [name for name in outputs if self.settings.derivatives]
        rows = Rows(
            np.stack([read(name) for name in self.space.names], axis=1),
            {name: read(name) for name in outputs},
            {name: read(name + DERIVATIVES) for name in slopes},
            status,
            read("num_steps"),
            np.zeros(1, int),
        )
        tell(len(status), int((status != Status.OK).sum()))
        return Attempts(rows, self.kept.endings()[2][start:stop], np.zeros(2, int), read("z"))

    def know(self, layout: Layout) -> None:
        """Take the outputs from rows that are there already."""
        self.simulator.know(layout)

    def written(self, block: Block) -> None:
        """Hear that a block is in the store."""
        num = self.num if block.stream == FIRST else 0
        if len(numbers := block.numbers[block.numbers >= num]):
            self.simulator.written(block._replace(numbers=numbers))

    def finished(self, folder: Path) -> None:
        """Hear that all blocks are, in the artifact's folder."""
        self.simulator.finished(folder)

    def close(self) -> None:
        """Let go of what the simulator needed."""
        self.simulator.close()
