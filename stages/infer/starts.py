"""Where chains begin."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaincinv

from simfer.stages.batches import in_batches
from simfer.stages.errors import StageError
from simfer.stages.infer.target import Target


def choose_starts(target: Target, count: int) -> Float[np.ndarray, "chains size"]:
    """Choose a simulated row for each chain: far from one another, among those that the data like.

    Chains that begin apart find several modes where there are, and their R-hat then says so. Components of a point
    that no row has (of the noise, of the error) begin at zero.
    """
    z = np.asarray(target.starts())
    score = in_batches(target.log_likelihood, z)
    score[~np.isfinite(score)] = -np.inf
    best = np.argsort(-score)[:count]
    if not np.isfinite(score[best[0]]):
        raise StageError(
            "no simulated row gives the data a finite likelihood; look at the data beside the simulations, "
            "widen the priors, or raise simulate.num_simulations"
        )
    # Log likelihood ratios within a posterior are half a chi-squared (Wilks 1938): what exceeds it is not of it.
    liked = np.flatnonzero(score >= score[best[0]] - gammaincinv(0.5 * target.size, 0.999))
    if len(liked) < count:
        liked = best[np.isfinite(score[best])]
    return z[_far_apart(z[liked], liked, count, first=best[0])]


def _far_apart(z: Float[np.ndarray, "n p"], rows: Int[np.ndarray, " n"], count: int, first: int) -> np.ndarray:
    """Return `count` of the rows, each the farthest from those before it."""
    chosen = [int(np.flatnonzero(rows == first)[0])]
    distance = np.full(len(rows), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.linalg.norm(z - z[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return rows[chosen]
