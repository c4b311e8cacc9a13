"""What a simulator is: named parameters in, named outputs out, and word of whether it worked."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from stages.settings import Solver


class Status(enum.IntEnum):
    """How one simulation ended."""

    PENDING = -1
    OK = 0
    MAX_STEPS = 1
    STEP_TOO_SMALL = 2
    NOT_FINITE = 3
    NONLINEAR_SOLVE = 4
    OTHER = 5


@dataclass(frozen=True)
class Output:
    """One output's layout: its dimensions, their coordinates, and its unit."""

    dims: tuple[str, ...] = ()
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)
    unit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=int))


class Solution(NamedTuple):
    """One simulation: its outputs, how it ended (a `Status`), and the solver steps that it took."""

    outputs: dict[str, Float[Array, "..."]]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]


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
    return Solution(outputs, _status(outputs, jnp.asarray(Status.OK)), jnp.asarray(0))


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


class _Differential(Simulator):
    """What every simulator that is a differential equation has.

    `times` are the save times (of the outputs' "time" coordinate); `start` is the time of the initial state, the
    first save time if left out.
    """

    times: np.ndarray = eqx.field(converter=as_times)
    start: float | None = None

    @abc.abstractmethod
    def vector_field(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Return dy/dt, in the same structure as y."""

    @abc.abstractmethod
    def observe(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the outputs at one time."""

    @abc.abstractmethod
    def _begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""

    units: ClassVar[dict[str, str]] = {}
    """Unit of each output, and of "time"."""

    def outputs(self) -> dict[str, Output]:
        """Describe each output: a series over `times`."""
        p = {name: jax.ShapeDtypeStruct((), float) for name in self.parameters}
        seen = eqx.filter_eval_shape(lambda p: self.observe(jnp.asarray(0.0), self._begin(p, jax.random.key(0)), p), p)
        return {
            name: Output(("time",) + tuple(f"{name}_{i}" for i in range(value.ndim)),
                         {"time": self.times} | {f"{name}_{i}": np.arange(n) for i, n in enumerate(value.shape)},
                         self.units.get(name, ""))
            for name, value in seen.items()
        }  # fmt: skip

    @property
    def span(self) -> tuple[float, float]:
        """When the solver starts and stops."""
        start = float(self.times[0]) if self.start is None else float(self.start)
        return start, max(float(self.times[-1]), start + 1e-12)

    def _solve(
        self,
        p: dict[str, Scalar],
        state: PyTree,
        observe: Any,
        terms: Any,
        method: Any,
        dt0: float | None,
        controller: Any,
        max_steps: int,
    ) -> Solution:
        start, stop = self.span
        solution = diffrax.diffeqsolve(
            terms,
            method,
            t0=start,
            t1=stop,
            dt0=dt0,
            y0=jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state),
            args=p,
            saveat=diffrax.SaveAt(ts=jnp.asarray(self.times), fn=observe),
            stepsize_controller=controller,
            adjoint=diffrax.ForwardMode(),  # the parameters are few
            max_steps=max_steps,
            throw=False,
        )
        outputs = {name: jnp.asarray(value, float) for name, value in solution.ys.items()}
        return Solution(outputs, _status(outputs, _result(solution.result)), solution.stats["num_steps"])

    def _solve_ode(self, p: dict[str, Scalar], state: PyTree, solver: Solver) -> Solution:
        term, method = diffrax.ODETerm(self.vector_field), getattr(diffrax, solver.solver)()  # type: ignore[arg-type]
        return self._solve(p, state, self.observe, term, method, solver.dt0, _controller(solver), solver.max_steps)


