"""What a simulator is: named parameters in, named outputs out, and word of whether it worked."""

from __future__ import annotations

import abc
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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


class ODESimulator(Simulator):
    """A simulator that is an ordinary differential equation, solved by Diffrax.

    `times` are the save times (of the outputs' "time" coordinate); `start` is the time of the initial state, the
    first save time if left out.
    """

    times: np.ndarray = eqx.field(converter=as_times)
    start: float | None = None

    @abc.abstractmethod
    def vector_field(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Return dy/dt, in the same structure as y."""

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar]) -> PyTree:
        """Return the state at `start`."""

    @abc.abstractmethod
    def observe(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the outputs at one time."""

    units: ClassVar[dict[str, str]] = {}
    """Unit of each output, and of "time"."""

    dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of the axes of each output that is no single number; by default NAME_0, NAME_1, ..."""

    def outputs(self) -> dict[str, Output]:
        """Describe each output: a series over `times`."""
        p = {name: jax.ShapeDtypeStruct((), float) for name in self.parameters}
        seen = eqx.filter_eval_shape(lambda p: self.observe(jnp.asarray(0.0), self.initial_state(p), p), p)
        axes = {name: self.dims.get(name, tuple(f"{name}_{i}" for i in range(v.ndim))) for name, v in seen.items()}
        return {
            name: Output(("time", *axes[name]),
                         {"time": self.times} | {d: np.arange(n) for d, n in zip(axes[name], value.shape, strict=True)},
                         self.units.get(name, ""))
            for name, value in seen.items()
        }  # fmt: skip

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation once; a solve that fails leaves its rows not finite and says why in the status."""
        start = float(self.times[0]) if self.start is None else self.start
        stop = max(float(self.times[-1]), start + 1e-12)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(self.vector_field),  # type: ignore[arg-type]
            getattr(diffrax, solver.solver)(),
            t0=start,
            t1=stop,
            dt0=solver.dt0,
            y0=jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.initial_state(parameters)),
            args=parameters,
            saveat=diffrax.SaveAt(ts=jnp.asarray(self.times), fn=self.observe),
            stepsize_controller=_controller(solver),
            adjoint=diffrax.ForwardMode(),  # the parameters are few
            max_steps=solver.max_steps,
            throw=False,
        )
        outputs = {name: jnp.asarray(value, float) for name, value in solution.ys.items()}
        return Solution(outputs, _status(outputs, _result(solution.result)), solution.stats["num_steps"])


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
