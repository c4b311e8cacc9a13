"""Whose doing an output's variance is: Sobol indices of smooth functions, and their bounds by gradients.

A point z is whitened: its components are independent and standard normal, as parameters are under their priors. Both
indices are estimated as by Saltelli et al. (2010, table 2, b and f), which is how SALib does it for one output at a
time. In this space the Poincare inequality has the constant 1, so that mean squared derivatives bound the total index
from above (Sobol & Kucherenko 2009), and the square of the mean derivative, which is the variance of the function's
linear part, bounds the first-order one from below (Kucherenko & Song 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Functions = Callable[[Float[Array, " size"]], Float[Array, "functions n"]]
INDICES = ("first", "total", "at_least", "at_most")


class Variances(NamedTuple):
    """Parts of the variances of n outputs, by parameter: of each function, with each way to weigh the points.

    They add up over outputs. at_least <= first <= total <= at_most, but for chance.
    """

    first: Float[np.ndarray, "functions k size n"]  # of the mean given one parameter
    total: Float[np.ndarray, "functions k size n"]  # what is left once all the others are given
    at_least: Float[np.ndarray, "functions k size n"]
    at_most: Float[np.ndarray, "functions k size n"]
    whole: Float[np.ndarray, "functions k 1 n"]
    error: Float[np.ndarray, "functions k 1 n"]  # mean squared difference from the first function

    def sum(self) -> Variances:
        """Add up the outputs, for indices of all of them together (Lamboni, Monod & Makowski 2011)."""
        return Variances(*(each.sum(axis=-1, keepdims=True) for each in self))

    def part(self, at: slice) -> Variances:
        """Return those of some outputs."""
        return Variances(*(each[..., at] for each in self))

    def add(self, others: Variances) -> Variances:
        """Add those of as many other outputs."""
        return Variances(*map(np.add, self, others))

    def shares(self, name: str) -> Float[np.ndarray, "functions k size n"]:
        """Return one of the indices; NaN where an output does not vary."""
        return np.asarray(getattr(self, name)) / np.where(self.whole > 0, self.whole, np.nan)


class Estimate(NamedTuple):
    """An index, and by how much (standard deviations) sampling and the emulator may have it wrong."""

    value: Float[np.ndarray, "size n"]
    sampling_sd: Float[np.ndarray, "size n"]
    emulator_sd: Float[np.ndarray, "size n"]

    @property
    def sd(self) -> Float[np.ndarray, "size n"]:
        """Both together."""
        return np.hypot(self.sampling_sd, self.emulator_sd)

    def part(self, at: slice) -> Estimate:
        """Return that of some outputs."""
        return Estimate(*(each[:, at] for each in self))


def resamples(num: int, points: int, seed: int) -> Float[np.ndarray, "k points"]:
    """Return the weights of points: even ones, and below them those of a bootstrap, drawn as SALib draws it."""
    drawn = np.random.default_rng(seed).integers(points, size=(points, num))
    counts = [np.bincount(column, minlength=points) for column in drawn.T]
    return np.stack([np.ones(points), *counts]) / points


def variances(
    functions: Functions, z: Float[np.ndarray, "points designs size"], weights: Float[np.ndarray, "k points"]
) -> Variances:
    """Share the variances of functions out among their arguments, by a design of Saltelli's."""
    y = np.asarray(_evaluate(functions, jnp.asarray(z.reshape(-1, z.shape[-1]))))
    y = y.reshape(*z.shape[:2], *y.shape[1:])
    slopes = np.asarray(_evaluate(jax.jacfwd(functions), jnp.asarray(z[:, 0])))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, and may be found in the result
        each = [_decompose(y[:, :, f], slopes[:, f], y[:, :1, 0], weights) for f in range(y.shape[2])]
    return Variances(*(np.stack(parts) for parts in zip(*each, strict=True)))


def _evaluate(function: Functions, z: Float[Array, "points size"]) -> Array:
    return eqx.filter_jit(lambda z: jax.lax.map(function, z, batch_size=256))(z)


def _decompose(
    y: Float[np.ndarray, "points designs n"],
    slopes: Float[np.ndarray, "points n size"],
    best: Float[np.ndarray, "points 1 n"],
    weights: Float[np.ndarray, "k points"],
) -> Variances:
    error, center = y[:, :1] - best, y.mean(axis=(0, 1))
    y = y - center  # which lessens the error of first-order indices, as SALib does
    a, ab, b = y[:, :1], y[:, 1:-1], y[:, -1:]
    slopes = np.swapaxes(slopes, 1, 2)

    def mean(values: Float[np.ndarray, "points s n"]) -> Float[np.ndarray, "k s n"]:
        return np.tensordot(weights, values, axes=1)

    whole = mean((a**2 + b**2) / 2) - mean((a + b) / 2) ** 2
    return Variances(
        first=mean(b * (ab - a)),
        total=mean((a - ab) ** 2) / 2,
        at_least=mean(slopes) ** 2,
        at_most=mean(slopes**2),
        whole=np.where(whole > (1e-10 * center) ** 2, whole, 0.0),  # what is below is rounding
        error=mean(error**2),
    )


def estimates(sampled: Variances, truths: Variances | None = None) -> dict[str, Estimate]:
    """Return each index with its standard deviations.

    `sampled` holds the best function, its points weighed evenly and then resampled; `truths`, where it is in doubt,
    that function and then what the truth may be in its place. The emulator's part is their root mean square
    difference, as Le Gratiet, Cannamela & Iooss (2014) have it over draws of a Gaussian process.
    """
    found = {}
    for name in INDICES:
        resampled = sampled.shares(name)[0]
        may_be = truths.shares(name)[:, 0] if truths else resampled[[0, 0]]
        away = np.sqrt(np.mean((may_be[1:] - may_be[:1]) ** 2, axis=0))
        found[name] = Estimate(resampled[0], resampled[1:].std(axis=0, ddof=1), away)
    return found
