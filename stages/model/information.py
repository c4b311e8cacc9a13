"""How much a datum tells of the output that it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.model.truncated import Truncated

_NUM_SCORES = 1024  # draws that an information is the mean of: a sigma is then within some percent
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)  # of an integral over a datum
Scatter = Callable[[Float[Array, " n"]], Any]


def variance_of_output(scatter: Scatter, at: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the variance with which a datum of each output tells what the output is, to first order.

    It is that of data over the squared slope of their mean (a Binomial's datum is in other units than the output), and
    where there is no variance, or no mean, or they tell little (of outliers, of zeros that mean nothing), one over the
    Fisher information: of a Student's t with df degrees of freedom scale^2 (df + 3) / (df + 1) (Lange, Little & Taylor
    1989), which a Cauchy is with one; of others by drawn scores.

    Args:
        scatter: The distribution of data as a function of outputs, in whatever scale they are.
        at: The outputs.
    """
    along = jnp.ones_like(at)
    distribution = scatter(at)
    if isinstance(distribution, dist.ZeroInflatedProbs):
        return 1.0 / jnp.maximum(_beside_zeros(scatter, at), 1e-300)
    if isinstance(distribution, (Truncated, dist.MixtureGeneral)):
        straight = isinstance(distribution, Truncated) and not isinstance(distribution.base, dist.StudentT)
        return 1.0 / jnp.maximum((_of_truncated if straight else _by_quadrature)(scatter, at), 1e-300)
    if isinstance(distribution, (dist.StudentT, dist.Cauchy)):
        df: Any = distribution.df if isinstance(distribution, dist.StudentT) else 1.0
        slope = jax.jvp(lambda t: scatter(t).loc, (at,), (along,))[1]
        variance = distribution.scale**2 * (df + 3.0) / (df + 1.0)
    elif _has_moments(distribution):
        slope = jax.jvp(lambda t: scatter(t).mean, (at,), (along,))[1]
        variance = distribution.variance
    else:
        drawn = jax.lax.stop_gradient(distribution.sample(jax.random.key(0), (_NUM_SCORES,)))
        score = jax.jvp(lambda t: scatter(t).log_prob(drawn), (at,), (along,))[1]
        return 1.0 / jnp.maximum((score**2).mean(axis=0), 1e-300)
    return variance / jnp.maximum(slope**2, 1e-300)


def _has_moments(distribution: dist.Distribution) -> bool:
    try:
        return distribution.mean is not None and distribution.variance is not None
    except (NotImplementedError, AttributeError):
        return False


def _by_output(function: Scatter, at: Float[Array, " n"]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return a function of outputs, each of its own, and its derivative."""
    return jax.jvp(function, (at,), (jnp.ones_like(at),))


def _beside_zeros(scatter: Scatter, at: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the Fisher information of counts of which a share is zero for another reason.

    Every count but zero has the family's own score; a zero tells less than it would.
    """
    gate = scatter(at).gate
    own = 1.0 / variance_of_output(lambda t: scatter(t).base_dist, at)
    log_zero, score = _by_output(lambda t: scatter(t).base_dist.log_prob(jnp.zeros_like(t)), at)
    zero = jnp.exp(log_zero)
    kept = ((1.0 - gate) * zero * score) ** 2 / (gate + (1.0 - gate) * zero)
    return (1.0 - gate) * (own - zero * score**2) + kept


def _of_truncated(scatter: Scatter, at: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the Fisher information of recorded data, of a family whose score is linear in some function of them.

    As the mean of log f_recorded's slope is zero, that of the family's own is the slope of log P(recorded); it says
    the mean of the data, and so that of the curvature. These families are Normal and LogNormal, and those of counts.
    """

    def score(x: Array) -> Scatter:
        return lambda t: _by_output(lambda t: _unlogged(scatter(t).base).log_prob(x), t)[1]

    slope, bend = _by_output(lambda t: _by_output(lambda t: scatter(t).log_mass, t)[1], at)
    (first, first_bend), (second, second_bend) = (_by_output(score(jnp.full_like(at, x)), at) for x in (0.0, 1.0))
    mean = (slope - first) / (second - first)
    return bend - (first_bend + mean * (second_bend - first_bend))


def _by_quadrature(scatter: Scatter, at: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the Fisher information by an integral over the datum, in the angle of a Cauchy about the family."""
    distribution = _unlogged(scatter(at))
    if isinstance(distribution, Truncated):
        narrow, low, high = distribution.base, distribution.low, distribution.high
    else:
        narrow, low, high = distribution.component_distributions[0], np.array(-np.inf), np.array(np.inf)
    first, last = (jnp.arctan((limit - narrow.loc) / narrow.scale) for limit in (low, high))
    half = 0.5 * (last - first)
    angle = first + half * (1.0 + _NODES[:, None])
    x = narrow.loc + narrow.scale * jnp.tan(angle)
    log_prob, score = _by_output(lambda t: _unlogged(scatter(t)).log_prob(jax.lax.stop_gradient(x)), at)
    density = jnp.exp(log_prob) * narrow.scale / jnp.cos(angle) ** 2
    return (_WEIGHTS[:, None] * half * density * score**2).sum(axis=0)


def _unlogged(distribution: Any) -> Any:
    """Return the distribution of the logarithm where that is Gaussian: it tells as much."""
    if isinstance(distribution, dist.LogNormal):
        return dist.Normal(distribution.loc, distribution.scale)
    if isinstance(distribution, dist.MixtureGeneral):
        return dist.MixtureGeneral(
            distribution.mixing_distribution, [_unlogged(part) for part in distribution.component_distributions]
        )
    return distribution
