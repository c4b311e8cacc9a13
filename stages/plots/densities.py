"""Smoothed densities, in one dimension and in two."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from simfer.stages.plots.figures import Values, finite, forward, span_of

_RIDGE = 0.5  # correlation that a grid follows; for less an upright one has cells enough, and straight edges


def _support(values: Values, power: float) -> tuple[float, float, float]:
    """Return the range to draw a density on, and the width of the Gaussian (Silverman 1986, eq. 3.31) to smooth it by.

    The range ends with the values where they crowd at its end, as at a prior's edge, and leaves room to fade elsewhere.
    """
    spread = min(values.std(), np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34)
    width = float(spread * values.size**-power)
    low, high = span_of(values, 0.001)
    fades = [np.mean(abs(values - end) < width) < 0.4 * width / (high - low) for end in (low, high)]
    return low - 3 * width * fades[0], high + 3 * width * fades[1], width


def _kernel(size: int, low: float, high: float, width: float) -> Float[np.ndarray, "size size"]:
    # Mirrored in both ends, so that a density that stops sharply is not drawn as if it faded out.
    i, j = np.ogrid[:size, :size]
    cells = max(1.0, width * size / (high - low))
    return np.asarray(sum(np.exp(-0.5 * (d / cells) ** 2) for d in (i - j, i + j + 1, i + j + 1 - 2 * size)))


def smooth(values: Values, log: bool) -> tuple[Values, Values]:
    """Return where and how dense values lie (for each decade, if `log`), smoothed."""
    (values,) = finite(forward(values, log))
    if not values.size:
        return np.ones(1), np.zeros(1)
    low, high, width = _support(values, 1 / 5)
    counts, edges = np.histogram(values, 200, (low, high))
    density = _kernel(200, low, high, width) @ counts
    middle = 0.5 * (edges[1:] + edges[:-1])
    return 10**middle if log else middle, density / (density.mean() * (high - low))


def smooth_2d(x: Values, y: Values) -> tuple[Values, Values, Values, list[float]]:
    """Return a grid, the smoothed density on it, and the densities that enclose 90 and 50 % of the draws.

    The grid follows the draws' covariance, so that a narrow diagonal ridge is as well resolved as a round blob. Where
    they are hardly correlated it is upright, and ends at a prior's edge as the prior does.
    """
    xy = np.stack([x, y])
    centre, scale = xy.mean(1, keepdims=True), xy.std(1, keepdims=True)
    scale[scale == 0] = 1.0
    covariance = np.cov((xy - centre) / scale, bias=True)
    covariance = covariance if abs(covariance[0, 1]) > _RIDGE else np.eye(2)
    root = scale * np.linalg.cholesky(covariance + 1e-6 * np.eye(2))
    u, v = np.linalg.solve(root, xy - centre)
    supports = [_support(each, 1 / 6) for each in (u, v)]
    counts, *edges = np.histogram2d(u, v, 70, [support[:2] for support in supports])
    left, right = (_kernel(70, *support) for support in supports)
    density = left @ counts @ right.T
    ordered = np.sort(density.ravel())[::-1]
    levels = ordered[np.searchsorted(ordered.cumsum() / ordered.sum(), [0.9, 0.5])].tolist()
    middles = np.meshgrid(*(0.5 * (edge[1:] + edge[:-1]) for edge in edges), indexing="ij")
    grid = np.tensordot(root, middles, 1) + centre[..., None]
    return grid[0], grid[1], density, levels
