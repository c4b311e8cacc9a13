"""What a simulator is: named parameters in, named outputs out, and word of whether it worked."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.model.outputs import Status as Status
from simfer.stages.settings import Solver
from simfer.stages.simulate.solve.odes import solve_one
from simfer.stages.simulate.solve.solution import Solution as Solution
from simfer.stages.simulate.solve.solution import final_status
from simfer.stages.simulate.solve.solvers import (
    build_controller,
    build_solver,
    first_step,
    limits_of,
    scaled_atol,
    to_status,
)


class Simulator(eqx.Module):
    """Map named parameters to named outputs. Subclass one of the kinds below, not this."""

    parameters: ClassVar[dict[str, str]]
    """Name of each parameter -> its unit ("" for none)."""

    stochastic: ClassVar[bool] = False
    """Whether a simulation is random, and `solve` needs a key."""

    @abc.abstractmethod
    def outputs(self) -> dict[str, Output]:
        """Describe each output by name."""

    @abc.abstractmethod
    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; `key` is that of a stochastic one. A failure is a status, never an exception."""


class FunctionSimulator(Simulator):
    """A simulator that is any pure JAX function."""

    @abc.abstractmethod
    def __call__(self, parameters: dict[str, Scalar]) -> dict[str, Float[Array, "..."]]:
        """Return every output for one set of parameters."""

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; the solver's settings have no part in it."""
        return _evaluated(self(parameters))


class StochasticSimulator(Simulator):
    """A simulator that is any pure JAX function of its parameters and a random key."""

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """Return every output of one random simulation."""

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; the solver's settings have no part in it."""
        assert key is not None
        return _evaluated(self(parameters, key))


def _evaluated(values: Mapping[str, Any]) -> Solution:
    outputs = {name: jnp.asarray(value, float) for name, value in values.items()}
    return Solution(outputs, final_status(outputs, jnp.asarray(Status.OK)), jnp.asarray(0))


def as_times(times: Any) -> np.ndarray:
    """Read save times: a list, or a table { start, stop, num } of evenly spaced ones."""
    if isinstance(times, Mapping):
        unknown = set(times) - {"start", "stop", "num"}
        if unknown or len(times) < 3:
            raise ValueError(f"got times = {dict(times)}, expected a list or {{ start, stop, num }}")
        times = np.linspace(times["start"], times["stop"], times["num"])
    times = np.asarray(times, float)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"got times = {times}, expected finite numbers that increase")
    return times


