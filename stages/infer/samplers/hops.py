"""Hops between separate places: what puts their weights right, where no leap of HMC leads from one to another.

Every time that a population is resampled, the share of a place goes astray by chance, and nothing brings it back. Here
each point proposes points of its own to itself, from a mixture of Student's t for each place, and takes them as
Metropolis and Hastings have it: shares are then those of the posterior, however the population came by its own.

A place need not be like a Gaussian: two heaps with a bridge between them are one, and so is a heap with a long tail.
Half of what is proposed comes from parts of a place, each with a Student's t of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from simfer.stages.infer.samplers.moves import well_conditioned
from simfer.stages.infer.samplers.places import Heights
from simfer.stages.infer.samplers.population import Population

_TAILS = 5.0  # degrees of freedom: heavier than the tails of most places
_PARTS = 4  # of a place
_ROUNDS, _MOVED = 30, 0.99  # at most; and the share of points that has moved, from where on it is enough
_OF_EACH = 0.9  # the same, of every place: one of a hundredth is no part of the 0.99
_TRIED, _HOPELESS = 5, 0.01  # rounds after which so few have moved that more of them are no use


class Hopped(NamedTuple):
    """A population after its hops."""

    population: Population
    is_through: bool  # whether nearly all points of every place have moved: shares are then the posterior's


class Mixture:
    """A Student's t for each of the places that points lie in and for its parts, of their shares."""

    def __init__(self, z: Float[np.ndarray, "points size"], place: Int[np.ndarray, " points"]) -> None:
        from scipy.stats import multivariate_t

        self.parts, counts = [], []
        for k in np.unique(place):
            own = z[place == k]
            for part in (own, *_split(own)):
                if len(part) > 2 * z.shape[1]:
                    shape = well_conditioned(np.atleast_2d(np.cov(part.T)) + 1e-12 * np.eye(z.shape[1]))
                    self.parts.append(multivariate_t(part.mean(axis=0), shape * (_TAILS - 2.0) / _TAILS, _TAILS))
                    counts.append(len(part))
        self.shares = np.array(counts) / sum(counts)

    def draw(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, "count size"]:
        """Draw points."""
        counts = rng.multinomial(count, self.shares)
        each = [part.rvs(n, random_state=rng).reshape(n, part.dim) for part, n in zip(self.parts, counts, strict=True)]
        return rng.permutation(np.concatenate(each))

    def log_density(self, z: Float[np.ndarray, "points size"]) -> Float[np.ndarray, " points"]:
        """Return the log density at points."""
        each = [np.log(share) + part.logpdf(z) for share, part in zip(self.shares, self.parts, strict=True)]
        return np.asarray(logsumexp(np.reshape(each, (len(each), len(z))), axis=0))


def _split(z: Float[np.ndarray, "points size"]) -> list[Float[np.ndarray, "part size"]]:
    """Return points in parts that lie together, by k-means in units of their sds."""
    from scipy.cluster.vq import kmeans, vq

    scaled = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-300)
    centres, _ = kmeans(scaled, scaled[np.linspace(0, len(z) - 1, min(_PARTS, len(z))).astype(int)])
    label, _ = vq(scaled, centres)
    return [z[label == k] for k in range(len(centres))]


def hop(population: Population, place: Int[np.ndarray, "islands points"], heights: Heights, seed: int) -> Hopped:
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
        if _all_moved(moved, place) or (number + 1 == _TRIED and moved.mean() < _HOPELESS):
            break
    hopped = population._replace(z=z, log_density=log_density, num_gradients=population.num_gradients + used)
    return Hopped(hopped, _all_moved(moved, place))


def _all_moved(moved: Bool[np.ndarray, "islands points"], place: Int[np.ndarray, "islands points"]) -> bool:
    """Say whether nearly all points have moved, those of every place."""
    return bool(moved.mean() > _MOVED) and all(moved[place == k].mean() > _OF_EACH for k in np.unique(place))
