"""Quasi-Newton steps in a network's weights: limited-memory BFGS (Nocedal 1980), the whole batch at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

_MEMORY = 10  # steps that the curvature is read from
_TRIALS = 12  # of a step's length
_SUFFICIENT = 1e-4  # the share of the decrease that the slope promises which is good enough (Armijo 1966)
_LEAST = 1e-10  # a pair of step and change of slope without this much curvature is left out (Li & Fukushima 2001)

Slope = Callable[[PyTree], tuple[Float[Array, ""], PyTree]]


class State(NamedTuple):
    """The loss and its slope where the weights are, and the last steps with the changes of slope along them."""

    value: Float[Array, ""]
    slope: Float[Array, " p"]
    steps: Float[Array, "memory p"]
    changes: Float[Array, "memory p"]
    inverse: Float[Array, " memory"]  # 1 / (step . change); zero where there is none


def start(slope_at: Slope, weights: PyTree) -> State:
    """Return the state at the first weights."""
    value, slope = _flat(slope_at, ravel_pytree(weights)[1])(ravel_pytree(weights)[0])
    blank = jnp.zeros((_MEMORY, len(slope)), slope.dtype)
    return State(value, slope, blank, blank, jnp.zeros(_MEMORY, slope.dtype))


def step(slope_at: Slope, weights: PyTree, state: State, i: Int[Array, ""]) -> tuple[PyTree, State]:
    """Take the i-th step; one that finds nothing lower stays where it is, and forgets the curvature."""
    here, unravel = ravel_pytree(weights)
    direction, length = _direction(state, i)
    length, value, slope = _search(_flat(slope_at, unravel), here, direction, length, state)
    lower = value < state.value
    moved = jnp.where(lower, length * direction, 0.0)
    return unravel(here + moved), _remember(state, i % _MEMORY, lower, moved, value, slope)


def _direction(state: State, i: Int[Array, ""]) -> tuple[Float[Array, " p"], Float[Array, ""]]:
    """Return where to go, and how far to try at first."""
    direction, known = -_uphill(state, i), (state.inverse > 0).any()
    steepest = ~known | ~(direction @ state.slope < 0)
    direction = jnp.where(steepest, -state.slope, direction)
    return direction, jnp.where(steepest, 1.0 / jnp.maximum(jnp.linalg.norm(direction), 1.0), 1.0)


def _search(
    evaluate: Callable[[Array], tuple[Array, Array]],
    here: Float[Array, " p"],
    direction: Float[Array, " p"],
    length: Float[Array, ""],
    state: State,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " p"]]:
    """Shorten a step until it is good enough; return its length, and loss and slope at its end.

    Every trial is one evaluation of both: members that search side by side wait for the slowest, and seldom long.
    """
    descent = direction @ state.slope

    def is_too_long(trial: tuple[Array, Array, Array, Array]) -> Array:
        length, value, _, count = trial
        return ~(value <= state.value + _SUFFICIENT * length * descent) & (count < _TRIALS)

    def shorter(trial: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        length, value, _, count = trial
        lowest = -descent * length**2 / (2.0 * (value - state.value - length * descent))  # of a parabola
        bounded = jnp.clip(lowest, 0.1 * length, 0.5 * length)
        length = jnp.where(jnp.isfinite(lowest), bounded, 0.1 * length)
        return length, *evaluate(here + length * direction), count + 1

    first = (length, *evaluate(here + length * direction), jnp.asarray(0))
    length, value, slope, _ = jax.lax.while_loop(is_too_long, shorter, first)
    return length, value, slope


def _remember(
    state: State,
    at: Int[Array, ""],
    lower: Array,
    moved: Float[Array, " p"],
    value: Float[Array, ""],
    slope: Float[Array, " p"],
) -> State:
    change = jnp.where(lower, slope - state.slope, 0.0)
    curvature = moved @ change
    good = curvature > _LEAST * (moved @ moved)
    inverse = jnp.where(good, 1.0 / jnp.where(good, curvature, 1.0), 0.0)
    return State(
        jnp.where(lower, value, state.value),
        jnp.where(lower, slope, state.slope),
        state.steps.at[at].set(moved),
        state.changes.at[at].set(change),
        jnp.where(lower, state.inverse, 0.0).at[at].set(inverse),
    )


def _flat(slope_at: Slope, unravel: Callable[[Array], PyTree]) -> Callable[[Array], tuple[Array, Array]]:
    def evaluate(flat: Array) -> tuple[Array, Array]:
        value, slope = slope_at(unravel(flat))
        return value, ravel_pytree(slope)[0]

    return evaluate


def _uphill(state: State, i: Int[Array, ""]) -> Float[Array, " p"]:
    """Return the slope times the inverse of the curvature (Nocedal & Wright 2006, algorithm 7.4)."""
    q, shares = state.slope, []
    order = [(i - 1 - k) % _MEMORY for k in range(_MEMORY)]
    for at in order:
        shares.append(state.inverse[at] * (state.steps[at] @ q))
        q = q - shares[-1] * state.changes[at]
    last = order[0]
    product = state.inverse[last] * (state.changes[last] @ state.changes[last])
    r = q / jnp.where(product > 0, product, 1.0)
    for at, share in zip(reversed(order), reversed(shares), strict=True):
        r = r + state.steps[at] * (share - state.inverse[at] * (state.changes[at] @ r))
    return r
