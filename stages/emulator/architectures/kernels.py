"""The kernel of a Gaussian process, and its derivatives: what it says of values and of derivatives together."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

_ROOT = math.sqrt(5.0)
Axes = tuple[Array, Array, Array]  # along each input: a function of the distance, its first and second derivative


def squared_exponential(r: Float[Array, "..."]) -> Axes:
    """Return exp(-r^2 / 2) and its derivatives by r (Rasmussen & Williams 2006, eq. 4.9)."""
    value = jnp.exp(-0.5 * r**2)
    return value, -r * value, (r**2 - 1.0) * value


def matern52(r: Float[Array, "..."]) -> Axes:
    """Return (1 + s + s^2 / 3) exp(-s), s = sqrt(5) |r|, and its derivatives by r (ibid., eq. 4.17)."""
    s = _ROOT * jnp.abs(r)
    fall = jnp.exp(-s)
    value = (1.0 + s + s**2 / 3.0) * fall
    return value, -5.0 / 3.0 * r * (1.0 + s) * fall, -5.0 / 3.0 * (1.0 + s - s**2) * fall


SHAPES = {"squared_exponential": squared_exponential, "matern52": matern52}


def kernel(
    hyper: Float[Array, " hyper"],
    a: Float[Array, "n size"],
    b: Float[Array, "m size"],
    shape: str,
    with_slopes: Literal["", "b", "ab"] = "",
) -> Float[Array, "n each m other"]:
    """Return the covariances of what is known at two sets of points.

    That is the product over the inputs of (1 + weight x shape) / (1 + weight), and where slopes are asked for its
    derivatives by the inputs of one, the other and both (ibid., eq. 9.1), by the product's logarithmic derivatives.

    Args:
        hyper: logarithms of length scales, then of weights, of each input; what follows is taken no notice of.
        a: whitened points.
        b: others.
        shape: a name in `SHAPES`.
        with_slopes: the sets of which a point stands for its value and the `size` derivatives after it; of the others
            it stands for its value alone.

    Returns:
        Covariances in units of the values' own variance.
    """
    size = a.shape[-1]
    scale, weight = jnp.exp(hyper[:size]), jnp.exp(hyper[size : 2 * size])
    value, first, second = SHAPES[shape]((a[:, None] - b[None]) / scale)
    factor = 1.0 + weight * value
    product = jnp.prod(factor / (1.0 + weight), axis=-1)[:, None, :, None]
    if not with_slopes:
        return product
    by_a = weight * first / (scale * factor)
    along, across = by_a.transpose(0, 2, 1)[..., None], -by_a[:, None]
    one = jnp.ones_like(product)
    top = jnp.concatenate([one, across], axis=3)
    if with_slopes == "b":
        return product * top
    own = jnp.eye(size)[:, None] * (weight * second / (scale**2 * factor) - by_a**2).transpose(0, 2, 1)[..., None]
    return product * jnp.concatenate([top, jnp.concatenate([along, along * across - own], axis=3)], axis=1)
