"""Which shape a random simulator's data have at given parameters: a Gaussian's, or what a flow learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.normality import normality, whitened_scores
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig
from simfer.stages.settings.noise import UNLEARNED
from simfer.stages.summary import Table
from simfer.stages.train.density import Candidate, sample
from simfer.stages.train.feed import Rows
from simfer.stages.train.ladder import GAUSSIAN, ONE_SCALE, difference, learn, likeliest
from simfer.stages.train.stream import Stream

_TESTED = 4096  # held-out rows at most that the Gaussian's shape is tested on
_LEVEL = (
    0.05  # of that test: beyond it a flow is tried, in vain once in twenty trainings; what is kept, held-out rows say
)
_OTHERWISE = (
    "the data do not scatter as a Gaussian, and no density that was tried is better on held-out rows: the posterior is "
    "that of their mean and covariance alone. Its intervals cover about as they say, which is all that simulating at "
    "its draws can tell; the exact posterior may lie some tenths of an sd beside it"
)


class Shape(NamedTuple):
    """The emulator with its flow where there is one, what was found, and the densities that were compared."""

    emulator: Emulator
    words: str
    table: Table = []  # noqa: RUF012
    warnings: tuple[str, ...] = ()


def learn_shape(
    config: TrainConfig, dataset: TrainingSet, emulator: Emulator, rows: Rows | Stream, progress: Progress
) -> Shape:
    """Learn the density of the data by a flow, where `train.scatter` asks for it or the Gaussian is seen to be wrong.

    Of densities that are Gaussian, of one shape everywhere, and of a shape that follows the parameters, the one is
    taken to which rows that were not trained on are likeliest.
    """
    wanted, automatic = config.train.scatter, config.train.scatter == "auto"
    if automatic and UNLEARNED & {noise.dist for noise in config.noise.values()}:
        return Shape(emulator, "gaussian: data that are counts, or truncated, have no density that a flow could learn")
    p = _gaussian_p(emulator) if automatic else 0.0
    if p > _LEVEL:
        return Shape(emulator, f"gaussian: held-out rows do not contradict it (p = {p:.2g})")
    if isinstance(rows, Stream):
        raise StageError(f'train.memory: the rows take more, and train.scatter = "{wanted}" learns from all at once')
    found = learn(config.train, sample(config, dataset, np.asarray(rows.x, float)), progress)
    best = likeliest(found)
    table = [_row(kind, each, found[best]) for kind, each in found.items()]
    if automatic and best in (ONE_SCALE, GAUSSIAN):
        reason = f"held-out rows contradict it (p = {p:.2g}), but no flow that was tried is better"
        return Shape(emulator, f"gaussian: {reason}", table, (_OTHERWISE,))
    header = replace(emulator.header, flow=found[best].about)
    shaped = replace(emulator, flow=found[best].flow, header=header)
    return Shape(shaped, f"flow, {best}" + (f": held-out rows are not Gaussian (p = {p:.2g})" * automatic), table)


def _row(kind: str, candidate: Candidate, best: Candidate) -> dict[str, Any]:
    behind, error = difference(best, candidate)
    return {
        "density": kind,
        "held_out_log_density": float(candidate.log_density.mean()),
        "behind_the_best": behind,
        "standard_error": error,
        "steps": int(candidate.history.steps[-1]),
    }


def _gaussian_p(emulator: Emulator) -> float:
    """Return the p of held-out rows, whitened by members that did not see them, being normal."""
    assert emulator.random is not None
    random, kept = emulator.random, slice(-_TESTED, None)
    z = emulator.training_z[kept]

    def slopes(z: Float[Array, " size"]) -> Float[Array, "n size"]:
        active = np.asarray(random.base).any(axis=1)
        by_z = jax.jacfwd(lambda z: emulator.members(z).mean(axis=0))(z)[active]
        scaled = jax.scipy.linalg.solve_triangular(random.base[active], by_z, lower=True)
        return random.whitening(emulator.network_input(z)) @ scaled

    u = np.asarray(random.whitened[kept])
    whitened_slopes = np.asarray(jax.jit(lambda z: jax.lax.map(slopes, z, batch_size=64))(jnp.asarray(z)))
    u = (u - u.mean(axis=0)) / u.std(axis=0)  # the emulator's own error is no matter of the shape
    return normality(u, whitened_scores(u, whitened_slopes)).least
