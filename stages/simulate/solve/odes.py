"""An ODE as the lanes want it: flat vectors in place of the user's arrays and dictionaries."""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from simfer.stages.settings import Solver
from simfer.stages.simulate.simulators.base import DifferentialSimulator, Solution, final_status
from simfer.stages.simulate.solve.lanes import Engine
from simfer.stages.simulate.solve.solvers import build_controller, build_solver
from simfer.stages.simulate.solve.steppers import build_stepper

_CACHE = 2**15  # bytes of stages that the lanes may fill on a CPU: about the fastest memory of a core
_ACCELERATOR = 2**15  # lanes on anything else


class FlatODE:
    """A simulator's equation on flat vectors; one row's parameters and key say what shapes it has."""

    def __init__(self, simulator: DifferentialSimulator, p: dict[str, Scalar], key: PRNGKeyArray | None) -> None:
        self.simulator = simulator
        state = jax.eval_shape(self._state, p, key)
        seen = jax.eval_shape(lambda p, key: simulator.observe(jnp.asarray(0.0), self._state(p, key), p), p, key)
        flat, self._unravel = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state))
        self.named_outputs = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, float), seen))[1]
        self.size = flat.size

    def _state(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.simulator.begin(p, key))

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> Float[Array, " size"]:
        """Return the state at the start."""
        return ravel_pytree(self._state(p, key))[0]

    def vector_field(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Float[Array, " size"]:
        """Return dy/dt."""
        return ravel_pytree(self.simulator.vector_field(t, self._unravel(y), p))[0].astype(y.dtype)

    def observe(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Float[Array, " outputs"]:
        """Return the outputs at one time; `named_outputs` gives them their names and shapes again."""
        return ravel_pytree(self.simulator.observe(t, self._unravel(y), p))[0].astype(y.dtype)

    def event(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Scalar:
        """Return what ends a solve: true there, or of another sign after it."""
        assert self.simulator.event is not None
        return jnp.asarray(self.simulator.event(t, self._unravel(y), p))

    def engine(self, settings: Solver, width: int) -> Engine:
        """Return what solves this equation in so many lanes."""
        start, stop = self.simulator.span
        solver = build_solver(settings)

        def terms(_: PyTree) -> diffrax.ODETerm[Any]:
            return diffrax.ODETerm(self.vector_field)  # type: ignore[arg-type]

        return Engine(
            settings=settings,
            solver=solver,
            controller=build_controller(settings),
            terms=terms,
            stepper=build_stepper(solver, terms, self.vector_field),
            observe=self.observe,
            event=None if self.simulator.event is None else self.event,
            event_direction=self.simulator.event_direction,
            times=np.asarray(self.simulator.times),
            start=start,
            stop=stop,
            width=width,
        )


def solve_in_lanes(
    simulator: DifferentialSimulator,
    settings: Solver,
    parameters: dict[str, Float[Array, " rows"]],
    keys: PRNGKeyArray | None,
    count: Int[Array, ""],
    width: int | None = None,
) -> tuple[Solution, Int[Array, ""]]:
    """Solve the first `count` rows of parameters (and keys), and say how many steps were done in all lanes."""
    num = len(next(iter(parameters.values())))
    flat = FlatODE(simulator, *jax.tree.map(lambda values: values[0], (parameters, keys)))
    engine = flat.engine(settings, width or _width(flat.size, num))

    def begin(at: Int[Array, ""], p: dict[str, Scalar], key: PRNGKeyArray | None) -> Any:
        return engine.begin(at, flat.begin(p, key), p)

    fresh = jax.vmap(begin, out_axes=-1)(jnp.arange(num, dtype=jnp.int32), parameters, keys)
    record = engine.solve(fresh, count)
    seen = record.outputs.reshape(-1, num, len(simulator.times)).transpose(1, 2, 0)
    outputs = jax.vmap(jax.vmap(flat.named_outputs))(seen)
    status = jax.vmap(final_status)(outputs, record.status)
    return Solution(outputs, status, record.num_steps), record.steps_done


def _width(state_size: int, num: int) -> int:
    """Choose the number of lanes: a power of two that fits the fastest memory, with some rows for each lane."""
    fitting = _CACHE // (13 * 8 * state_size) if jax.default_backend() == "cpu" else _ACCELERATOR
    return 1 << max(min(fitting, num // 8).bit_length() - 1, 2)
