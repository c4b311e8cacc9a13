"""Joint priors of vectors, number by number: each one's quantile given those before it, and the way back.

Shares with a Dirichlet prior are broken off a stick; ordered numbers are order statistics; correlations come of
partial ones (Lewandowski, Kurowicka & Joe 2009), each of which is a Beta's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import expit, log_ndtr, ndtri
from jaxtyping import Array, Bool, Float

from simfer.stages.model.quantiles import distribution, from_normal, standard, to_normal
from simfer.stages.settings import Prior
from simfer.stages.settings.parts import DirichletPart, EarlierPart, LKJPart, Margin, OrderedPart, Part

_HALF = float(np.log(0.5))
_LEAST = -700.0  # the log of a probability that is a number
_NO_LESS = 1e-300
Values = Mapping[str, Any]


def quantile(part: Part, z: Float[Array, "..."], values: Values) -> Float[Array, "..."]:
    """Map standard normal values to a part's own scale, given those before it."""
    if isinstance(part, OrderedPart):
        rest = log_ndtr(-z) / part.left + _log_above(part, values)
        return _own(part.base, _from_log_above(rest), values)
    if isinstance(part, EarlierPart):
        return _value(part.margins[-1], _middle(part, values) + part.scale * z)
    loc, scale, plain = _stretched(part, values)
    return loc + scale * from_normal(plain, z)


def score(part: Part, value: Float[Array, "..."], values: Values) -> Float[Array, "..."]:
    """Map values to standard normal ones, the inverse of `quantile`."""
    if isinstance(part, OrderedPart):
        above = log_ndtr(-_own_score(part.base, value, values))
        return _from_log_above(part.left * (above - _log_above(part, values)))
    if isinstance(part, EarlierPart):
        return (_score_of(part.margins[-1], value) - _middle(part, values)) / part.scale
    loc, scale, plain = _stretched(part, values)
    return to_normal(plain, (value - loc) / scale)


def excludes(part: Part, value: Float[Array, "..."], values: Values) -> Bool[Array, "..."]:
    """Say which values a part gives no density, given those before it."""
    if isinstance(part, EarlierPart):
        low, high = part.margins[-1].low, part.margins[-1].high
        return (value <= (-jnp.inf if low is None else low)) | (value >= (jnp.inf if high is None else high))
    if isinstance(part, OrderedPart):
        support: Any = distribution(part.base, values).support
        return jnp.logical_not(support(value)) | (value <= values[part.after[-1]] if part.after else False)
    loc, scale, _ = _stretched(part, values)
    place = (value - loc) / scale
    return (place <= 0.0) | (place >= 1.0)


def _stretched(part: Part, values: Values) -> tuple[Any, Any, dist.Distribution]:
    """Return where a Beta lies, how long it is, and the Beta on (0, 1)."""
    if isinstance(part, DirichletPart):
        left: Any = 1.0
        for name in part.after:
            left = left - values[name]
        return 0.0, jnp.maximum(left, _NO_LESS), dist.Beta(part.concentration1, part.concentration0)
    assert isinstance(part, LKJPart)
    loc, scale = _of_correlations(part, values)
    shape = part.concentration + 0.5 * (part.dimension - 2 - part.column)
    return loc - scale, 2.0 * scale, dist.Beta(shape, shape)


def _of_correlations(part: LKJPart, values: Values) -> tuple[Any, Any]:
    """Return the middle and the reach of a correlation, given those before it: rows of a Cholesky factor say both."""
    known = {place: values[name] for place, name in zip(places(part.dimension), part.after, strict=False)}
    factor: list[list[Any]] = [[1.0]]
    for i in range(1, part.row + 1):
        row: list[Any] = []
        for j in range(i if i < part.row else part.column):
            inner = sum((row[m] * factor[j][m] for m in range(j)), jnp.asarray(0.0))
            row.append((known[i, j] - inner) / factor[j][j])
        if i < part.row:
            factor.append([*row, _left(row)])
    j = part.column
    middle = sum((row[m] * factor[j][m] for m in range(j)), jnp.asarray(0.0))
    return middle, _left(row) * factor[j][j]


