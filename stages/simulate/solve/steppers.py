"""One solver step in every lane at once. Arrays carry the lanes last, so that a processor's vectors run along them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Scalar
from numpy.polynomial import Chebyshev, Polynomial, chebyshev

from simfer.stages.model.outputs import Status
from simfer.stages.simulate.solve.batching import along_rows
from simfer.stages.simulate.solve.solvers import to_status

Times = Float[Array, " lanes"]
States = Float[Array, "size lanes"]


class Step(NamedTuple):
    """A step that was tried: the state after it, its error, what interpolates it, and what the next one starts from."""

    y: States
    error: States | None
    dense: PyTree
    solver_state: PyTree
    status: Int[Array, "..."]


class Stepper(eqx.Module):
    """One method of taking a step; `y` is a row's state as a flat vector, `args` whatever its vector field needs."""

    @abc.abstractmethod
    def init(self, t0: Scalar, t1: Scalar, y: Float[Array, " size"], args: PyTree, atol: Scalar) -> PyTree:
        """Return the solver's state before the first step of one row."""

    @abc.abstractmethod
    def step(self, t0: Times, t1: Times, y: States, args: PyTree, solver_state: PyTree, atol: Times) -> Step:
        """Try the step from t0 to t1 in every lane."""

    @abc.abstractmethod
    def interpolate(self, t0: Times, t1: Times, dense: PyTree, t: Times) -> States:
        """Return the state at a time within the step."""


def build_stepper(solver: diffrax.AbstractSolver[Any], terms: Callable[[PyTree], Any], vector_field: Any) -> Stepper:
    """Choose the stepper for a solver.

    `terms(args)` gives a row's Diffrax terms; `vector_field(t, y, args)`, of one row, is None where they are more than
    an ODE's.
    """
    tableau = getattr(solver, "tableau", None)
    explicit = isinstance(solver, diffrax.AbstractERK) and isinstance(tableau, diffrax.ButcherTableau)
    if explicit and vector_field is not None:
        return ExplicitRungeKutta(solver, vector_field)
    return AnySolver(solver, terms)


class ExplicitRungeKutta(Stepper):
    """An explicit Runge-Kutta method with its stages written out: no loop over stages, no buffer of them.

    The tableau and the interpolation are Diffrax's. XLA makes one loop over the lanes of each stage.
    """

    solver: Any
    vector_field: Callable[..., Any]
    weights: Float[np.ndarray, "inputs degree"]

    def __init__(self, solver: Any, vector_field: Callable[..., Any]) -> None:
        self.solver = solver
        self.vector_field = along_rows(vector_field)
        self.weights = _interpolation_weights(solver)

    def init(self, t0: Scalar, t1: Scalar, y: Float[Array, " size"], args: PyTree, atol: Scalar) -> PyTree:
        """Return the derivative at the start, where a step ends with that of the next one's start; else nothing."""
        if not self.solver.tableau.fsal:
            return None
        one_lane = jax.tree.map(lambda leaf: leaf[..., None], (t0, y, args))
        return self.vector_field(*one_lane)[..., 0]

    def step(self, t0: Times, t1: Times, y: States, args: PyTree, solver_state: PyTree, atol: Times) -> Step:
        """Try the step from t0 to t1 in every lane."""
        tableau, dt = self.solver.tableau, t1 - t0
        stages = [self.vector_field(t0, y, args) if solver_state is None else solver_state]
        y1 = y
        for row, c in zip(tableau.a_lower, tableau.c, strict=True):
            y1 = y + dt * _combine(row, stages)
            stages.append(self.vector_field(t1 if c == 1.0 else t0 + c * dt, y1, args))
        if not tableau.ssal:
            y1 = y + dt * _combine(tableau.b_sol, stages)
        error = dt * _combine(tableau.b_error, stages)
        last = stages[-1] if tableau.fsal else None
        return Step(y1, error, (y, y1, stages), last, jnp.asarray(Status.OK, jnp.int8))

    def interpolate(self, t0: Times, t1: Times, dense: PyTree, t: Times) -> States:
        """Return the state at a time within the step, by the weights of Diffrax's own interpolation."""
        y0, y1, stages = dense
        dt, fraction = t1 - t0, (t - t0) / (t1 - t0)
        of_y0, of_y1, *of_stages = (_polynomial(each, fraction) for each in self.weights)
        y = y0 * of_y0 if of_y1 is None else y0 * of_y0 + y1 * of_y1
        parts = [weight * stage for weight, stage in zip(of_stages, stages, strict=True) if weight is not None]
        return y + dt * sum(parts[1:], start=parts[0])


