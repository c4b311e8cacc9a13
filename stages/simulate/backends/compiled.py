"""Simulators in JAX: compiled, many rows in one call, and a second attempt where the config has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simfer.stages.model.outputs import Output, Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.attempts import build_attempts
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block
from simfer.stages.simulate.ensemble import build_simulator, least_rows
from simfer.stages.simulate.simulators.base import described


class Compiled(Backend):
    """Rows of a simulator in JAX."""

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        self._simulator, self._solve = build_simulator(settings), build_attempts(settings, space)

    @property
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter -> its unit."""
        return self._simulator.parameters

    @property
    def stochastic(self) -> bool:
        """Whether rows are random."""
        return self._simulator.stochastic

    @property
    def coordinate_units(self) -> Mapping[str, str]:
        """Unit of each coordinate, where it is known."""
        return getattr(self._simulator, "units", {})

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return least_rows(self.settings)

    @property
    def has_solver(self) -> bool:
        """Whether [simulate.solver] has a part in the rows."""
        return True

    def outputs(self) -> dict[str, Output]:
        """Describe each output."""
        return described(self._simulator)

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Solve the rows of a block in compiled calls."""
        attempts = self._solve(block.z, block.numbers, block.stream, block.like)
        tell(len(block.z), int((attempts.rows.status != Status.OK).sum()))
        return attempts
