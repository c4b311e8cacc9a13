"""How data scatter around an output: each family a function of the output that returns a NumPyro distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.model.censored import Limits
from simfer.stages.model.covariance import joint_covariance
from simfer.stages.model.observation import Series
from simfer.stages.model.plugins import resolve
from simfer.stages.model.truncated import Truncated
from simfer.stages.settings import Column, CustomNoise, MultivariateNormalNoise, Noise, TruncatedNoise
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.noise import arguments
from simfer.stages.settings.noise_families import BinomialNoise, ZeroInflatedNoise

SMALLEST = 1e-10  # a rate or a median is not let below it, but for data that are as small themselves
_SMALL = 1e-3  # data beside which it is not negligible


def _none(y: Array) -> dist.Distribution:
    return dist.Delta(y)


def _normal(y: Array, scale: Array) -> dist.Distribution:
    return dist.Normal(y, scale)


def smallest(data: Float[np.ndarray, " n"]) -> float:
    """Return what a median of these data is not let below: far less than any of them, whatever their unit."""
    sizes = np.abs(data[data != 0.0])
    if not len(sizes):
        return SMALLEST
    scale = float(sizes.max()) if sizes.max() < _SMALL else 1.0
    return min(SMALLEST * scale, 1e-3 * float(sizes.min()))


def _log_normal(y: Array, scale: Array, least: float = SMALLEST) -> dist.Distribution:
    return dist.LogNormal(jnp.log(jnp.maximum(y, least)), scale)


def _student_t(y: Array, df: Array, scale: Array) -> dist.Distribution:
    return dist.StudentT(df, y, scale)


def _poisson(y: Array) -> dist.Distribution:
    return dist.Poisson(jnp.maximum(y, SMALLEST))


def _negative_binomial(
    y: Array, concentration: Array | None = None, inverse_concentration: Array | None = None
) -> dist.Distribution:
    if concentration is None:
        assert inverse_concentration is not None
        concentration = 1.0 / inverse_concentration
    return dist.NegativeBinomial2(jnp.maximum(y, SMALLEST), concentration)


def _binomial(y: Array, total_count: Array, population: Array) -> dist.Distribution:
    # At a probability of exactly 0 or 1 the gradient is NaN, and NUTS would be lost there.
    probability = jnp.clip(y / population, 1e-30, 1.0 - 1e-16)
    return dist.Binomial(total_count=jnp.asarray(total_count, int), probs=probability)


def _normal_with_outliers(y: Array, scale: Array, outlier_share: Array, outlier_scale: Array) -> dist.Distribution:
    return _mixture(dist.Normal(y, scale), dist.Normal(y, jnp.hypot(scale, outlier_scale)), outlier_share)


def _log_normal_with_outliers(
    y: Array, scale: Array, outlier_share: Array, outlier_scale: Array, least: float = SMALLEST
) -> dist.Distribution:
    wide = _log_normal(y, jnp.hypot(scale, outlier_scale), least)
    return _mixture(_log_normal(y, scale, least), wide, outlier_share)


def _mixture(most: dist.Distribution, outliers: dist.Distribution, share: Array) -> dist.Distribution:
    shares = jnp.stack([1.0 - share, jnp.asarray(share)], axis=-1)
    return dist.MixtureGeneral(dist.Categorical(probs=shares), [most, outliers])


_FAMILIES: dict[str, Callable[..., dist.Distribution]] = {
    "none": _none,
    "Normal": _normal,
    "LogNormal": _log_normal,
    "StudentT": _student_t,
    "Poisson": _poisson,
    "NegativeBinomial2": _negative_binomial,
    "Binomial": _binomial,
    "NormalWithOutliers": _normal_with_outliers,
    "LogNormalWithOutliers": _log_normal_with_outliers,
}
LOGARITHMIC = ("LogNormal", "TruncatedLogNormal", "LogNormalWithOutliers")  # whose output is a median above zero

# The families that are Gaussian in a transformed scale: there the emulator's error adds to the noise exactly.
GAUSSIAN: dict[str, str] = {"Normal": "none", "LogNormal": "log", "MultivariateNormal": "none"}


def known_scale(noise: Noise, transform: str) -> float | None:
    """Return the sd of a noise that is a number, and Gaussian in the scale that `transform` leads to; or None."""
    scale = noise.arguments.get("scale")
    gaussian = GAUSSIAN.get(noise.dist) == transform and not isinstance(noise, MultivariateNormalNoise)
    return float(scale) if gaussian and isinstance(scale, (int, float)) else None


def needs_log(noise: Noise) -> bool:
    """Say whether the output has to be above zero, as the median of data in a logarithm."""
    return noise.dist in LOGARITHMIC


def family(
    noise: Noise, series: Series, covariance: Float[np.ndarray, "n n"] | None = None
) -> Callable[..., dist.Distribution]:
    """Return the noise's distribution as a function of the output at the data, and of its arguments.

    `covariance` is that of these data, where its file says by a header which row is which.
    """
    if isinstance(noise, MultivariateNormalNoise):
        covariance = joint_covariance(noise, len(series.values)) if covariance is None else covariance
        return lambda y, **_: dist.MultivariateNormal(y, covariance_matrix=jnp.asarray(covariance))
    if isinstance(noise, CustomNoise):
        return resolve(noise.dist, {})
    base = _FAMILIES[noise.dist.removeprefix("Truncated").removeprefix("ZeroInflated")]
    made = partial(base, least=smallest(series.values)) if noise.dist in LOGARITHMIC else base
    if isinstance(noise, TruncatedNoise):
        limits = limits_of_record(noise, series)
        return lambda y, **given: Truncated(made(y, **given), *limits)
    if isinstance(noise, ZeroInflatedNoise):
        return lambda y, gate, **given: dist.ZeroInflatedDistribution(made(y, **given), gate=gate)
    return made


def limits_of_record(noise: TruncatedNoise, series: Series) -> Limits:
    """Return the limits beyond which no datum is recorded; infinite where there is none."""

    def one(limit: float | Column | None, none: float) -> Float[np.ndarray, " n"]:
        if isinstance(limit, Column):
            return series.columns[limit.column]
        return np.full(len(series.values), none if limit is None else limit)

    return Limits(one(noise.low, -np.inf), one(noise.high, np.inf))


def data_per_output(noise: Noise, series: Series) -> Float[np.ndarray, " n"] | None:
    """Return what an output is multiplied by to be the datum that it expects: one, but where trials are counted.

    None where more than columns say how many trials there were.
    """
    if not isinstance(noise, BinomialNoise):
        return np.ones(len(series.values))
    trials = noise.total_count
    if isinstance(trials, str) and set((formula := parse(trials)).names) <= set(series.columns):
        return np.asarray(formula(series.columns, np)) / noise.population
    if isinstance(trials, Column) and trials.times is None and trials.plus is None:
        return series.columns[trials.column] / noise.population
    return np.full(len(series.values), trials / noise.population) if isinstance(trials, int) else None


def in_outputs_unit(noise: Noise, series: Series) -> Series:
    """Return data as outputs are: counts as what their share of the trials is of the population.

    Without those of no trials, which say nothing.
    """
    per_output = data_per_output(noise, series)
    if per_output is None:
        return series
    tried = per_output > 0.0
    return Series(
        series.values[tried] / per_output[tried],
        series.index[tried],
        {name: column[tried] for name, column in series.columns.items()},
        None if series.side is None else series.side[tried],
    )


def observed_offset(
    noise: Noise, distribution: dist.Distribution, data: Float[np.ndarray, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the mean of the offset that the noise integrates over, given the data, and how much less it then varies.

    It is Normal(0, offset_scale) before the data (Bishop 2006, equations 2.116 and 2.117). Zero where there is none.
    """
    variance = (getattr(noise, "offset_scale", None) or 0.0) ** 2
    if not variance:
        return jnp.zeros(()), jnp.zeros(())
    mean, covariance = distribution.mean, distribution.covariance_matrix
    gain = variance * jnp.linalg.solve(covariance, jnp.ones_like(mean))
    return gain @ (data - mean), variance * gain.sum()


