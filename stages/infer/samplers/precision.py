"""How well draws know means and sds: an sd is known badly where a few draws, far out, make most of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_SURE = 0.1  # standard error of an sd, as a share of it, beyond which more of the same draws are no cure


def knows_sds(z: Float[np.ndarray, "chains draws size"]) -> bool:
    """Say whether draws know the sd of every component."""
    return largest_sd_error(z) <= _SURE


def largest_sd_error(z: Float[np.ndarray, "chains draws size"]) -> float:
    """Return the largest standard error of an sd, as a share of it, over the components."""
    return float(np.sqrt(max(log_sd_variance(z[..., i]) for i in range(z.shape[-1]))))


def sd_error_by_islands(z: Float[np.ndarray, "islands points size"]) -> float:
    """Return the largest standard error of an sd, as a share of it, by what independent islands differ by.

    Points of one island are alike in what an effective size cannot see, as all of them descend from the few that came
    first to a narrow place.
    """
    sd = np.maximum(z.std(axis=1), 1e-300)
    return float((np.log(sd).std(axis=0, ddof=1) / np.sqrt(len(z))).max()) if len(z) > 1 else 0.0


def log_sd_variance(values: Float[np.ndarray, "chains draws"]) -> float:
    """Return the variance of the logarithm of draws' sd: large where a few of them, far out, make most of it."""
    squares = (values - values.mean()) ** 2
    return float(squares.var() / max(squares.mean(), 1e-300) ** 2 / effective_size(squares) / 4.0)


def effective_size(values: Float[np.ndarray, "chains draws"]) -> float:
    """Return how many independent draws would know the mean as well (Vehtari et al. 2021)."""
    from arviz_stats.base import array_stats

    size = float(array_stats.ess(values, method="mean"))
    return size if np.isfinite(size) and size > 0.0 else 1.0
