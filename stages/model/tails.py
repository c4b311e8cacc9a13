"""The logarithm of what a distribution holds below and above a bound, exact far out in a tail and differentiable."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import betainc, log_ndtr, logsumexp
from jaxtyping import Array, Float

from simfer.stages.model.censored import Limits

_LEAST = 1e-300
MOST_COUNTS = 100_000  # up to which the probabilities of counts are added up


def censored_log_prob(distribution: dist.Distribution, data: Float[Array, " n"], limits: Limits) -> Float[Array, " n"]:
    """Return the log probability of data, those at -inf below their lower limit and those at inf above their upper."""
    below, above = jnp.isneginf(data), jnp.isposinf(data)
    low, high = np.isfinite(limits.lower), np.isfinite(limits.upper)
    # Where a limit is infinite, and where a datum is, any finite number will do: it is not looked at.
    inner = jnp.where(below | above, jnp.where(low, limits.lower, jnp.where(high, limits.upper, 1.0)), data)
    parts = distribution.log_prob(_inside(distribution, inner))
    if low.any():
        parts = jnp.where(below, log_below(distribution, np.where(low, limits.lower, 1.0)), parts)
    if high.any():
        parts = jnp.where(above, log_above(distribution, np.where(high, limits.upper, 1.0)), parts)
    return parts


def _inside(distribution: dist.Distribution, data: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.round(data) if distribution.is_discrete else data


def log_below(distribution: dist.Distribution, bound: Float[np.ndarray, " n"]) -> Float[Array, " n"]:
    """Return log P(datum < bound)."""
    if (own := getattr(distribution, "log_below", None)) is not None:
        return own(bound)
    if isinstance(distribution, dist.MixtureGeneral):
        return _mixed(distribution, log_below, bound)
    if distribution.is_discrete:
        return _log_sum(distribution, np.ceil(bound) - 1.0)
    if (place := _normal_place(distribution, bound)) is not None:
        return log_ndtr(place)
    if isinstance(distribution, dist.StudentT):
        return _log_tail(distribution, bound, 1.0)
    return jnp.log(jnp.maximum(distribution.cdf(jnp.asarray(bound)), _LEAST))


def log_above(distribution: dist.Distribution, bound: Float[np.ndarray, " n"]) -> Float[Array, " n"]:
    """Return log P(datum > bound)."""
    if (own := getattr(distribution, "log_above", None)) is not None:
        return own(bound)
    if isinstance(distribution, dist.MixtureGeneral):
        return _mixed(distribution, log_above, bound)
    if distribution.is_discrete:
        below = jnp.minimum(_log_sum(distribution, np.floor(bound)), -1e-15)
        return jnp.log(-jnp.expm1(below))
    if (place := _normal_place(distribution, bound)) is not None:
        return log_ndtr(-place)
    if isinstance(distribution, dist.StudentT):
        return _log_tail(distribution, bound, -1.0)
    return jnp.log(jnp.maximum(1.0 - distribution.cdf(jnp.asarray(bound)), _LEAST))


def _mixed(
    mixture: dist.MixtureGeneral, tail: Callable[..., Float[Array, " n"]], bound: Float[np.ndarray, " n"]
) -> Float[Array, " n"]:
    """Return the log probability beyond a bound of each part, weighted."""
    shares = jnp.log(mixture.mixing_distribution.probs)
    parts = [shares[..., i] + tail(part, bound) for i, part in enumerate(mixture.component_distributions)]
    return jnp.logaddexp(*parts)


def _normal_place(distribution: dist.Distribution, bound: Float[np.ndarray, " n"]) -> Float[Array, " n"] | None:
    if isinstance(distribution, dist.LogNormal):
        return (np.log(np.maximum(bound, _LEAST)) - distribution.loc) / distribution.scale
    if isinstance(distribution, dist.Normal):
        return (bound - distribution.loc) / distribution.scale
    return None


def _log_tail(distribution: dist.StudentT, bound: Float[np.ndarray, " n"], sign: float) -> Float[Array, " n"]:
    """Return log F(place) of Student's t at sign * (bound - loc) / scale, by its symmetry either tail as exactly."""
    place = sign * (bound - distribution.loc) / distribution.scale
    square = jnp.maximum(place**2, 1e-12)  # the function's own derivative is infinite at its centre
    tail = 0.5 * betainc(0.5 * distribution.df, 0.5, distribution.df / (distribution.df + square))
    return jnp.log(jnp.maximum(jnp.where(place < 0.0, tail, 1.0 - tail), _LEAST))


def _log_sum(distribution: dist.Distribution, most: Float[np.ndarray, " n"]) -> Float[Array, " n"]:
    """Return log P(count <= most), added up count by count: a sum has derivatives by every argument."""
    counts = np.arange(max(int(most.max(initial=0.0)), 0) + 1.0)[:, None]
    log_probs = distribution.log_prob(jnp.asarray(np.minimum(counts, np.maximum(most, 0.0))))
    kept = jnp.where(counts <= most, log_probs, -jnp.inf)
    return logsumexp(jnp.where(most < 0.0, -1e30, kept), axis=0)
