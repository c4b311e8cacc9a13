"""How data scatter around an output: each family a function of the output that returns a NumPyro distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.observation import Series
from simfer.stages.model.plugins import resolve
from simfer.stages.settings import Column, CustomNoise, MultivariateNormalNoise, Noise
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.noise import arguments

_NUM_SCORES = 1024  # draws that an information is the mean of: a sigma is then within some percent
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


_FAMILIES: dict[str, Callable[..., dist.Distribution]] = {
    "none": _none,
    "Normal": _normal,
    "LogNormal": _log_normal,
    "StudentT": _student_t,
    "Poisson": _poisson,
    "NegativeBinomial2": _negative_binomial,
    "Binomial": _binomial,
}

# The families that are Gaussian in a transformed scale: there the emulator's error adds to the noise exactly.
GAUSSIAN: dict[str, str] = {"Normal": "none", "LogNormal": "log", "MultivariateNormal": "none"}


def known_scale(noise: Noise, transform: str) -> float | None:
    """Return the sd of a noise that is a number, and Gaussian in the scale that `transform` leads to; or None."""
    scale = noise.arguments.get("scale")
    gaussian = GAUSSIAN.get(noise.dist) == transform and not isinstance(noise, MultivariateNormalNoise)
    return float(scale) if gaussian and isinstance(scale, (int, float)) else None


# Where data of each family can lie; anything else has no likelihood at all.
_COUNTS = ("whole numbers of at least 0", lambda x: (x >= 0) & (x == np.round(x)))
_SUPPORT: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "LogNormal": ("numbers above 0", lambda x: x > 0),
    "Poisson": _COUNTS,
    "NegativeBinomial2": _COUNTS,
    "Binomial": _COUNTS,
}


def family(noise: Noise, data: Float[np.ndarray, " n"]) -> Callable[..., dist.Distribution]:
    """Return the noise's distribution as a function of the output at the data, and of its arguments."""
    if isinstance(noise, MultivariateNormalNoise):
        covariance = joint_covariance(noise, len(data))
        return lambda y, **_: dist.MultivariateNormal(y, covariance_matrix=jnp.asarray(covariance))
    if isinstance(noise, CustomNoise):
        return resolve(noise.dist, {})
    made = _FAMILIES[noise.dist]
    return partial(made, least=smallest(data)) if noise.dist == "LogNormal" else made


def joint_covariance(noise: MultivariateNormalNoise, size: int) -> Float[np.ndarray, "n n"]:
    """Return the covariance of data whose common offset is integrated over; raise ConfigError where it is none.

    An offset ~ Normal(0, offset_scale) that all of them share adds its variance to every element (Bishop 2006,
    equation 2.115).
    """
    matrix, variance = read_covariance(noise.covariance, size), (noise.offset_scale or 0.0) ** 2
    most = np.sqrt(1e12 * np.linalg.eigvalsh(matrix).min() / size)
    if variance > most**2:  # the rest would be lost to rounding, in the factors of the sum
        what = f"got {noise.offset_scale:g}, expected at most {most:.2g}; far less is as good as flat"
        raise ConfigError([Mistake("noise: offset_scale", what)])
    return matrix + variance


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


def read_covariance(file: str, size: int) -> Float[np.ndarray, "n n"]:
    """Read a covariance matrix from a CSV file of numbers; raise ConfigError where it is none."""

    def refuse(what: str) -> ConfigError:
        return ConfigError([Mistake("noise", f"covariance file {Path(file).name}: {what}")])

    try:
        matrix = np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError as error:
        raise refuse(f"cannot be read as numbers: {error}") from error
    if matrix.shape != (size, size):
        raise refuse(
            f"got {matrix.shape[0]} x {matrix.shape[1]} numbers, expected {size} x {size}, a row for each datum"
        )
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=0) or np.linalg.eigvalsh(matrix).min() <= 0:
        raise refuse("expected a matrix that is symmetric and positive definite")
    return matrix


def variance_of_output(
    scatter: Callable[[Float[Array, " n"]], dist.Distribution], at: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Return the variance with which a datum of each output tells what the output is, to first order.

    It is that of data over the squared slope of their mean (a Binomial's datum is in other units than the output), and
    where there is no variance, or no mean, one over the Fisher information: of a Student's t with df degrees of freedom
    scale^2 (df + 3) / (df + 1) (Lange, Little & Taylor 1989), which a Cauchy is with one; of others by drawn scores.

    Args:
        scatter: The distribution of data as a function of outputs, in whatever scale they are.
        at: The outputs.
    """
    along = jnp.ones_like(at)
    distribution = scatter(at)
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


def mistakes(output: str, noise: Noise, series: Series) -> list[Mistake]:
    """List the data that the noise could never have produced, and a covariance that does not fit them."""
    found, data = [], series.values
    place = f"observation.file: column {output}"
    expected, allowed = _SUPPORT.get(noise.dist, ("", lambda x: np.ones(len(x), bool)))
    measured = np.ones(len(data), bool) if series.side is None else series.side == 0  # a bound may be any number
    if not (fine := allowed(data) | ~measured).all():
        got = ", ".join(f"{x:g}" for x in data[~fine][:4])
        found.append(Mistake(place, f"got {got}; {noise.dist} noise needs {expected}"))
    total = getattr(noise, "total_count", None)
    if isinstance(total, Column):
        total = series.columns[total.column]
    if isinstance(total, (int, np.ndarray)) and (beyond := data > total).any():
        most = total if isinstance(total, int) else f"{total[beyond][0]:g}"
        found.append(Mistake(place, f"got {data[beyond].max():g}, above noise.{output}.total_count = {most}"))
    for column, numbers in series.columns.items():
        if not isinstance(noise, CustomNoise) and (numbers < 0.0).any():
            what = f"got {numbers.min():g}, which no noise.{output} can have; expected numbers of at least 0"
            found.append(Mistake(f"observation.file: column {column}", what))
    if isinstance(noise, MultivariateNormalNoise):
        if series.side is not None:
            found.append(
                Mistake(f"noise.{output}", "a joint distribution has no censored data; take independent noise")
            )
        try:
            joint_covariance(noise, len(data))
        except ConfigError as error:
            found += error.mistakes
    return found
