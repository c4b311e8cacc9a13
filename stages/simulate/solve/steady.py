"""The steady state that a system relaxes to: where an experiment begins that was left alone long enough."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

_GROWTH, _STEPS = 2.0, 56  # from a hundredth of the fastest time to 1e11 of them, and there for some steps
_LONGEST = 1e11  # beyond it, what a closed system conserves would be lost to rounding
_STILL = 1e-9  # relative: a last step that is longer has arrived nowhere


def steady_state(vector_field: Callable[[PyTree], PyTree], state: PyTree) -> PyTree:
    """Return the steady state that `state` relaxes to; NaN where there is none.

    Linearly implicit Euler in steps that double (pseudo-transient continuation: Kelley & Keyes 1998). What the system
    conserves, the sum of a closed cycle, say, stays as it is; derivatives go through.
    """
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state))

    def field(y: Array) -> Array:
        return ravel_pytree(vector_field(unravel(y)))[0].astype(y.dtype)

    fastest = jax.lax.stop_gradient(jnp.abs(jax.jacfwd(field)(flat)).max())
    rate = jnp.where(fastest > 0.0, fastest, 1.0)

    def step(k: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        y, _ = carry
        length = jnp.minimum(0.01 * _GROWTH**k, _LONGEST) / rate
        moved = jnp.linalg.solve(jnp.eye(len(y)) / length - jax.jacfwd(field)(y), field(y))
        return y + moved, moved

    found, moved = jax.lax.fori_loop(0, _STEPS, step, (flat, flat))
    still = jnp.abs(moved).max() <= _STILL * jnp.abs(found).max()
    return unravel(jnp.where(still, found, jnp.nan))