class ODESimulator(_Differential):
    """A simulator that is an ordinary differential equation, solved by Diffrax.

    `times` are the save times (of the outputs' "time" coordinate); `start` is the time of the initial state, the
    first save time if left out.
    """

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar]) -> PyTree:
        """Return the state at `start`."""

    def _begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        return self.initial_state(p)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once; a solve that fails leaves its rows not finite and says why in the status."""
        return self._solve_ode(parameters, self._begin(parameters, None), solver)


class RandomODESimulator(_Differential):
    """A simulator that is an ordinary differential equation with a random initial state, solved by Diffrax.

    As `ODESimulator`, but `initial_state` takes a key, to draw from.
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> PyTree:
        """Return a random state at `start`."""

    def _begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        assert key is not None
        return self.initial_state(p, key)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once, from a random state."""
        return self._solve_ode(parameters, self._begin(parameters, key), solver)


SDE_SOLVERS: dict[str, str] = {
    **dict.fromkeys(("Euler", "ItoMilstein"), "Itô"),
    **dict.fromkeys(("SEA", "SRA1", "ShARK"), "additive noise"),
    **dict.fromkeys(("EulerHeun", "Heun", "Midpoint", "Ralston", "StratonovichMilstein"), "Stratonovich"),
    **dict.fromkeys(("GeneralShARK", "SPaRK", "SlowRK"), "Stratonovich"),
}
"""Diffrax's solvers of a stochastic differential equation, each with how it reads the noise."""

_SDE_SOLVER, _SDE_STEPS = "Euler", 1000  # where the config names no solver, and no step


class SDESimulator(_Differential):
    """A simulator that is a stochastic differential equation, dy = vector_field dt + diffusion dW, solved by Diffrax.

    The solver says how the noise is read (`SDE_SOLVERS`). The default is Euler-Maruyama's (Ito's integral), in steps
    of `simulate.solver.dt0`, a thousandth of the whole time if left out. Every save time is the end of a step.
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> PyTree:
        """Return the state at `start`, drawn from the key or not."""

    @abc.abstractmethod
    def diffusion(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Return the noise's amplitude, in the structure of y: each component has a noise of its own.

        Or each leaf has a last axis more: it runs over noises that all components share.
        """

    def _begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        assert key is not None
        return self.initial_state(p, key)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation along one path of the noise, which the key alone decides."""
        assert key is not None
        start_key, noise_key = jax.random.split(key)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self._begin(parameters, start_key))
        flat, unravel = ravel_pytree(state)
        method, controller, shortest = self._stepping(solver)
        amplitude = self._amplitude(unravel)
        noise = jax.eval_shape(lambda y, p: amplitude(0.0, y, p), flat, parameters).in_structure()
        area: Any = diffrax.SpaceTimeLevyArea if hasattr(method, "minimal_levy_area") else diffrax.BrownianIncrement
        path: Any
        if shortest is None:  # steps that are known beforehand ask for each increment just once, and need no tree
            path = diffrax.UnsafeBrownianPath(noise, noise_key, levy_area=area)
        else:
            path = diffrax.VirtualBrownianTree(*self.span, 0.5 * shortest, noise, noise_key, levy_area=area)
        drift = diffrax.ODETerm(lambda t, y, p: ravel_pytree(self.vector_field(jnp.asarray(t), unravel(y), p))[0])
        terms: Any = diffrax.MultiTerm(drift, diffrax.ControlTerm(amplitude, path))
        observe = lambda t, y, p: self.observe(t, unravel(y), p)  # noqa: E731
        return self._solve(parameters, flat, observe, terms, method, None, controller, solver.max_steps)

    def _stepping(self, solver: Solver) -> tuple[Any, Any, float | None]:
        """Return the solver, what chooses its steps, and the shortest that it may choose (None: they are fixed).

        Every save time ends a step: between its ends a step knows nothing of the noise's path.
        """
        method: Any = getattr(diffrax, sde_solver(solver))()
        start, stop = self.span
        if isinstance(method, diffrax.AbstractAdaptiveSolver) and not solver.fixed_step:
            shortest = (stop - start) * 2**-20
            steps = diffrax.PIDController(rtol=solver.rtol, atol=solver.atol, dtmin=shortest)
            # Kept, so that no step is chosen by its own noise (Foster & Jelincic 2024).
            return method, diffrax.ClipStepSizeController(steps, self.times, store_rejected_steps=100), shortest
        return method, diffrax.StepTo(ts=jnp.asarray(self._step_ends(solver))), None

    def _step_ends(self, solver: Solver) -> Float[np.ndarray, " steps+1"]:
        start, stop = self.span
        length = solver.dt0 or (stop - start) / _SDE_STEPS
        knots = np.unique([start, *self.times, stop])
        counts = np.maximum(np.ceil(np.diff(knots) / length - 1e-9), 1).astype(int)
        parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(knots, knots[1:], counts, strict=False)]
        return np.append(np.concatenate(parts), stop)

    def num_steps(self, solver: Solver) -> int:
        """Return the number of steps, where they are fixed."""
        return len(self._step_ends(solver)) - 1

    def is_additive(self, p: dict[str, Scalar]) -> bool:
        """Say whether the diffusion leaves the state aside, judged near the initial one."""
        state = self._begin(p, jax.random.key(0))
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state))
        amplitude = lambda y: ravel_pytree(self.diffusion(jnp.asarray(self.span[0]), unravel(y), p))[0]  # noqa: E731
        slope = jax.jacfwd(amplitude)(flat + 0.1 * (1.0 + jnp.abs(flat)))
        return not bool((slope != 0.0).any())

    def _amplitude(self, unravel: Callable[[Array], PyTree]) -> Callable[[Any, Array, Any], Any]:
        """Return the diffusion as a linear operator from the noises to the flat state's components."""

        def amplitude(t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Any:
            state = unravel(y)
            given = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.diffusion(t, state, p))
            shapes, wanted = jax.tree.map(jnp.shape, given), jax.tree.map(jnp.shape, state)
            if shapes == wanted:
                return lx.DiagonalLinearOperator(ravel_pytree(given)[0])
            leaves, over = jax.tree.leaves(given), jax.tree.leaves(state)
            shared = {leaf.shape[-1] if leaf.ndim else None for leaf in leaves}
            if len(shared) != 1 or [leaf.shape[:-1] for leaf in leaves] != [leaf.shape for leaf in over]:
                raise ValueError(f"diffusion: got shapes {shapes}, expected {wanted}, or those with a last axis more")
            return lx.MatrixLinearOperator(jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]))

        return amplitude


