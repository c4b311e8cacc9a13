"""What a simulator is: named parameters in, named outputs out, and word of whether it worked."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from simfer.stages.errors import UserCodeError
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
from simfer.stages.simulate.solve.steady import steady_state


class Simulator(eqx.Module):
    """Map named parameters to named outputs. Subclass one of the kinds below, not this."""

    parameters: ClassVar[dict[str, str]]
    """Name of each parameter -> its unit ("" for none)."""

    stochastic: ClassVar[bool] = False
    """Whether a simulation is random, and `solve` needs a key."""

    @abc.abstractmethod
    def outputs(self) -> dict[str, Output]:
        """Describe each output.

        Returns:
            An `Output` by the name of each: its dimensions, their coordinates, and its unit.
        """

    @abc.abstractmethod
    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; `key` is that of a stochastic one. A failure is a status, never an exception."""


def described(simulator: Simulator) -> dict[str, Output]:
    """Describe each output, with the unit that the class's `units` give where `outputs` gives none."""
    units = getattr(simulator, "units", {})
    return {
        name: replace(output, unit=units[name]) if not output.unit and units.get(name) else output
        for name, output in simulator.outputs().items()
    }


class FunctionSimulator(Simulator):
    """A simulator that is any pure JAX function. Subclass it: `parameters`, `outputs` and `__call__`.

    `simulate.simulator = "line.py:Line"` names it in a config; fields of its own are `simulate.options`. Many runs are
    one call of `jax.vmap`, so write it for one, in `jax.numpy`, without `if` on values.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import simfer
        >>> class Line(simfer.FunctionSimulator):
        ...     parameters = {"start": "cm", "speed": "cm/s"}  # each with its unit
        ...     times: tuple = (0.0, 0.5, 1.0)  # s
        ...
        ...     def outputs(self):
        ...         return {"position": simfer.Output(("time",), {"time": np.asarray(self.times)}, "cm")}
        ...
        ...     def __call__(self, parameters):
        ...         return {"position": parameters["start"] + parameters["speed"] * jnp.asarray(self.times)}
        >>> Line()({"start": 1.0, "speed": 2.0})["position"].tolist()
        [1.0, 2.0, 3.0]
    """

    @abc.abstractmethod
    def __call__(self, parameters: dict[str, Scalar]) -> dict[str, Float[Array, "..."]]:
        """Run it once.

        Args:
            parameters: The value of each parameter by name: float64 numbers, in their own units.

        Returns:
            Each output by name, of the shape and in the unit that `outputs` says. A run whose outputs are not finite
            counts as failed.
        """

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; the solver's settings have no part in it."""
        return _evaluated(self(parameters))


class StochasticSimulator(Simulator):
    """A simulator that is any pure JAX function of its parameters and a random key.

    As `FunctionSimulator`, but each run scatters as the key says; the emulator learns that scatter too.

    Example:
        >>> import jax
        >>> import simfer
        >>> class Noisy(simfer.StochasticSimulator):
        ...     parameters = {"mean": "cm", "spread": "cm"}
        ...
        ...     def outputs(self):
        ...         return {"x": simfer.Output(unit="cm")}  # a number
        ...
        ...     def __call__(self, parameters, key):
        ...         return {"x": parameters["mean"] + parameters["spread"] * jax.random.normal(key)}
        >>> Noisy()({"mean": 1.0, "spread": 0.1}, jax.random.key(0))["x"].shape
        ()
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """Run it once.

        Args:
            parameters: The value of each parameter by name: float64 numbers, in their own units.
            key: A JAX random key: all that is random comes of it alone. Split it for several draws.

        Returns:
            Each output by name, of the shape and in the unit that `outputs` says. A run whose outputs are not finite
            counts as failed.
        """

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run one simulation; the solver's settings have no part in it."""
        assert key is not None
        return _evaluated(self(parameters, key))


def _evaluated(values: Mapping[str, Any]) -> Solution:
    outputs = {name: jnp.asarray(value, float) for name, value in values.items()}
    return Solution(outputs, final_status(outputs, jnp.asarray(Status.OK)), jnp.asarray(0))


_MOST_TIMES = 10**7


