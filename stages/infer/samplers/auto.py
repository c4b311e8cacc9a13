"""NUTS where the posterior is one place, and the population where it is several."""

from __future__ import annotations

from simfer.stages.infer.samplers import nuts, smc
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer


def sample(target: Target, settings: Infer, progress: Progress) -> Draws:
    """Look where the posterior lies by a population; start NUTS from it if that is one place.

    A chain of NUTS does not go from one place to another, so that draws of several chains have the places in
    proportion to the chains and not to their mass; those of the population have.
    """
    population = smc.sample(target, settings, progress)
    if len(population.places) > 1:
        return population
    starts = population.z[:, :1].reshape(-1, target.size)
    starts = starts[[chain % len(starts) for chain in range(settings.num_chains)]]
    drawn = nuts.sample(target, settings, progress, starts)
    return drawn._replace(
        num_gradients=drawn.num_gradients + population.num_gradients, seconds=drawn.seconds + population.seconds
    )
