"""The quantiles of a prior: between its own scale and that in which it is a standard normal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import log_ndtr, ndtr, ndtri
from jaxtyping import Array, Bool, Float
from numpyro.distributions.transforms import biject_to

from simfer.stages.settings import Prior
from simfer.stages.settings.expressions import parse

# NumPyro inverts these through TensorFlow Probability, or not at all; here their CDFs are inverted by bisection.
_BISECTED = (dist.Beta, dist.BetaProportion, dist.Gamma, dist.Chi2, dist.InverseGamma, dist.StudentT)
_SMALLEST = float(np.finfo(np.float64).tiny)
_LARGEST = 1.0 - float(np.finfo(np.float64).epsneg)


def distribution(prior: Prior, values: Mapping[str, Any] = {}) -> dist.Distribution:
    """Build the NumPyro distribution that a prior names, where `values` are what its arguments name."""
    given = {key: parse(value)(values, jnp) if isinstance(value, str) else value
             for key, value in prior.arguments.items()}  # fmt: skip
    return getattr(dist, prior.dist)(**given)


def standard(prior: Prior, values: Mapping[str, Any]) -> tuple[dist.Distribution, Any, Any]:
    """Return a distribution with, apart from it, where it lies and how wide it is, if these depend on others.

    Quantiles found by bisection have no derivative by an argument: such a distribution is moved and stretched.
    """
    formulas = [key for key, value in prior.arguments.items() if isinstance(value, str)]
    if not formulas or prior.dist not in ("Gamma", "InverseGamma", "StudentT"):
        return distribution(prior, values), 0.0, 1.0
    numbers = {key: value for key, value in prior.arguments.items() if not isinstance(value, str)}
    moved = {key: parse(prior.arguments[key])(values, jnp) for key in formulas}
    plain = getattr(dist, prior.dist)(**numbers | {key: 0.0 if key == "loc" else 1.0 for key in formulas})
    rate = moved.get("rate", 1.0)
    scale = moved.get("scale", 1.0 / rate if prior.dist == "Gamma" else rate)
    return plain, moved.get("loc", 0.0), scale


def from_normal(prior: dist.Distribution, z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Map standard normal values to the prior's own scale: theta = F^-1(Phi(z)), monotone and differentiable."""
    if isinstance(prior, dist.Normal):
        return prior.loc + prior.scale * z
    if isinstance(prior, dist.LogNormal):
        return jnp.exp(prior.loc + prior.scale * z)
    if isinstance(prior, dist.Weibull):  # F^-1(u) = scale (-log(1 - u))^(1 / k), with 1 - u = Phi(-z)
        return prior.scale * (-log_ndtr(-z)) ** (1.0 / prior.concentration)
    if isinstance(prior, dist.Laplace):  # whose sign has no slope at the median, where phi / f is sqrt(2 / pi)
        near = prior.loc + prior.scale * jnp.sqrt(2.0 / jnp.pi) * z
        return jnp.where(z == 0.0, near, prior.icdf(jnp.clip(ndtr(z), _SMALLEST, _LARGEST)))
    if isinstance(prior, dist.HalfCauchy):
        return prior.scale * _half_cauchy(z)
    if isinstance(prior, dist.Cauchy):
        return prior.loc + prior.scale * _cauchy(z)
    probability = jnp.clip(ndtr(z), _SMALLEST, _LARGEST)
    if isinstance(prior, _BISECTED):
        return _bisect(prior, probability)
    return prior.icdf(probability)


def to_normal(prior: dist.Distribution, theta: Float[Array, "..."]) -> Float[Array, "..."]:
    """Map values on the prior's own scale to standard normal ones, the inverse of `from_normal`."""
    if isinstance(prior, dist.Normal):
        return (theta - prior.loc) / prior.scale
    if isinstance(prior, dist.LogNormal):
        return (jnp.log(theta) - prior.loc) / prior.scale
    if isinstance(prior, dist.HalfCauchy):
        t = theta / prior.scale
        return _from_tails(t > 1.0, 2.0 / jnp.pi * jnp.arctan2(t, 1.0), 2.0 / jnp.pi * jnp.arctan2(1.0, t))
    if isinstance(prior, dist.Cauchy):
        t = (theta - prior.loc) / prior.scale
        return _from_tails(t > 0.0, jnp.arctan2(1.0, -t) / jnp.pi, jnp.arctan2(1.0, t) / jnp.pi)
    return ndtri(jnp.clip(prior.cdf(theta), _SMALLEST, _LARGEST))


# A heavy tail's digits are in the probability beyond it: Phi(-7) is 1e-12, and of 1 - Phi(7) four digits are left.
# So either half is told by its own tail.
def _half_cauchy(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return tan(pi Phi(z) / 2), the quantile of a half-Cauchy of scale one."""
    return jnp.where(z < 0.0, jnp.tan(0.5 * jnp.pi * _tail(z)), 1.0 / jnp.tan(0.5 * jnp.pi * _tail(-z)))


def _cauchy(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return -cot(pi Phi(z)), the quantile of a Cauchy of scale one."""
    return jnp.where(z < 0.0, -1.0 / jnp.tan(jnp.pi * _tail(z)), 1.0 / jnp.tan(jnp.pi * _tail(-z)))


def _tail(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(ndtr(z), _SMALLEST)


def _from_tails(
    upper: Bool[Array, "..."], below: Float[Array, "..."], above: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the normal quantile with the probability `above` it where `upper`, and with that `below` it elsewhere."""
    inside = [ndtri(jnp.clip(probability, _SMALLEST, _LARGEST)) for probability in (below, above)]
    return jnp.where(upper, -inside[1], inside[0])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _bisect(prior: dist.Distribution, probability: Float[Array, "..."]) -> Float[Array, "..."]:
    unbounded = prior.support is dist.constraints.real
    to_support = (lambda s: jnp.sinh(s)) if unbounded else biject_to(prior.support)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = prior.cdf(to_support(middle)) < probability
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.full(jnp.shape(probability), 700.0)
    low, high = jax.lax.fori_loop(0, 64, halve, (-ends, ends))
    return to_support(0.5 * (low + high))


@_bisect.defjvp
def _bisect_jvp(prior: dist.Distribution, primals: Any, tangents: Any) -> tuple[Array, Array]:
    value = _bisect(prior, *primals)
    return value, tangents[0] * jnp.exp(-prior.log_prob(value))  # d F^-1 / du = 1 / f(F^-1(u))