class DifferentialSimulator(Simulator):
    """What every simulator that is a differential equation has. Subclass one of the kinds below, not this.

    `times` are the save times (of the outputs' `coordinate`); `start` is the time of the initial state, the first save
    time if left out.
    """

    coordinate: ClassVar[str] = "time"
    """What the equation runs over, by the name that the outputs and the data give it."""

    times: np.ndarray = eqx.field(converter=as_times)
    start: float | None = None

    @abc.abstractmethod
    def vector_field(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Return dy/dt, in the same structure as y."""

    @abc.abstractmethod
    def observe(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the outputs at one time."""

    @abc.abstractmethod
    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`; each kind knows how its `initial_state` is called."""

    units: ClassVar[dict[str, str]] = {}
    """Unit of each output, and of the coordinate."""

    event: ClassVar[Callable[..., Any] | None] = None
    """A method (t, y, p) that ends the solve: where it is true after a step, or where a real value changes its sign.

    Outputs after that hold the state of that moment.
    """

    event_direction: ClassVar[bool | None] = None
    """Whether an event's value must go up (True) or down (False) through zero; either way if None."""

    jumps: ClassVar[Callable[..., Any] | None] = None
    """A method (p) -> times at which the vector field jumps: an infusion that begins or ends, a lockdown, a lag.

    A step ends at each of them exactly. They may depend on the parameters; there may be any fixed number of them, in
    any order, and those outside the solve do nothing.
    """

    doses: ClassVar[Callable[..., Any] | None] = None
    """A method (p) -> (times, amounts) of what is added to the state at a moment: boluses, releases, harvests (< 0).

    `amounts` has the structure of the state, each part one number for all doses or, as its first axis, one for each;
    0.0 where nothing is added. Both may depend on the parameters. An output at the very time of a dose is that just
    before it (a trough); a dose at `start` is given, one before it cannot be: the row fails.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of the axes of each output that is no single number; by default NAME_0, NAME_1, ..."""

    def outputs(self) -> dict[str, Output]:
        """Describe each output: a series over `times`."""
        p = {name: jax.ShapeDtypeStruct((), float) for name in self.parameters}

        def observe(p: dict[str, Scalar]) -> dict[str, Array]:
            seen = self.observe(jnp.asarray(0.0), self.begin(p, jax.random.key(0)), p)
            return {name: jnp.asarray(value) for name, value in seen.items()}

        seen = eqx.filter_eval_shape(observe, p)
        described = {}
        for name, value in seen.items():
            dims = self.dims.get(name, tuple(f"{name}_{i}" for i in range(value.ndim)))
            axes = {dim: np.arange(n) for dim, n in zip(dims, value.shape, strict=True)}
            described[name] = Output(
                (self.coordinate, *axes), {self.coordinate: self.times, **axes}, self.units.get(name, "")
            )
        return described

    @property
    def span(self) -> tuple[float, float]:
        """The times from which and to which the equation is solved."""
        start = float(self.times[0]) if self.start is None else float(self.start)
        stop, least = float(self.times[-1]), max(1e-12, 4.0 * float(np.spacing(abs(start))))
        return start, stop if stop > start else start + least

    def _solve_ode(self, p: dict[str, Scalar], key: PRNGKeyArray | None, solver: Solver) -> Solution:
        if self.jumps is not None or self.doses is not None:
            return solve_one(self, solver, p, key)
        term = diffrax.ODETerm(self.vector_field)  # type: ignore[arg-type]
        y = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.begin(p, key))
        (start, stop), limits = self.span, limits_of(solver)
        atol = scaled_atol(solver, limits.atol, y, term.vf(jnp.asarray(start), y, p), stop - start)
        limits = limits._replace(atol=atol)
        controller = build_controller(solver, limits)
        dt0 = first_step(solver, controller, term, start, stop, y, p)
        solution = self._integrate(
            p, y, self.observe, term, build_solver(solver, limits), dt0, controller, solver.max_steps
        )
        # Where not even the start is a number, Diffrax tries steps until it has no more.
        status = jnp.where(jnp.isfinite(dt0), solution.status, jnp.int8(Status.NOT_FINITE))
        return solution._replace(status=status)

    def _integrate(
        self,
        p: dict[str, Scalar],
        state: PyTree,
        observe: Callable[..., Any],
        terms: Any,
        method: Any,
        dt0: Array | None,
        controller: Any,
        max_steps: int,
    ) -> Solution:
        start, stop = self.span
        series = diffrax.SubSaveAt(ts=jnp.asarray(self.times), fn=observe)
        solution = diffrax.diffeqsolve(
            terms,
            method,
            t0=start,
            t1=stop,
            dt0=dt0,
            y0=state,
            args=p,
            saveat=diffrax.SaveAt(subs=(series, diffrax.SubSaveAt(t1=True, fn=observe))),
            stepsize_controller=controller,
            event=self._event(),
            adjoint=diffrax.ForwardMode(),  # the parameters are few
            max_steps=max_steps,
            throw=False,
        )
        outputs = self._held(solution) if self.event is not None else solution.ys[0]
        outputs = {name: jnp.asarray(value, float) for name, value in outputs.items()}
        return Solution(outputs, final_status(outputs, to_status(solution.result)), solution.stats["num_steps"])

    def _event(self) -> diffrax.Event | None:
        if self.event is None:
            return None
        happens = self.event
        finder: Any = optimistix.Newton(rtol=1e-10, atol=1e-10 * min(1.0, self.span[1] - self.span[0]))
        return diffrax.Event(lambda t, y, args, **_: happens(t, y, args), finder, self.event_direction)

    @staticmethod
    def _held(solution: diffrax.Solution) -> dict[str, Array]:
        """Return the outputs, those after an event replaced by those at the event."""
        ended = solution.result == diffrax.RESULTS.event_occurred
        (_, (stop,)), (series, last) = solution.ts, solution.ys  # type: ignore[misc]
        after = ended & ~(jnp.asarray(solution.ts[0]) <= stop)  # type: ignore[index]
        return {
            name: jnp.where(after.reshape(-1, *[1] * (values.ndim - 1)), last[name], values)
            for name, values in series.items()
        }


class ODESimulator(DifferentialSimulator):
    """A simulator that is an ordinary differential equation, solved by Diffrax.

    `times` are the save times (of the outputs' "time" coordinate); `start` is the time of the initial state, the
    first save time if left out.
    """

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar]) -> PyTree:
        """Return the state at `start`."""

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""
        return self.initial_state(p)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once; a solve that fails leaves its rows not finite and says why in the status."""
        return self._solve_ode(parameters, None, solver)


class RandomODESimulator(DifferentialSimulator):
    """A simulator that is an ordinary differential equation with a random initial state, solved by Diffrax.

    As `ODESimulator`, but `initial_state` takes a key, to draw from.
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> PyTree:
        """Return a random state at `start`."""

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""
        assert key is not None
        return self.initial_state(p, key)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once, from a random state."""
        return self._solve_ode(parameters, key, solver)
