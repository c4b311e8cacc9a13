"""Sequential Monte Carlo: a tempered population, which holds every mode with its weight."""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Int

from simfer.stages.errors import StageError
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.samplers.places import find_places
from simfer.stages.infer.samplers.population import Moves, Population, compile_moves, populate
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer
from simfer.stages.summary import Table

ISLANDS = 4
_POINTS = 2000  # of each island
_MORE = 8000  # where there are several places: their weights are then within a percent or two


def sample(target: Target, settings: Infer, progress: Progress) -> Draws:
    """Carry a population from the prior to the posterior, a larger one if it ends in several places.

    Returns:
        `num_samples` draws of each island, the place that each lies in among their statistics.
    """
    begun = time.perf_counter()
    moves = compile_moves(target.log_ratio, forward=settings.likelihood == "simulator")
    population, place = _populated(target, settings, moves, _POINTS, progress)
    used = population.num_gradients
    if place.any():
        population, place = _populated(target, settings, moves, _MORE, progress)
        used += population.num_gradients
    kept, seconds = settings.num_samples, time.perf_counter() - begun
    statistics = {"lp": population.log_density[:, :kept], "place": place[:, :kept]}
    return Draws(population.z[:, :kept], statistics, seconds, used, "smc", _tabulated(place))


def _populated(
    target: Target, settings: Infer, moves: Moves, points: int, progress: Progress
) -> tuple[Population, Int[np.ndarray, "islands points"]]:
    """Return a population and the place of each of its points."""
    points = 10 * -(-max(points, settings.num_samples) // 10)
    with progress.task("population", total=100, unit="%") as task:
        done = 0

        def tell(power: float) -> None:
            nonlocal done
            task.advance(int(100 * power) - done, power=power)
            done = int(100 * power)

        try:
            population = populate(moves, target.size, ISLANDS, points, settings.seed, tell)
        except ValueError as error:
            raise StageError(f"{error}; look at the data beside the simulations, and at the priors") from error
    z = population.z.reshape(-1, target.size)
    place = find_places(lambda z: target.log_ratio(z) - 0.5 * (z**2).sum(), z, settings.seed)
    return population, place.reshape(population.z.shape[:2])


def _tabulated(place: Int[np.ndarray, "islands points"]) -> Table:
    """Tabulate each place's share of the mass, with the standard error that the islands tell."""
    shares = np.stack([(place == k).mean(axis=1) for k in range(place.max() + 1)], axis=1)
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return [
        {"place": k + 1, "mass": float(mean), "standard_error": float(sd)}
        for k, (mean, sd) in enumerate(zip(shares.mean(axis=0), error, strict=True))
    ]
