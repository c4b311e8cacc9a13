"""Which simulated rows are near the data, and how much each of them counts there."""

from __future__ import annotations

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.special import gammaincinv

from simfer.stages.batches import in_batches
from simfer.stages.model.likelihood import Likelihood, read_likelihood
from simfer.stages.model.outputs import Layout
from simfer.stages.settings import SelectConfig

_NEAR_ROWS = 50  # held-out rows near the data that the emulator's error is read from, at least,
_OF_FEW = 0.4  # and the share of few: after a round about half of them are draws of a posterior, the rest the prior's


def select_near_data(
    config: SelectConfig, keep: int, layout: Layout, size: int, y: Iterable[Float[np.ndarray, "rows d"]]
) -> Bool[np.ndarray, " rows"]:
    """Say which simulated rows are near enough to the data to train on: so many of the closest ones, and more.

    They come in blocks. Close is a high likelihood, the noise at its priors' medians. No row is left out that the
    stretched posterior of `size` parameters could hold, however many there are: log likelihood ratios there are half
    a chi-squared (Wilks 1938), here up to its 99.9 % point.
    """
    likelihood = read_likelihood(config, layout, config.dataset.transform)
    at_data = [likelihood.to_transformed(block, config.dataset.floor) for block in y]
    distance = _distance(likelihood, np.concatenate(at_data))
    reach = gammaincinv(0.5 * size, 0.999) * config.refine.stretch**2
    closest = np.sort(distance)[:keep][-1]
    return distance <= max(closest, distance.min() + reach)


def _distance(likelihood: Likelihood, at_data: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    def log_likelihood(mean: Float[Array, " n"]) -> Float[Array, ""]:
        return likelihood.exact(mean, likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size)))

    score = -in_batches(log_likelihood, np.where(np.isfinite(at_data), at_data, 0.0))
    return np.where(np.isfinite(score), score, np.finfo(float).max)


def near_data(likelihood: Likelihood, y: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, " rows"]:
    """Return weights of transformed rows that prefer those near the data, summing to one.

    They are tempered likelihoods, exp(-(distance - smallest) / T), with the smallest T >= 1 at which they still
    count as many rows (1 / sum of squares) as a covariance needs. An emulator of the whole prior is judged by its
    error where the data are, not by that of outputs which nobody observed.
    """
    return temper(_distance(likelihood, y[:, likelihood.index]))


def temper(distance: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Return the weights of `near_data` for rows at these distances (minus log likelihoods), summing to one."""
    gap = distance - distance.min()
    wanted = min(max(_NEAR_ROWS, 0.1 * len(gap)), _OF_FEW * len(gap))
    low, high = 0.0, 60.0 * np.log(10.0)  # of log T
    for _ in range(60):
        middle = 0.5 * (low + high)
        weights = np.exp(-gap / np.exp(middle))
        enough = weights.sum() ** 2 / (weights**2).sum() >= wanted
        low, high = (low, middle) if enough else (middle, high)
    weights = np.exp(-gap / np.exp(high))
    return weights / weights.sum()
