"""How many rows are solved in one compiled call: each kind of simulator has its own way, and it is chosen here."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from simfer.stages.model.outputs import Layout
from simfer.stages.settings import Simulate
from simfer.stages.simulate.simulators.base import (
    DifferentialSimulator,
    ODESimulator,
    RandomODESimulator,
    Simulator,
    described,
)
from simfer.stages.simulate.solve.odes import FlatODE, solve_in_lanes
from simfer.stages.simulate.solve.solution import Solution
from simfer.stages.simulate.solve.solvers import Limits

_BLOCK = 256  # rows of a function in one compiled call
LANES = 4096  # rows of an ODE in one compiled call on each device, so many that the last few cost little
# An accelerator is given many times as many of either, if they have room there: a step takes it as long for a
# thousand lanes as for ten thousand.
_MANY, _ROOM = 256, 2**30  # bytes
_COPIES = 16  # of a state: the stages of a step, an interpolant, and what is compared


@dataclass(frozen=True)
class Kind(abc.ABC):
    """A simulator with its settings, ready to solve rows; traced, it is a part of a compiled call."""

    simulator: Simulator
    settings: Simulate

    @property
    @abc.abstractmethod
    def most_rows(self) -> int:
        """The most rows of a call, on each device."""

    @abc.abstractmethod
    def num_kept(self, values: dict[str, Any], seeds: Any) -> int:
        """Count the numbers that a row takes beside its outputs, given the shapes of one row of each argument."""

    def most_rows_on(self, backend: str, values: dict[str, Any], seeds: Any) -> int:
        """Return the most rows of a call, on each device of this kind."""
        if backend == "cpu" or self.settings.batch_size:
            return self.most_rows
        row = 8 * (Layout(described(self.simulator)).size + self.num_kept(values, seeds))
        fitting = 1 << (max(_ROOM // row, 1).bit_length() - 1)
        return min(max(fitting, 16), _MANY * self.most_rows)

    @abc.abstractmethod
    def __call__(
        self,
        values: dict[str, Float[Array, " rows"]],
        real: Bool[Array, " rows"],
        seeds: Array,
        limits: Limits | None = None,
    ) -> tuple[Solution, Array]:
        """Solve rows of parameters, and say how many steps were done in all lanes (0 where there are none).

        Rows that are not `real` fill a call up and come last; `seeds` are the data of their random keys, and `limits`
        stand in the place of the tolerances of a solver.
        """


class Lanes(Kind):
    """Ordinary differential equations: a lane takes the next row as soon as its own solve has ended."""

    @property
    def most_rows(self) -> int:
        """The most rows of a call, on each device."""
        return LANES

    def num_kept(self, values: dict[str, Any], seeds: Any) -> int:
        """Count the numbers that a row takes beside its outputs: before its first step, and where it stands."""
        assert isinstance(self.simulator, DifferentialSimulator)
        keys = jax.eval_shape(jax.random.wrap_key_data, seeds) if self.simulator.stochastic else None
        return _COPIES * FlatODE(self.simulator, values, keys).size

    def __call__(
        self, values: dict[str, Array], real: Array, seeds: Array, limits: Limits | None = None
    ) -> tuple[Solution, Array]:
        """Solve rows of parameters, and say how many steps were done in all lanes."""
        assert isinstance(self.simulator, DifferentialSimulator)
        keys = jax.random.wrap_key_data(seeds) if self.simulator.stochastic else None
        count, settings = real.sum(dtype=jnp.int32), self.settings
        simulator = self.simulator
        solution, done = solve_in_lanes(simulator, settings.solver, values, keys, count, settings.batch_size, limits)
        if not simulator.per_interval and not simulator.has_summary:
            return solution, done

        def observed(solution: Solution, p: dict[str, Array], key: Array | None) -> Solution:
            return simulator.observed(solution, p, simulator.begin(p, key))

        along = (0, 0, None if keys is None else 0)
        return jax.vmap(observed, along)(solution, values, keys), done


class Blocks(Kind):
    """Any other function, vmapped over a block of rows."""

    @property
    def most_rows(self) -> int:
        """The most rows of a call, on each device."""
        return self.settings.batch_size or _BLOCK

    def num_kept(self, values: dict[str, Any], seeds: Any) -> int:
        """Count the numbers that a row takes beside its outputs: what a function needs on its way is not known."""
        return 0

    def __call__(
        self, values: dict[str, Array], real: Array, seeds: Array, limits: Limits | None = None
    ) -> tuple[Solution, Array]:
        """Solve rows of parameters; no step of theirs is known here."""

        def solve(values: dict[str, Array], seed: Array) -> Solution:
            key = jax.random.wrap_key_data(seed) if self.simulator.stochastic else None
            return self.simulator.solve(values, self.settings.solver, key)

        return jax.vmap(solve)(values, seeds), jnp.asarray(0)


_KINDS: dict[Any, type[Kind]] = {
    ODESimulator: Lanes,
    RandomODESimulator: Lanes,
    Simulator: Blocks,
}  # the first that fits


def choose_kind(simulator: Simulator, settings: Simulate) -> Kind:
    """Return what solves rows of a simulator of this kind."""
    made = next(made for kind, made in _KINDS.items() if isinstance(simulator, kind))
    return made(simulator, settings)
