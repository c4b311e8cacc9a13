"""A distribution of which nothing beyond limits is on record: what is left of it, scaled up to be one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import betainc, gammainc, gammaincc, logsumexp, ndtr, ndtri
from jaxtyping import Array, Float

from simfer.stages.model.censored import Limits
from simfer.stages.model.quantiles import from_normal, to_normal
from simfer.stages.model.tails import log_above, log_below

_HALF = float(np.log(0.5))
_SURELY = float(np.log1p(-1e-6))  # so likely below a limit, what is above it is added up there
_NONE = -1e30  # the log of a probability that is none; of -inf there would be no gradient
_TERMS = 256  # counts from such a limit on: each is far less likely than the one before
_MOST_HALVINGS, _MOST_COUNT = 32, 2.0**31


class Truncated(dist.Distribution):  # type: ignore[misc]
    """A family between limits, each of which belongs to what is recorded.

    Args:
        base: The family: Normal, LogNormal, StudentT, Poisson, NegativeBinomial2 or Binomial.
        low: The lower limit of each datum; -inf where there is none.
        high: The upper limit of each datum; inf where there is none.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    pytree_data_fields = ("base",)
    pytree_aux_fields = ("low", "high")

    def __init__(self, base: dist.Distribution, low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> None:
        self.base, self.low, self.high = base, np.asarray(low, float), np.asarray(high, float)
        shape = jnp.broadcast_shapes(base.batch_shape, self.low.shape, self.high.shape)
        super().__init__(shape, (), validate_args=False)

    @property
    def support(self) -> Any:
        """That of the family."""
        return self.base.support

    @property
    def log_mass(self) -> Float[Array, " n"]:
        """The log probability that a datum of the family is recorded."""
        return log_between(self.base, Limits(self.low, self.high))

    def log_prob(self, value: Any, intermediates: Any = None) -> Float[Array, " n"]:
        """Return the log probability of recorded data; -inf beyond the limits."""
        recorded = (value >= self.low) & (value <= self.high)
        return jnp.where(recorded, self.base.log_prob(value) - self.log_mass, -jnp.inf)

    def log_below(self, bound: Float[np.ndarray, " n"]) -> Float[Array, " n"]:
        """Return log P(recorded datum < bound), of bounds that lie within the limits."""
        until = np.ceil(bound) - 1.0 if self.is_discrete else bound
        return log_between(self.base, Limits(self.low, np.minimum(until, self.high))) - self.log_mass

    def log_above(self, bound: Float[np.ndarray, " n"]) -> Float[Array, " n"]:
        """Return log P(recorded datum > bound), of bounds that lie within the limits."""
        since = np.floor(bound) + 1.0 if self.is_discrete else bound
        return log_between(self.base, Limits(np.maximum(since, self.low), self.high)) - self.log_mass

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Draw recorded data, by the quantiles of what is left."""
        u = jax.random.uniform(key, (*sample_shape, *self.batch_shape), minval=1e-300)
        return self._count(u) if self.base.is_discrete else self._quantile(u)

    def _quantile(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        low, high = self._place(self.low, -jnp.inf), self._place(self.high, jnp.inf)
        turned = low > 0.0  # either tail by its own probabilities, which have their digits there
        a, b = jnp.where(turned, -high, low), jnp.where(turned, -low, high)
        z = ndtri(jnp.clip(ndtr(a) + u * (ndtr(b) - ndtr(a)), 1e-300, 1.0 - 1e-16))
        value = from_normal(self.base, jnp.where(turned, -z, z))
        return jnp.clip(value, self.low, self.high)  # against rounding, and where the limits are out of all reach

    def _place(self, limit: Float[np.ndarray, " n"], none: float) -> Float[Array, " n"]:
        """Return where a limit is among standard normal values."""
        there = np.isfinite(limit) & ((limit > 0.0) if isinstance(self.base, dist.LogNormal) else True)
        return jnp.where(there, to_normal(self.base, jnp.asarray(np.where(there, limit, 1.0))), none)

    def _count(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the smallest count with so much of what is recorded up to it, by halving; either half by its tail."""
        before = np.ceil(np.maximum(self.low, 0.0)) - 1.0
        last = np.minimum(np.floor(self.high), _MOST_COUNT)
        below = self._up_to(before), self._up_to(last)
        above = self._beyond(before), self._beyond(last)
        by_tail = below[0] > 0.5
        reached = jnp.where(by_tail, above[0] - u * (above[0] - above[1]), below[0] + u * (below[1] - below[0]))

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = jnp.floor(0.5 * (low + high))
            enough = jnp.where(by_tail, self._beyond(middle) <= reached, self._up_to(middle) >= reached)
            return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

        ends = jnp.broadcast_to(before, u.shape), jnp.broadcast_to(last, u.shape)
        return jax.lax.fori_loop(0, _MOST_HALVINGS, halve, ends)[1]

    def _up_to(self, count: Any) -> Float[Array, "..."]:
        """Return P(datum <= count) of the family."""
        k, base = jnp.maximum(jnp.asarray(count), -1.0), self.base
        some = jnp.maximum(k, 0.0)
        if isinstance(base, dist.Poisson):
            return jnp.where(k < 0.0, 0.0, gammaincc(some + 1.0, base.rate))
        if isinstance(base, dist.BinomialProbs):
            left = jnp.maximum(base.total_count - some, 0.5)
            inside = betainc(left, some + 1.0, 1.0 - base.probs)
            return jnp.where(k < 0.0, 0.0, jnp.where(some >= base.total_count, 1.0, inside))
        return jnp.where(k < 0.0, 0.0, betainc(base.concentration, some + 1.0, base.rate / (1.0 + base.rate)))

    def _beyond(self, count: Any) -> Float[Array, "..."]:
        """Return P(datum > count) of the family, exact where it is small."""
        k, base = jnp.maximum(jnp.asarray(count), -1.0), self.base
        some = jnp.maximum(k, 0.0)
        if isinstance(base, dist.Poisson):
            return jnp.where(k < 0.0, 1.0, gammainc(some + 1.0, base.rate))
        if isinstance(base, dist.BinomialProbs):
            left = jnp.maximum(base.total_count - some, 0.5)
            inside = betainc(some + 1.0, left, base.probs)
            return jnp.where(k < 0.0, 1.0, jnp.where(some >= base.total_count, 0.0, inside))
        return jnp.where(k < 0.0, 1.0, betainc(some + 1.0, base.concentration, 1.0 / (1.0 + base.rate)))


def log_between(distribution: dist.Distribution, limits: Limits) -> Float[Array, " n"]:
    """Return log P(lower <= datum <= upper), exact also where it is far out in one of the tails."""
    low, high = np.isfinite(limits.lower), np.isfinite(limits.upper)
    if isinstance(distribution, dist.LogNormal):
        low = low & (limits.lower > 0.0)
    at_low, at_high = np.where(low, limits.lower, 1.0), np.where(high, limits.upper, 1.0)
    if not low.any() and not high.any():
        return jnp.zeros(jnp.broadcast_shapes(distribution.batch_shape, low.shape))
    below = jnp.where(low, log_below(distribution, at_low), _NONE) if low.any() else jnp.full(low.shape, _NONE)
    above = jnp.where(high, log_above(distribution, at_high), _NONE) if high.any() else jnp.full(low.shape, _NONE)
    inside = _log1m(jnp.logaddexp(below, above))
    if low.any():
        inside = jnp.where(low & (below > _HALF), _in_upper_tail(distribution, limits, low, below, above), inside)
    if high.any():
        to_high = log_below(distribution, at_high)
        if distribution.is_discrete:  # strictly below, and the limit itself
            to_high = jnp.logaddexp(to_high, distribution.log_prob(jnp.asarray(np.floor(np.maximum(at_high, 0.0)))))
        inside = jnp.where(high & (above > _HALF), _log_difference(to_high, below), inside)
    return inside


def _in_upper_tail(distribution: Any, limits: Limits, low: np.ndarray, below: Any, above: Any) -> Float[Array, " n"]:
    """Return the log probability between limits that both lie above the median."""
    at_low = np.where(low, limits.lower, 1.0)
    if not distribution.is_discrete:
        return _log_difference(log_above(distribution, at_low), above)
    first = np.ceil(np.maximum(at_low, 0.0))
    counts = jnp.asarray(first + np.arange(_TERMS)[:, None])
    last = jnp.minimum(limits.upper, getattr(distribution, "total_count", np.inf))
    terms = distribution.log_prob(jnp.minimum(counts, last))
    added = logsumexp(jnp.where(counts <= last, terms, _NONE), axis=0)
    return jnp.where(below > _SURELY, added, _log1m(jnp.logaddexp(below, above)))


def _log1m(log: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return log(1 - exp(log))."""
    return jnp.log(-jnp.expm1(jnp.minimum(log, -1e-16)))


def _log_difference(more: Float[Array, " n"], less: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return log(exp(more) - exp(less))."""
    gap = jnp.minimum(less - more, -1e-16)
    return more + jnp.log(-jnp.expm1(gap))
