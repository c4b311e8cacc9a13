"""Softened gravity: the potential, and forces as its gradient. G = 1.

Positions are (dimensions, bodies), so that the bodies lie along the last axis, which compiled code works through
several at a time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_UNROLL = 4  # sources in one pass over the bodies, which are then read and written that much less often


def potential_energy(
    x: Float[Array, "dims bodies"], masses: Float[Array, " bodies"], softening: float
) -> Float[Array, ""]:
    """Return -sum over pairs of m_i m_j / sqrt(r_ij^2 + softening^2) (Aarseth 1963)."""
    return 0.5 * jnp.sum(masses * potential(x, masses, softening))


def kinetic_energy(v: Float[Array, "dims bodies"], masses: Float[Array, " bodies"]) -> Float[Array, ""]:
    """Return the sum of m v^2 / 2."""
    return 0.5 * jnp.sum(masses * v**2)


def potential(
    x: Float[Array, "dims bodies"], masses: Float[Array, " bodies"], softening: float
) -> Float[Array, " bodies"]:
    """Return the potential of all others at each body."""

    def add(total: Array, source: tuple[tuple[Array, ...], Array]) -> tuple[Array, None]:
        at, mass = source
        is_other = sum((a - b) ** 2 for a, b in zip(x, at, strict=True)) > 0
        return total + jnp.where(is_other, mass * _of_unit_mass(tuple(x), at, softening), 0), None

    return jax.lax.scan(add, jnp.zeros_like(masses), (tuple(x), masses), unroll=_UNROLL)[0]


def acceleration(
    x: Float[Array, "dims bodies"], masses: Float[Array, " bodies"], softening: float
) -> Float[Array, "dims bodies"]:
    """Return minus the gradient of the potential energy, divided by the masses.

    It is summed source by source, each one's potential differentiated where the bodies are: nothing of the size of
    bodies^2 is kept, and components are arrays of their own, which lets the compiler hold a pair in registers.
    """

    def add(total: tuple[Array, ...], source: tuple[tuple[Array, ...], Array]) -> tuple[tuple[Array, ...], None]:
        at, mass = source
        gradient = jax.grad(lambda x: _of_unit_mass(x, at, softening).sum())(tuple(x))
        return tuple(a - mass * slope for a, slope in zip(total, gradient, strict=True)), None

    nothing = tuple(jnp.zeros_like(c) for c in x)
    return jnp.stack(jax.lax.scan(add, nothing, (tuple(x), masses), unroll=_UNROLL)[0])


def _of_unit_mass(
    x: tuple[Float[Array, " bodies"], ...], at: tuple[Float[Array, ""], ...], softening: float
) -> Float[Array, " bodies"]:
    """Return the potential of one unit mass at each body; finite at its own place, where it has no gradient."""
    # The least softening whose cube has an inverse; to tell a body from itself pair by pair would cost half as much
    # again.
    least = float(jnp.finfo(x[0].dtype).tiny) ** (2 / 3)
    return -_inverse_root(sum((a - b) ** 2 for a, b in zip(x, at, strict=True)) + max(softening**2, least))


@jax.custom_jvp
def _inverse_root(s: Float[Array, "..."]) -> Float[Array, "..."]:
    return 1 / jnp.sqrt(s)


@_inverse_root.defjvp
def _slope(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # JAX's own rule ends in XLA's rsqrt, which in float64 a CPU works out one by one: three times as slow.
    (s,), (ds,) = primals, tangents
    return _inverse_root(s), -0.5 / (s * jnp.sqrt(s)) * ds
