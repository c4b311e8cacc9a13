"""Hops between separate places: what puts their weights right, where no leap of HMC leads from one to another.

Every time that a population is resampled, the share of a place goes astray by chance, and nothing brings it back. Here
each point proposes points of its own to itself, from a mixture of a Student's t for each place, and takes them as
Metropolis and Hastings have it: shares are then those of the posterior, however the population came by its own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp
from scipy.stats import multivariate_t

from simfer.stages.infer.samplers.places import Heights
from simfer.stages.infer.samplers.population import Population

_TAILS = 5.0  # degrees of freedom: heavier than the tails of most places
_ROUNDS, _MOVED = 30, 0.99  # at most; and the share of points that has moved, from where on it is enough
_TRIED, _HOPELESS = 5, 0.01  # rounds after which so few have moved that more of them are no use


class Mixture:
    """A Student's t for each of the places that points lie in, of their shares."""

    def __init__(self, z: Float[np.ndarray, "points size"], place: Int[np.ndarray, " points"]) -> None:
        count, size = np.bincount(place), z.shape[1]
        self.parts, kept = [], np.flatnonzero(count > 2 * size)
        for k in kept:
            own = z[place == k]
            shape = np.atleast_2d(np.cov(own.T)) + 1e-12 * np.eye(size)
            self.parts.append(multivariate_t(own.mean(axis=0), shape * (_TAILS - 2.0) / _TAILS, _TAILS))
        self.shares = count[kept] / count[kept].sum()

    def draw(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, "count size"]:
        """Draw points."""
        counts = rng.multinomial(count, self.shares)
        each = [part.rvs(n, random_state=rng).reshape(n, part.dim) for part, n in zip(self.parts, counts, strict=True)]
        return rng.permutation(np.concatenate(each))

    def log_density(self, z: Float[np.ndarray, "points size"]) -> Float[np.ndarray, " points"]:
        """Return the log density at points."""
        each = [np.log(share) + part.logpdf(z) for share, part in zip(self.shares, self.parts, strict=True)]
        return np.asarray(logsumexp(np.reshape(each, (len(each), len(z))), axis=0))


def hop(population: Population, place: Int[np.ndarray, "islands points"], heights: Heights, seed: int) -> Population:
    """Let every point of a population hop between places.

    What is proposed to an island is learned from the others, so that its points are drawn independently of it.

    Args:
        population: Points at the posterior.
        place: The number of each point's place.
        heights: The posterior's log density, not normalised, at points.
        seed: Of the random numbers.
    """
    rng, (islands, points, size) = np.random.default_rng([seed, 1]), population.z.shape
    others = [np.arange(islands) != i for i in range(islands)]
    mixtures = [Mixture(population.z[rest].reshape(-1, size), place[rest].ravel()) for rest in others]
    z, log_density = population.z.copy(), population.log_density.copy()
    known = np.stack([mixture.log_density(own) for mixture, own in zip(mixtures, z, strict=True)])
    moved, used = np.zeros((islands, points), bool), 0
    for number in range(_ROUNDS):
        new = np.stack([mixture.draw(rng, points) for mixture in mixtures])
        drawn = np.stack([mixture.log_density(own) for mixture, own in zip(mixtures, new, strict=True)])
        height = heights(new.reshape(-1, size)).reshape(islands, points)
        used += height.size
        with np.errstate(invalid="ignore"):
            taken = np.log(rng.random(height.shape)) < (height - drawn) - (log_density - known)
        z[taken], log_density[taken], known[taken] = new[taken], height[taken], drawn[taken]
        moved |= taken
        if moved.mean() > _MOVED or (number + 1 == _TRIED and moved.mean() < _HOPELESS):
            break
    return population._replace(z=z, log_density=log_density, num_gradients=population.num_gradients + used)