def _combine(weights: Sequence[float], stages: Sequence[Array]) -> Array:
    parts = [float(weight) * stage for weight, stage in zip(weights, stages, strict=True) if weight != 0.0]
    return sum(parts[1:], start=parts[0])


def _polynomial(coefficients: Float[np.ndarray, " degree"], x: Array) -> Array | None:
    """Evaluate a polynomial, lowest power first; None where it is zero."""
    if not coefficients.any():
        return None
    value = jnp.full_like(x, coefficients[-1])
    for each in coefficients[-2::-1]:
        value = value * x + float(each)
    return value


def _interpolation_weights(solver: Any) -> Float[np.ndarray, "inputs degree"]:
    """Read off Diffrax's interpolation how much of y0, y1 and each stage it takes, as polynomials in the fraction.

    It is linear in them: asked with one of them 1 and the others 0, at enough points, it gives the polynomial.
    """
    num_stages, degree = len(solver.tableau.b_sol), 10
    fractions = np.linspace(0.0, 1.0, 4 * degree)

    def ask(one: Any, fraction: Any, ends: Any) -> Array:
        dense = solver.interpolation_cls(t0=ends[0], t1=ends[1], y0=one[:1], y1=one[1:2], k=one[2:, None])
        return dense.evaluate(fraction)[0]

    with jax.ensure_compile_time_eval():
        asked = jax.jit(jax.vmap(jax.vmap(ask, in_axes=(0, None, None)), in_axes=(None, 0, None)))
        values = np.asarray(asked(np.eye(num_stages + 2), fractions, np.array([0.0, 1.0])))
    # Twice: with the true degree alone, the powers' coefficients come out to rounding.
    for _ in range(2):
        fitted = chebyshev.chebfit(2.0 * fractions - 1.0, values, degree)
        degree = int(np.flatnonzero(np.abs(fitted).max(axis=1) > 1e-10).max())
    powers = [Chebyshev(each, domain=(0.0, 1.0)).convert(kind=Polynomial, domain=(-1.0, 1.0)).coef for each in fitted.T]
    weights = np.stack([np.pad(each, (0, degree + 1 - len(each))) for each in powers])
    weights[:, 0] = np.arange(len(weights)) == 0  # at its start a step is y0, to the last digit
    return np.where(np.abs(weights) < 1e-12, 0.0, weights)


class AnySolver(Stepper):
    """Any other Diffrax solver, by its own `step`."""

    solver: Any
    terms: Callable[[PyTree], Any]

    def init(self, t0: Scalar, t1: Scalar, y: Float[Array, " size"], args: PyTree, atol: Scalar) -> PyTree:
        """Return the solver's state before the first step of one row."""
        return self._solver(atol).init(self.terms(args), t0, t1, y, args)

    def step(self, t0: Times, t1: Times, y: States, args: PyTree, solver_state: PyTree, atol: Times) -> Step:
        """Try the step from t0 to t1 in every lane."""

        def one(t0: Any, t1: Any, y: Any, args: Any, solver_state: Any, atol: Any) -> Step:
            solver, terms = self._solver(atol), self.terms(args)
            y1, error, dense, state, result = solver.step(terms, t0, t1, y, args, solver_state, False)
            return Step(y1, error, dense, state, to_status(result))

        return jax.vmap(one, in_axes=-1, out_axes=-1)(t0, t1, y, args, solver_state, atol)

    def _solver(self, atol: Scalar) -> Any:
        """Return the solver, an implicit one with the row's absolute tolerance for its own equations."""
        if not isinstance(self.solver, diffrax.AbstractImplicitSolver):
            return self.solver
        return eqx.tree_at(lambda solver: solver.root_finder.atol, self.solver, atol)

    def interpolate(self, t0: Times, t1: Times, dense: PyTree, t: Times) -> States:
        """Return the state at a time within the step."""

        def one(t0: Any, t1: Any, dense: Any, t: Any) -> Array:
            return self.solver.interpolation_cls(t0=t0, t1=t1, **dense).evaluate(t)

        return jax.vmap(one, in_axes=-1, out_axes=-1)(t0, t1, dense, t)
