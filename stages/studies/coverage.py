"""Tests of uniform ranks: simultaneous bands for their ECDF, and distances to random points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import binom


def ecdf_band(
    num: int, count: int, level: float, repeats: int = 4000
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return a grid and the band in which the ECDF of `num` uniform ranks out of `count` draws stays.

    All of the ECDF stays inside with probability `level`: the pointwise binomial coverage is tuned by simulation
    (Sailynoja, Burkner & Vehtari 2022, section 2.2).
    """
    # Ranks are whole numbers from 0 to count, each as likely as another.
    grid = np.arange(0, count) / count
    below = (np.arange(0, count) + 1) / (count + 1)  # P(rank / count <= grid)
    ranks = np.random.default_rng(0).integers(0, count + 1, size=(repeats, num))
    counts = np.stack([np.bincount(row, minlength=count + 1)[:count] for row in ranks]).cumsum(axis=1)
    tails = np.minimum(binom.cdf(counts, num, below), binom.sf(counts - 1, num, below))
    gamma = 2.0 * np.quantile(tails.min(axis=1), 1.0 - level)
    low, high = binom.ppf(gamma / 2, num, below), binom.ppf(1.0 - gamma / 2, num, below)
    return grid, low / num, high / num


def ecdf(values: Float[np.ndarray, " n"], grid: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return the share of values at or below each point of a grid."""
    return np.searchsorted(np.sort(values), grid + 1e-9, side="right") / len(values)


def inside(
    values: Float[np.ndarray, " n"],
    grid: Float[np.ndarray, " k"],
    low: Float[np.ndarray, " k"],
    high: Float[np.ndarray, " k"],
) -> bool:
    """Say whether an ECDF stays within a band."""
    curve = ecdf(values, grid)
    return bool(((curve >= low - 1e-9) & (curve <= high + 1e-9)).all())


def tarp(
    known: Float[np.ndarray, "sets size"], draws: Float[np.ndarray, "sets draws size"], seed: int
) -> Float[np.ndarray, " sets"]:
    """Return each set's share of draws nearer to a random point than the truth is (Lemos et al. 2023, algorithm 2).

    Uniform if, and only if, the posteriors are right, whatever the dimension. Random points are drawn uniformly from
    the box of the known values.
    """
    random = np.random.default_rng(seed + 2)
    points = random.uniform(known.min(axis=0), known.max(axis=0), size=known.shape)
    scale = known.std(axis=0)
    to_truth = np.linalg.norm((known - points) / scale, axis=1)
    to_draws = np.linalg.norm((draws - points[:, None]) / scale, axis=2)
    return (to_draws < to_truth[:, None]).mean(axis=1)
