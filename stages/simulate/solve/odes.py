"""An ODE as the lanes want it: flat vectors in place of the user's arrays and dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar

from simfer.stages.devices import platform
from simfer.stages.errors import UserCodeError
from simfer.stages.settings import Solver
from simfer.stages.simulate.solve.breaks import Breaks, Within, amounts_of, merge
from simfer.stages.simulate.solve.lanes import Engine
from simfer.stages.simulate.solve.solution import Solution, final_status
from simfer.stages.simulate.solve.solvers import Limits, build_solver, limits_of
from simfer.stages.simulate.solve.steppers import build_stepper

_CACHE = 2**15  # bytes of stages that the lanes may fill on a CPU: about the fastest memory of a core
# On anything else a step takes as long for few lanes as for many, as long as these fit into its memory.
_ACCELERATOR, _MEMORY = 2**17, 2**30  # lanes, bytes


class Equation(Protocol):
    """What is asked of a simulator here: an ordinary differential equation from its start to its outputs."""

    event: ClassVar[Callable[..., Any] | None]
    event_direction: ClassVar[bool | None]
    jumps: ClassVar[Callable[..., Any] | None]
    doses: ClassVar[Callable[..., Any] | None]
    times: np.ndarray

    @property
    def span(self) -> tuple[float, float]:
        """The times from which and to which the equation is solved."""

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at the start."""

    def vector_field(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Return dy/dt."""

    def observe(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the outputs at one time."""


class FlatODE:
    """A simulator's equation on flat vectors; one row's parameters and key say what shapes it has."""

    def __init__(self, simulator: Equation, p: dict[str, Scalar], key: PRNGKeyArray | None) -> None:
        self.simulator = simulator
        state = jax.eval_shape(self._state, p, key)
        seen = jax.eval_shape(lambda p, key: simulator.observe(jnp.asarray(0.0), self._state(p, key), p), p, key)
        flat, self.unravel = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state))
        self.named_outputs = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, float), seen))[1]
        self.size = flat.size

    def _state(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.simulator.begin(p, key))

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> Float[Array, " size"]:
        """Return the state at the start."""
        return ravel_pytree(self._state(p, key))[0]

    def vector_field(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar] | Within) -> Float[Array, " size"]:
        """Return dy/dt."""
        if isinstance(p, Within):
            return self.vector_field(p.clip(t), y, p.args)
        return ravel_pytree(self.simulator.vector_field(t, self.unravel(y), p))[0].astype(y.dtype)

    def observe(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Float[Array, " outputs"]:
        """Return the outputs at one time; `named_outputs` gives them their names and shapes again."""
        return ravel_pytree(self.simulator.observe(t, self.unravel(y), p))[0].astype(y.dtype)

    def event(self, t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Scalar:
        """Return what ends a solve: true there, or of another sign after it."""
        assert self.simulator.event is not None
        return jnp.asarray(self.simulator.event(t, self.unravel(y), p))

    @property
    def has_breaks(self) -> bool:
        """Whether the equation has jumps or doses."""
        return self.simulator.jumps is not None or self.simulator.doses is not None

    def breaks(self, p: dict[str, Scalar], state: PyTree) -> tuple[Breaks, Float[Array, " size"], Bool[Array, ""]]:
        """Return the jumps and doses of one row within its span, what is dosed at the start, and if all have a time."""
        jumps, times, amounts = jnp.zeros(0), jnp.zeros(0), jnp.zeros((0, self.size))
        if self.simulator.jumps is not None:
            jumps = jnp.ravel(jnp.asarray(self.simulator.jumps(p), float))
        if self.simulator.doses is not None:
            doses = self.simulator.doses(p)
            if not isinstance(doses, tuple) or len(doses) != 2:
                raise UserCodeError(f"doses: got {type(doses).__name__}, expected the pair (times, amounts)")
            times, given = jnp.ravel(jnp.asarray(doses[0], float)), doses[1]
            amounts = amounts_of(given, state, len(times))
        return merge(jumps, times, amounts, self.simulator.span)

    def engine(self, settings: Solver, width: int, limits: Limits | None = None) -> Engine:
        """Return what solves this equation in so many lanes."""
        start, stop = self.simulator.span
        limits = limits or limits_of(settings)
        solver = build_solver(settings, limits)

        def terms(_: PyTree) -> diffrax.ODETerm[Any]:
            return diffrax.ODETerm(self.vector_field)  # type: ignore[arg-type]

        return Engine(
            settings=settings,
            solver=solver,
            limits=limits,
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
    simulator: Equation,
    settings: Solver,
    parameters: dict[str, Float[Array, " rows"]],
    keys: PRNGKeyArray | None,
    count: Int[Array, ""],
    width: int | None = None,
    limits: Limits | None = None,
) -> tuple[Solution, Int[Array, ""]]:
    """Solve the first `count` rows of parameters (and keys), and say how many steps were done in all lanes.

    `limits` stand in the place of the settings' tolerances and longest step; they may be traced.
    """
    num = len(next(iter(parameters.values())))
    flat = FlatODE(simulator, *jax.tree.map(lambda values: values[0], (parameters, keys)))
    engine = flat.engine(settings, width or _width(flat.size, num), limits)

    def begin(at: Int[Array, ""], p: dict[str, Scalar], key: PRNGKeyArray | None) -> tuple[Any, Array | None]:
        if not flat.has_breaks:
            return engine.begin(at, flat.begin(p, key), p), None
        state = flat.begin(p, key)
        breaks, dosed, has_time = flat.breaks(p, flat.unravel(state))
        return engine.begin(at, state + dosed, p, breaks, has_time), flat.observe(jnp.asarray(engine.start), state, p)

    fresh, first = jax.vmap(begin, out_axes=-1)(jnp.arange(num, dtype=jnp.int32), parameters, keys)
    at_start = simulator.doses is not None and engine.times[0] == engine.start
    record = engine.solve(fresh, count, first if at_start else None)
    seen = record.outputs.reshape(num, len(simulator.times), -1)
    outputs = jax.vmap(jax.vmap(flat.named_outputs))(seen)
    status = jax.vmap(final_status)(outputs, record.status)
    return Solution(outputs, status, record.num_steps), record.steps_done


def _width(state_size: int, num: int) -> int:
    """Choose the number of lanes: a power of two that fits the fastest memory, with some rows for each lane."""
    stages = 13 * 8 * state_size  # bytes of a lane
    some = (_CACHE // stages, num // 8) if platform() == "cpu" else (_ACCELERATOR, _MEMORY // stages, num // 2)
    return 1 << max(min(some).bit_length() - 1, 2)


def solve_one(
    simulator: Equation, settings: Solver, parameters: dict[str, Scalar], key: PRNGKeyArray | None
) -> Solution:
    """Solve one row, in a lane of its own."""
    rows, keys = jax.tree.map(lambda leaf: leaf[None], (dict(parameters), key))
    solution, _ = solve_in_lanes(simulator, settings, rows, keys, jnp.asarray(1, jnp.int32), 1)
    row: Solution = jax.tree.map(lambda leaf: leaf[0], solution)
    return row
