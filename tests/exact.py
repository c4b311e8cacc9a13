"""Posteriors by NumPy and SciPy alone, to hold ours against."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import multivariate_t


class Weighted(NamedTuple):
    """Points and their weights, which sum to one."""

    points: np.ndarray  # points x quantities
    weights: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.weights @ self.points

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.weights @ (self.points - self.mean) ** 2)

    @property
    def ess(self) -> float:
        return float(1.0 / np.sum(self.weights**2))

    def quantile(self, level: float) -> np.ndarray:
        order = np.argsort(self.points, axis=0)
        below = np.cumsum(self.weights[order], axis=0) - 0.5 * self.weights[order]
        columns = zip(below.T, np.take_along_axis(self.points, order, axis=0).T, strict=True)
        return np.array([np.interp(level, b, x) for b, x in columns])


def weighted(points: np.ndarray, log_weights: np.ndarray) -> Weighted:
    weights = np.exp(log_weights - log_weights.max())
    return Weighted(points, weights / weights.sum())


def importance(residuals: Callable[[np.ndarray], np.ndarray], start: np.ndarray, num: int) -> Weighted:
    """Sample the posterior exp(-|residuals|^2 / 2) of whitened points, the prior's residual (the point) not among them.

    The proposal is a Student's t about the mode, which is that of a least-squares problem; `residuals` takes many
    points at once.
    """
    whole = lambda z: np.concatenate([residuals(z), z], axis=1)  # noqa: E731
    fit = least_squares(lambda z: whole(z[None])[0], start, x_scale=0.1)
    proposal = multivariate_t(fit.x, 1.3 * np.linalg.inv(fit.jac.T @ fit.jac), df=5, seed=1)
    z = proposal.rvs(num)
    return weighted(z, -0.5 * (whole(z) ** 2).sum(axis=1) - proposal.logpdf(z))
