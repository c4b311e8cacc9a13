"""Sequential Monte Carlo: a tempered population, which holds every mode with its weight."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.devices import platform
from simfer.stages.errors import StageError
from simfer.stages.infer.samplers.draws import Draws, Estimate
from simfer.stages.infer.samplers.hops import hop
from simfer.stages.infer.samplers.moves import Moves, compile_moves
from simfer.stages.infer.samplers.places import Heights, find_places
from simfer.stages.infer.samplers.population import Population, populate
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer
from simfer.stages.summary import Table

ISLANDS = 4
LOOK, POINTS = 1000, 2000  # of each island: to see where the posterior lies, and to be its draws
MORE = 4000  # where there are several places: with hops between them their weights are within a percent
_TOGETHER, _CACHE = 100, 2**20  # rows moved as one array at most, and bytes
_BLOCKS = 4  # of hops at most, proposals being learned anew for each
# How far hops may carry a population that they have not gone through, as a distance of distributions (Kolmogorov and
# Smirnov's): such a one lacks a neck that few points have entered. It was 0.17 where a quarter of the mass was missing.
ADRIFT = 0.05
_SURE = 0.25  # standard error of a log evidence that is told


class NowhereError(StageError):
    """No draw of the prior gives the data a finite likelihood."""


class Settled(NamedTuple):
    """A population at the posterior, and the place that each of its points lies in."""

    population: Population
    place: Int[np.ndarray, "islands points"]
    heights: Heights  # the log density at any points
    seconds: float
    num_gradients: int
    drift: float | None = None  # how far hops have carried it, where it has hopped; 0 if they went through

    def draws(self, count: int) -> Draws:
        """Return `count` points of each island, spread over all of its chains."""
        points = self.place.shape[1]
        kept = np.linspace(0, points - 1, count).astype(int)
        statistics = {"lp": self.population.log_density[:, kept], "place": self.place[:, kept]}
        z, table = self.population.z[:, kept], _tabulated(self.place)
        return Draws(z, statistics, self.seconds, self.num_gradients, "smc", table,
                     log_evidence=self.log_evidence, drift=self.drift)  # fmt: skip

    @property
    def log_evidence(self) -> Estimate | None:
        """The log of the likelihood's mean over the prior, unless islands differ so much that none has it right.

        Nor is it told where hops still carry points on: a neck that few have entered has its mass in no island.
        """
        if (self.drift or 0.0) > ADRIFT:
            return None
        islands = self.population.log_evidence
        error = float(islands.std(ddof=1) / np.sqrt(len(islands)))
        return Estimate(float(islands.mean()), error) if error <= _SURE else None


def sample(target: Target, settings: Infer, progress: Progress) -> Draws:
    """Carry a population from the prior to the posterior, a larger one if it ends in several places.

    Returns:
        `num_samples` draws of each island, the place that each lies in among their statistics.
    """
    return settle(target, settings, progress, max(POINTS, settings.num_samples)).draws(settings.num_samples)


def settle(target: Target, settings: Infer, progress: Progress, points: int, more: int = MORE) -> Settled:
    """Carry a population from the prior to the posterior, and a larger one (of `more`) if it ends in several places.

    One that is large enough to be the answer hops, wherever it lies: two heaps with a bridge between them are one
    place, and their shares go astray as those of two.
    """
    begun = time.perf_counter()
    moves = compile_moves(target.log_ratio, settings.likelihood == "simulator", _rows_together(target))
    settled = _settled(target, settings, moves, points, progress)
    used = settled.num_gradients
    if settled.place.any() and more > points:
        settled = _settled(target, settings, moves, max(more, settings.num_samples), progress)
        used += settled.num_gradients
    if settled.place.shape[1] > LOOK:
        before = settled.num_gradients
        settled = _hopped(target, settings, settled)
        used += settled.num_gradients - before
    return settled._replace(seconds=time.perf_counter() - begun, num_gradients=used)


def _rows_together(target: Target) -> int | None:
    """Return how many rows are moved as one array: as many as a core's cache holds the predictions of, with factors."""
    if platform() != "cpu":  # an accelerator takes them all
        return None
    return int(np.clip(_CACHE // (8 * target.num_predicted), 1, _TOGETHER))


def _settled(target: Target, settings: Infer, moves: Moves, points: int, progress: Progress) -> Settled:
    points = 10 * -(-points // 10)
    with progress.task("population", total=100, unit="%") as task:
        done = 0

        def tell(power: float) -> None:
            nonlocal done
            task.advance(int(100 * power) - done, power=power)
            done = int(100 * power)

        try:
            population = populate(moves, target.size, ISLANDS, points, settings.seed, tell)
        except ValueError as error:
            raise NowhereError(f"{error}; look at the data beside the simulations, and at the priors") from error
    place = find_places(moves.log_density, population.z.reshape(-1, target.size), settings.seed)
    return Settled(population, place.reshape(population.z.shape[:2]), moves.log_density, 0.0, population.num_gradients)


def _hopped(target: Target, settings: Infer, settled: Settled) -> Settled:
    """Put the weights of separate places, and of heaps within one, right."""
    population, place = settled.population, settled.place
    for block in range(_BLOCKS if settings.likelihood == "emulator" else 1):
        population, is_through = hop(population, place, settled.heights, settings.seed + block)
        found = find_places(settled.heights, population.z.reshape(-1, target.size), settings.seed)
        place = found.reshape(place.shape)
        if is_through:
            break
    drift = 0.0 if is_through else _distance(settled.population.z, population.z)
    return settled._replace(population=population, place=place, num_gradients=population.num_gradients, drift=drift)


def _distance(
    before: Float[np.ndarray, "islands points size"], after: Float[np.ndarray, "islands points size"]
) -> float:
    """Return the largest distance between the distributions of any component, by Kolmogorov and Smirnov."""
    one, other = (np.sort(z.reshape(-1, z.shape[-1]), axis=0) for z in (before, after))
    farthest = 0.0
    for x, y in zip(one.T, other.T, strict=True):
        at = np.concatenate([x, y])
        apart = np.searchsorted(x, at, side="right") - np.searchsorted(y, at, side="right")
        farthest = max(farthest, float(np.abs(apart).max()) / len(x))
    return farthest


def _tabulated(place: Int[np.ndarray, "islands points"]) -> Table:
    """Tabulate each place's share of the mass, with the standard error that the islands tell."""
    shares = np.stack([(place == k).mean(axis=1) for k in range(place.max() + 1)], axis=1)
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return [
        {"place": k + 1, "mass": float(mean), "standard_error": float(sd)}
        for k, (mean, sd) in enumerate(zip(shares.mean(axis=0), error, strict=True))
    ]