def as_times(times: Any) -> np.ndarray:
    """Read save times: a list, or a table { start, stop, num } of evenly spaced ones."""
    if isinstance(times, Mapping):
        unknown = set(times) - {"start", "stop", "num"}
        if unknown or len(times) < 3:
            raise ValueError(f"got times = {dict(times)}, expected a list or {{ start, stop, num }}")
        if type(num := times["num"]) is not int or not 0 < num <= _MOST_TIMES:
            raise ValueError(f"got times.num = {num!r}, expected a whole number from 1 to {_MOST_TIMES:,}")
        times = np.linspace(times["start"], times["stop"], num)
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
        """Say how fast the state changes.

        Args:
            t: The time, in the unit of `times`.
            y: The state: an array, or a dict or tuple of arrays, as `initial_state` gives it.
            p: The value of each parameter by name: float64 numbers, in their own units.

        Returns:
            dy/dt, in the structure and the shapes of y.
        """

    @abc.abstractmethod
    def observe(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Say what is seen of the state at one time.

        Args:
            t: The time, in the unit of `times`.
            y: The state there.
            p: The value of each parameter by name.

        Returns:
            Each output by name, in its unit (`units`): a number, or an array with axes (`dims`); over all save times
            it gets a first axis more.
        """

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

    per_interval: ClassVar[tuple[str, ...]] = ()
    """Outputs that count since the start, and are wanted as what came in each interval: cases per week.

    The value at a save time is then what came since the one before it, the first one since `start`. Where the first
    save time is the start itself, outputs begin at the second.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of the axes of each output that is no single number; by default NAME_0, NAME_1, ..."""

    def summarize(self, series: dict[str, Array], p: dict[str, Scalar]) -> dict[str, Array]:
        """Say what is observed of whole series; override it for maxima, ratios, or the time of a peak.

        Args:
            series: Each output over the save times, intervals already as `per_interval` says.
            p: The value of each parameter by name.

        Returns:
            Each output by name: one of the series as it is, a number, or an array with axes of its own (`dims`).
        """
        return series

    def outputs(self) -> dict[str, Output]:
        """Describe each output: a series over `times`."""
        p = {name: jax.ShapeDtypeStruct((), float) for name in self.parameters}

        def observe(p: dict[str, Scalar]) -> dict[str, Array]:
            seen = self.observe(jnp.asarray(0.0), self.begin(p, jax.random.key(0)), p)
            return {name: jnp.asarray(value) for name, value in seen.items()}

        seen = eqx.filter_eval_shape(observe, p)
        if unknown := [name for name in self.per_interval if name not in seen]:
            what = f"{type(self).__name__}.per_interval names {unknown[0]}, expected what observe returns"
            raise UserCodeError(f"{what}: {', '.join(seen)}")
        described = {}
        for name, value in seen.items():
            dims = self.dims.get(name, tuple(f"{name}_{i}" for i in range(value.ndim)))
            axes = {dim: np.arange(n) for dim, n in zip(dims, value.shape, strict=True)}
            described[name] = Output(
                (self.coordinate, *axes),
                {self.coordinate: self.times[self._dropped :], **axes},
                self.units.get(name, ""),
            )
        return self._summarized(described) if self.has_summary else described

    def _summarized(self, described: dict[str, Output]) -> dict[str, Output]:
        """Describe what is observed of series: the series themselves, or arrays with axes of their own."""
        series = {name: jax.ShapeDtypeStruct(output.shape, float) for name, output in described.items()}
        p = {name: jax.ShapeDtypeStruct((), float) for name in self.parameters}

        def summarize(series: dict[str, Array], p: dict[str, Scalar]) -> dict[str, Array]:
            return {name: jnp.asarray(value) for name, value in self.summarize(series, p).items()}

        found = {}
        for name, value in eqx.filter_eval_shape(summarize, series, p).items():
            if name in described and described[name].shape == value.shape:
                found[name] = described[name]
                continue
            dims = self.dims.get(name, tuple(f"{name}_{i}" for i in range(value.ndim)))
            axes = {dim: np.arange(n) for dim, n in zip(dims, value.shape, strict=True)}
            found[name] = Output(tuple(axes), axes, self.units.get(name, ""))
        return found

    @property
    def has_summary(self) -> bool:
        """Whether something else is observed than the series."""
        return type(self).summarize is not DifferentialSimulator.summarize

    @property
    def _dropped(self) -> int:
        """How many save times have no interval before them."""
        return int(bool(self.per_interval) and self.span[0] >= float(self.times[0]))

    def observed(self, solution: Solution, p: dict[str, Scalar], state: PyTree) -> Solution:
        """Return a solution with what is observed of its series; `state` is the first."""
        outputs = self.by_interval(solution.outputs, p, state)
        if not self.has_summary:
            return solution._replace(outputs=outputs)
        seen = {name: jnp.asarray(value, float) for name, value in self.summarize(outputs, p).items()}
        return solution._replace(outputs=seen, status=final_status(seen, solution.status))

    def by_interval(self, outputs: dict[str, Array], p: dict[str, Scalar], state: PyTree) -> dict[str, Array]:
        """Return outputs with those that count since the start as what came in each interval; `state` is the first."""
        if not self.per_interval:
            return outputs
        first = self.observe(jnp.asarray(self.span[0]), state, p)
        found = {name: values[self._dropped :] for name, values in outputs.items()}
        for name in self.per_interval:
            before = jnp.asarray(first[name], float)[None] if not self._dropped else outputs[name][:1]
            found[name] = jnp.diff(found[name], axis=0, prepend=before)
        return found

    @property
    def span(self) -> tuple[float, float]:
        """The times from which and to which the equation is solved."""
        start = float(self.times[0]) if self.start is None else float(self.start)
        stop, least = float(self.times[-1]), max(1e-12, 4.0 * float(np.spacing(abs(start))))
        return start, stop if stop > start else start + least

    def _solve_ode(self, p: dict[str, Scalar], key: PRNGKeyArray | None, solver: Solver) -> Solution:
        if self.jumps is not None or self.doses is not None:
            solution = solve_one(self, solver, p, key)
            return self.observed(solution, p, self.begin(p, key))
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
        status = final_status(outputs, to_status(solution.result))
        return self.observed(Solution(outputs, status, solution.stats["num_steps"]), p, state)

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
    """A simulator that is an ordinary differential equation, solved by Diffrax. Subclass it.

    What it needs: `parameters` with their units, `initial_state`, `vector_field` and `observe`; what it may have:
    `units` of outputs and time, `event`, `jumps`, `doses`, `dims`. `simulate.simulator = "my_model.py:Decay"` names it
    in a config, `simulate.solver` says how it is solved, and its fields are `simulate.options`. Many are solved at
    once, so write it for one, in `jax.numpy`, without `if` on values.

    Args:
        times: The save times (of the outputs' "time" coordinate): a list that increases, or a table
            `{ start, stop, num }` of evenly spaced ones.
        start: The time of the initial state; the first save time if left out.
        steady: Whether it starts in the steady state of the vector field at `start`, the one that `initial_state`
            relaxes to.

    Example:
        >>> import simfer
        >>> class Decay(simfer.ODESimulator):
        ...     parameters = {"amount": "mg", "rate": "1/h"}
        ...     units = {"left": "mg", "time": "h"}
        ...
        ...     def initial_state(self, p):
        ...         return p["amount"]
        ...
        ...     def vector_field(self, t, y, p):
        ...         return -p["rate"] * y
        ...
        ...     def observe(self, t, y, p):
        ...         return {"left": y}
        >>> decay = Decay(times={"start": 0.0, "stop": 6.0, "num": 4})
        >>> decay.outputs()["left"].coords["time"].tolist(), decay.outputs()["left"].unit
        ([0.0, 2.0, 4.0, 6.0], 'mg')
    """

    steady: bool = False

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar]) -> PyTree:
        """Say where it starts, or, if `steady`, what it relaxes from before.

        Args:
            p: The value of each parameter by name: float64 numbers, in their own units.

        Returns:
            The state at `start`: an array, or a dict or tuple of arrays.
        """

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""
        state = self.initial_state(p)
        if not self.steady:
            return state
        at = jnp.asarray(self.span[0])
        return steady_state(lambda y: self.vector_field(at, y, p), state)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once; a solve that fails leaves its rows not finite and says why in the status."""
        return self._solve_ode(parameters, None, solver)


class RandomODESimulator(DifferentialSimulator):
    """A simulator that is an ordinary differential equation with a random initial state, solved by Diffrax.

    As `ODESimulator`, but `initial_state` takes a key, to draw from; the emulator learns the scatter that comes of it.

    Args:
        times: The save times: a list that increases, or a table `{ start, stop, num }`.
        start: The time of the initial state; the first save time if left out.

    Example:
        >>> import jax
        >>> import simfer
        >>> class Decay(simfer.RandomODESimulator):
        ...     parameters = {"amount": "mg", "spread": "mg", "rate": "1/h"}
        ...     units = {"left": "mg", "time": "h"}
        ...
        ...     def initial_state(self, p, key):
        ...         return p["amount"] + p["spread"] * jax.random.normal(key)
        ...
        ...     def vector_field(self, t, y, p):
        ...         return -p["rate"] * y
        ...
        ...     def observe(self, t, y, p):
        ...         return {"left": y}
        >>> Decay(times=[0.0, 2.0, 6.0]).outputs()["left"].shape
        (3,)
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> PyTree:
        """Draw where it starts.

        Args:
            p: The value of each parameter by name: float64 numbers, in their own units.
            key: A JAX random key: all that is random comes of it alone. Split it for several draws.

        Returns:
            The state at `start`: an array, or a dict or tuple of arrays.
        """

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""
        assert key is not None
        return self.initial_state(p, key)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once, from a random state."""
        return self._solve_ode(parameters, key, solver)