def _left(row: list[Any]) -> Any:
    """Return what is left of a row of length one."""
    return jnp.sqrt(jnp.maximum(1.0 - sum((each**2 for each in row), jnp.asarray(0.0)), _NO_LESS))


def places(dimension: int) -> list[tuple[int, int]]:
    """List the places below the diagonal, row by row."""
    return [(i, j) for i in range(dimension) for j in range(i)]


def _log_above(part: OrderedPart, values: Values) -> Any:
    """Return the log probability above the number before it."""
    return log_ndtr(-_own_score(part.base, values[part.after[-1]], values)) if part.after else 0.0


def _from_log_above(log: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the standard normal value with this log probability above it, by the smaller tail."""
    low = jnp.minimum(log, -_NO_LESS) > _HALF
    below = -jnp.expm1(jnp.where(low, log, -1.0))
    above = jnp.exp(jnp.where(low, -1.0, jnp.maximum(log, _LEAST)))
    return jnp.where(low, ndtri(jnp.maximum(below, _NO_LESS)), -ndtri(above))


def _middle(part: EarlierPart, values: Values) -> Any:
    """Return the mean of a score, given those before it."""
    before = zip(part.gain, part.margins, part.after, strict=False)
    return sum((gain * _score_of(margin, values[name]) for gain, margin, name in before), jnp.asarray(0.0))


def _value(margin: Margin, score: Float[Array, "..."]) -> Float[Array, "..."]:
    value = _spline(margin, score)
    if margin.low is None:
        return value
    return margin.low + (jnp.exp(value) if margin.high is None else (margin.high - margin.low) * expit(value))


def _spline(margin: Margin, score: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a smooth increasing function through knots at scores from -4 to 4, straight beyond (Fritsch & Carlson)."""
    knots = np.asarray(margin.knots)
    step = 8.0 / (len(knots) - 1)
    rises = np.diff(knots) / step
    inner = 2.0 / (1.0 / rises[1:] + 1.0 / rises[:-1])  # harmonic means keep it from turning round
    slopes = jnp.asarray(np.concatenate([rises[:1], inner, rises[-1:]]))
    at = jnp.clip(score, -4.0, 4.0)
    place = jnp.clip(jnp.floor((at + 4.0) / step), 0, len(knots) - 2).astype(int)
    t, y = (at + 4.0) / step - place, jnp.asarray(knots)
    hermite = (
        y[place] * (1.0 + 2.0 * t) * (1.0 - t) ** 2
        + step * slopes[place] * t * (1.0 - t) ** 2
        + y[place + 1] * t**2 * (3.0 - 2.0 * t)
        + step * slopes[place + 1] * t**2 * (t - 1.0)
    )
    return hermite + jnp.where(score < at, slopes[0], slopes[-1]) * (score - at)


def _score_of(margin: Margin, value: Any) -> Float[Array, "..."]:
    """Return the score of a value, by halving; a step of Newton's method then gives its derivative too."""
    wanted = jnp.asarray(value, float)
    if margin.low is not None:
        wanted = jnp.log(jnp.maximum(value - margin.low, _NO_LESS))
        wanted = wanted if margin.high is None else wanted - jnp.log(jnp.maximum(margin.high - value, _NO_LESS))
    fixed = jax.lax.stop_gradient(wanted)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = _spline(margin, middle) < fixed
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.full(jnp.shape(fixed), 40.0)
    low, high = jax.lax.fori_loop(0, 60, halve, (-ends, ends))
    near = jax.lax.stop_gradient(0.5 * (low + high))
    value_there, slope = jax.jvp(lambda s: _spline(margin, s), (near,), (jnp.ones_like(near),))
    return near + (wanted - value_there) / slope


def _own(prior: Prior, z: Float[Array, "..."], values: Values) -> Float[Array, "..."]:
    if not prior.needs:
        return from_normal(distribution(prior), z)
    plain, loc, scale = standard(prior, values)
    return loc + scale * from_normal(plain, z)


def _own_score(prior: Prior, value: Any, values: Values) -> Float[Array, "..."]:
    plain, loc, scale = standard(prior, values)
    return to_normal(plain, (jnp.asarray(value, float) - loc) / scale if prior.needs else jnp.asarray(value, float))