def sde_solver(solver: Solver) -> str:
    """Return the solver that a config names for an SDE; the default is not that of an ODE."""
    return solver.solver if "solver" in solver.model_fields_set else _SDE_SOLVER


def _controller(solver: Solver) -> diffrax.AbstractStepSizeController[Any, Any]:
    if solver.fixed_step:
        return diffrax.ConstantStepSize()
    return diffrax.PIDController(rtol=solver.rtol, atol=solver.atol)


def _result(result: diffrax.RESULTS) -> Int[Array, ""]:
    """Translate Diffrax's word on a solve into a `Status`."""
    known = {
        Status.OK: (diffrax.RESULTS.successful, diffrax.RESULTS.event_occurred),
        Status.MAX_STEPS: (diffrax.RESULTS.max_steps_reached, diffrax.RESULTS.max_steps_rejected),
        Status.STEP_TOO_SMALL: (diffrax.RESULTS.dt_min_reached,),
        Status.NONLINEAR_SOLVE: (
            diffrax.RESULTS.nonlinear_max_steps_reached,
            diffrax.RESULTS.nonlinear_divergence,
        ),
    }
    status = jnp.asarray(int(Status.OTHER))
    for value, results in known.items():
        for each in results:
            status = jnp.where(result == each, int(value), status)
    return status


def _status(outputs: dict[str, Array], status: Int[Array, ""]) -> Int[Array, ""]:
    # Fixed-step solvers report success with NaN in the state: finiteness is checked beside the result.
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in outputs.values()]))
    return jnp.where((status == Status.OK) & ~finite, int(Status.NOT_FINITE), status).astype(jnp.int8)
