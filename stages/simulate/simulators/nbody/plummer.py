"""The Plummer sphere (Plummer 1911), by the recipe of Aarseth, Henon & Wielen (1974)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar


def plummer_sphere(
    key: PRNGKeyArray, num_bodies: int, dtype: str = "float64"
) -> tuple[Float[Array, "3 bodies"], Float[Array, "3 bodies"]]:
    """Draw positions and velocities of bodies in equilibrium, in units of scale radius and total mass (G = 1).

    The mass within r is (1 + 1 / r^2)^(-3/2), which gives a radius for a uniform number; none is cut off. A speed is q
    times the speed of escape, sqrt(2) (1 + r^2)^(-1/4), with density of q in proportion to q^2 (1 - q^2)^(7/2)
    (Aarseth, Henon & Wielen 1974, appendix). There it is drawn by rejection; here without, since three coordinates of
    a uniform point on the unit sphere in 12 dimensions make a vector whose length has just that density.
    """
    mass_key, key = jax.random.split(key)
    place, speed = jnp.split(jax.random.normal(key, (15, num_bodies), dtype), [3])
    enclosed = jax.random.uniform(mass_key, (num_bodies,), dtype)
    radius = jax.lax.rsqrt(enclosed ** (-2 / 3) - 1)
    escape = jnp.sqrt(2 * jax.lax.rsqrt(1 + radius**2))
    return radius * _unit(place), escape * _unit(speed)[:3]


def lagrangian_radius(fraction: float | Scalar) -> Float[Array, ""]:
    """Return the radius within which a fraction of a Plummer sphere's mass lies, in units of its scale radius."""
    return (jnp.asarray(fraction) ** (-2 / 3) - 1) ** -0.5


def _unit(vectors: Float[Array, "dims bodies"]) -> Float[Array, "dims bodies"]:
    return vectors / jnp.linalg.norm(vectors, axis=0)
