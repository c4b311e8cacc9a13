"""The separate places that a population lies in: points are joined where no valley lies on the line between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

_VALLEY = 1.0  # nats below the middle of the heights beside it
_LOWEST = float(np.finfo(float).min) / 4  # in the place of no height, so that sums of two are finite
_BETWEEN = (0.25, 0.5, 0.75)
_NEAR, _FAR = 8, 8  # partners of a point: its neighbours, and others by chance
_SOME = 1000  # points that are looked at
_LEAST = 0.005  # share of the points that makes a place

Heights = Callable[[Float[np.ndarray, "points size"]], Float[np.ndarray, " points"]]  # the log density at points


def find_places(heights: Heights, z: Float[np.ndarray, "points size"], seed: int) -> Int[np.ndarray, " points"]:
    """Return the number of each point's place, the heaviest place being 0.

    Along a line between two draws of one log-concave hill the log density is concave, in any number of dimensions; near
    neighbours follow a curved ridge, and pairs by chance join what neighbours leave apart. That a line stays above its
    lower end would not do: from a draw far out on one hill the way is up to any other.
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(z))[:_SOME]
    root = np.linalg.cholesky(np.atleast_2d(np.cov(z[some].T)) + 1e-12 * np.eye(z.shape[1]))
    whitened = np.linalg.solve(root, z.T).T
    label = _joined(heights, z[some], whitened[some], rng)
    sizes = np.bincount(label)
    large = np.flatnonzero(sizes >= max(_LEAST * len(some), 3))
    large = large[np.argsort(-sizes[large], kind="stable")]
    rank = np.full(len(sizes), -1)
    rank[large] = np.arange(len(large))
    kept = np.flatnonzero(rank[label] >= 0)  # a straggler belongs to the nearest place
    nearest = KDTree(whitened[some][kept]).query(whitened)[1]
    return np.asarray(rank[label[kept]][nearest])


def _joined(
    heights: Heights,
    z: Float[np.ndarray, "n size"],
    whitened: Float[np.ndarray, "n size"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " n"]:
    """Return a number that points have in common which lines without a valley join.

    Partners are taken in turn, those by chance first, and lines between points that are joined already are left out:
    in one hill few are left after the first.
    """
    label, ends = np.arange(len(z)), _finite(heights(z))
    neighbours = KDTree(whitened).query(whitened, k=_NEAR + 1)[1][:, 1:]
    for partner in np.concatenate([rng.integers(0, len(z), (len(z), _FAR)), neighbours], axis=1).T:
        a = np.flatnonzero(label != label[partner])
        if not len(a):
            continue
        b = partner[a]
        between = heights(np.concatenate([z[a] + share * (z[b] - z[a]) for share in _BETWEEN]))
        hill = _concave(np.stack([ends[a], *_finite(between).reshape(len(_BETWEEN), -1), ends[b]]))
        pairs = np.ones(hill.sum()), (label[a[hill]], label[b[hill]])
        _, joined = connected_components(coo_matrix(pairs, shape=[label.max() + 1] * 2), directed=False)
        label = joined[label]
    return np.asarray(label)


def _concave(heights: Float[np.ndarray, "along lines"]) -> Bool[np.ndarray, " lines"]:
    """Say along which lines no height lies a valley below the middle of those beside it."""
    return np.asarray((heights[1:-1] >= (heights[:-2] + heights[2:]) / 2 - _VALLEY).all(axis=0))


def _finite(height: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.where(np.isfinite(height), height, _LOWEST)
