"""Posteriors by NumPy and SciPy alone, to hold ours against."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares, minimize
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

    The proposal is a Student's t: about the mode first, which is that of a least-squares problem, and then twice with
    the mean and covariance of the weighted points so far. `residuals` takes many points at once.
    """

    def whole(z: np.ndarray) -> np.ndarray:
        return np.concatenate([residuals(z), z], axis=1)

    fit = least_squares(lambda z: whole(z[None])[0], start, x_scale=0.1, diff_step=1e-4)
    center, covariance = fit.x, np.linalg.inv(fit.jac.T @ fit.jac)
    for seed, count in enumerate((num // 4, num // 4, num)):
        proposal = multivariate_t(center, 1.3 * covariance, df=5, seed=seed)
        z = proposal.rvs(count)
        found = weighted(z, -0.5 * (whole(z) ** 2).sum(axis=1) - proposal.logpdf(z))
        center, covariance = found.mean, np.cov(z.T, aweights=found.weights)
    return found


def sampled(log_density: Callable[[np.ndarray], np.ndarray], size: int, num: int, keep: int) -> np.ndarray:
    """Return `keep` different points of a density with one peak, which takes many points at once.

    The proposal is a Student's t: about the mode first, as wide as the curvature there, then five times with the mean
    and covariance of the weighted points so far. Few are kept of the many that are proposed, so that hardly any would
    be drawn twice; they are drawn without their being put back (Efraimidis & Spirakis 2006).
    """
    center = np.zeros(size)
    for _ in range(3):  # BFGS by differences stops early where the density is far from a parabola
        center = minimize(lambda z: -float(log_density(z[None])[0]), center, method="BFGS").x
    step = 1e-3 * np.eye(size)
    pairs = np.array([center + a * step[i] + b * step[j] for i in range(size) for j in range(size)
                      for a in (1, -1) for b in (1, -1)])  # fmt: skip
    signs = np.tile([1.0, -1.0, -1.0, 1.0], size * size)
    hessian = (signs * log_density(pairs)).reshape(size, size, 4).sum(axis=2) / 4e-6
    values, vectors = np.linalg.eigh(-0.5 * (hessian + hessian.T))
    covariance = (vectors / np.maximum(values, 1.0)) @ vectors.T  # in the whitened space nothing is wider than a prior
    for seed, count in enumerate((num // 4,) * 5 + (num,)):
        proposal = multivariate_t(center, 1.3 * covariance, df=5, seed=seed)
        z = proposal.rvs(count)
        found = weighted(z, log_density(z) - proposal.logpdf(z))
        center, covariance = found.mean, np.cov(z.T, aweights=found.weights)
    assert found.ess > 3 * keep, found.ess
    gumbel, possible = np.random.default_rng(0).gumbel(size=num), found.weights > 0.0
    keys = np.where(possible, np.log(np.where(possible, found.weights, 1.0)) + gumbel, -np.inf)
    return found.points[np.argsort(-keys)[:keep]]