def at_observed_offset(
    noise: Noise, distribution: dist.Distribution, data: Float[np.ndarray, " n"]
) -> dist.Distribution:
    """Return how new data scatter whose offset is that of the observed ones, where the noise integrates over one."""
    if getattr(noise, "offset_scale", None) is None:
        return distribution
    offset, less = observed_offset(noise, distribution, data)
    return dist.MultivariateNormal(distribution.mean + offset, distribution.covariance_matrix - less)


def argument_values(
    noise: Noise, output: str, values: Mapping[str, Any], columns: Mapping[str, Any], y: Float[Array, " n"]
) -> dict[str, Any]:
    """Return what a noise's distribution takes: numbers, or one for each datum.

    Args:
        noise: The noise.
        output: The output's name, which a formula may have.
        values: The noise's quantities by name.
        columns: Columns of the data by name.
        y: The outputs at the data.
    """
    known = {**values, **columns, output: y}
    taken: dict[str, Any] = {}
    for key, value in arguments(noise).items():
        name = f"{output}_{key}"
        if isinstance(value, str):
            taken[key] = jnp.asarray(parse(value)(known, jnp), float)
        elif isinstance(value, Column):
            column = jnp.asarray(columns[value.column]) * (1.0 if value.times is None else values[f"{name}_times"])
            taken[key] = column if value.plus is None else jnp.hypot(column, values[f"{name}_plus"])
        else:
            taken[key] = values[name]
    return taken
