"""Rows that are there already, and behind them those of a simulator."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.progress import Progress
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows

FIRST = "simulate-0"  # the stream whose first rows are there already


class Behind(Backend):
    """A backend whose first rows are read, and whose others a simulator gives.

    Args:
        num: How many of the first stream's rows are there already.
        simulator: Who gives those behind them.
        counts_anew: Whether the first of those is row 0 to the simulator.
    """

    def __init__(self, num: int, simulator: Backend, counts_anew: bool) -> None:
        super().__init__(simulator.settings, simulator.space)
        self.num, self.simulator, self.blocks_at_once = num, simulator, simulator.blocks_at_once
        self._begin = num if counts_anew else 0

    @abc.abstractmethod
    def read(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Give rows that are there already, with the points that they lie at."""

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
    def num_foreign(self) -> int:
        """How many of the last rows are points that nobody asked for."""
        return self.simulator.num_foreign

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return self.simulator.least_rows

    @property
    def has_solver(self) -> bool:
        """Whether [simulate.solver] has a part in the simulator's rows."""
        return self.simulator.has_solver

    def ready(self, progress: Progress) -> None:
        """Wait until the simulator can give rows."""
        self.simulator.ready(progress)

    def outputs(self) -> dict[str, Output]:
        """Describe each output, as the simulator has them."""
        return self.simulator.outputs()

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Read those rows of a block that are there, and have the simulator give the others."""
        there = self._are_there(block)
        parts = []
        if there.any():
            parts.append(self.read(block._replace(z=block.z[there], numbers=block.numbers[there]), tell))
        if not there.all():
            given = self._given(block, there)
            part = self.simulator.solve(given, tell)
            parts.append(part._replace(z=given.z if part.z is None else part.z))
        return parts[0] if len(parts) == 1 else joined(*parts)

    def _are_there(self, block: Block) -> np.ndarray:
        return block.numbers < (self.num if block.stream == FIRST else 0)

    def _given(self, block: Block, there: np.ndarray) -> Block:
        begin = self._begin if block.stream == FIRST else 0
        return block._replace(z=block.z[~there], numbers=block.numbers[~there] - begin)

    def know(self, layout: Layout) -> None:
        """Take the simulator's outputs from rows that are there already."""
        self.simulator.know(layout)

    def again(self, timed_out: Int[np.ndarray, " rows"], stream: str, folder: Path) -> Int[np.ndarray, " more"]:
        """Return those of the simulator's own rows that timed out, and now have more time."""
        num, begin = (self.num, self._begin) if stream == FIRST else (0, 0)
        return self.simulator.again(timed_out[timed_out >= num] - begin, stream, folder) + begin

    def written(self, block: Block) -> None:
        """Hear that a block is in the store."""
        there = self._are_there(block)
        if not there.all():
            begin = self._begin if block.stream == FIRST else 0
            self.simulator.written(block._replace(numbers=block.numbers[~there] - begin))

    def finished(self, folder: Path) -> None:
        """Hear that all blocks are, in the artifact's folder."""
        self.simulator.finished(folder)

    def close(self) -> None:
        """Let go of what the simulator needed."""
        self.simulator.close()


def joined(first: Attempts, second: Attempts) -> Attempts:
    """Return rows one below the other, all of whose points are said."""
    a, b = first.rows, second.rows
    assert first.z is not None and second.z is not None
    if a.derivatives.keys() != b.derivatives.keys():
        raise ConfigError([Mistake("simulate.derivatives", "the runs of a table have no derivatives; remove it")])
    rows = Rows(
        np.concatenate([a.theta, b.theta]),
        {name: np.concatenate([a.outputs[name], b.outputs[name]]) for name in b.outputs},
        {name: np.concatenate([a.derivatives[name], b.derivatives[name]]) for name in b.derivatives},
        np.concatenate([a.status, b.status]),
        np.concatenate([a.num_steps, b.num_steps]),
        b.steps_done,
    )
    attempt = np.concatenate([first.attempt, second.attempt])
    return Attempts(rows, attempt, first.effort + second.effort, np.concatenate([first.z, second.z]))
