"""A posterior that ends where the simulator has no answer: a wall beyond the border, and draws behind it left out.

The wall is soft, so that trajectories turn at it instead of breaking. It stands wholly beyond what can be solved: what
is drawn before the border is drawn from the posterior, whatever the width of the wall, and what is drawn behind it is
left out (a chain that is looked at only while it is in a set has the target restricted to that set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.batches import in_batches
from simfer.stages.errors import StageError
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.samplers.smc import settle
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import HANDED, Infer
from simfer.stages.simulate.border import Border

_WIDTH = 0.15  # of the wall, as a share of the posterior's own length across the border
_MORE = 1.4  # times as many draws as asked for, since some are left out: up to a fifth by such a wall
_LOOK = 500  # points of each island that look behind the border
_STEEPEST = 10.0  # by how much a rise towards the border may shorten that length


def learn_border(paths: Sequence[Path]) -> Border | None:
    """Learn the border from simulated artifacts: rows with every output finite were solved."""
    sources = [Simulations.load(path) for path in paths]
    if not sources:
        return None
    rows = [each.rows(0, len(each)) for each in sources]
    z, usable = (np.concatenate([row[i] for row in rows]) for i in (0, 2))
    return Border.learn(z, usable, sources[0].space)


def enough(settings: Infer) -> Infer:
    """Return settings by which a sampler draws what is asked for, and what will be left out."""
    return settings.model_copy(update={"num_samples": int(np.ceil(_MORE * settings.num_samples))})


def build_wall(target: Target, border: Border) -> Target:
    """Return the target with a wall behind the border."""
    size, width = target.predictor.space.size, _width(target, border)

    def log_likelihood(z: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
        depth = jnp.minimum(border.latent(z[:size]), 0.0) / width
        return target.log_likelihood(z, data) - 0.5 * depth**2

    return target._replace(log_likelihood=log_likelihood)


def _width(target: Target, border: Border) -> float:
    """Return the wall's width in units of the latent function, from the posterior's length across the border.

    That is read at the likeliest row, as if the posterior were normal: its sd along the border's normal, and how it
    rises towards the border on the way there on which it falls least.
    """
    size = target.predictor.space.size
    z = np.asarray(target.predictor.training_z)
    padded = jnp.asarray(np.pad(z, ((0, 0), (0, target.size - size))))
    rest = padded[0, size:]  # noise and error, where chains begin

    def density(z: Float[Array, " size"]) -> Float[Array, ""]:
        return target.log_likelihood(jnp.concatenate([z, rest])) + norm.logpdf(z).sum()

    scores = in_batches(density, padded[:, :size])
    best = jnp.asarray(z[int(np.argmax(np.where(np.isfinite(scores), scores, -np.inf)))])
    slope = jax.jit(jax.grad(border.latent))
    outward = -np.asarray(slope(best))
    values, vectors = np.linalg.eigh(-np.asarray(jax.jit(jax.hessian(density))(best)))
    covariance = (vectors / np.maximum(values, 1.0)) @ vectors.T  # nowhere wider than the prior
    one_sd = np.sqrt(max(float(outward @ covariance @ outward), 1e-300))
    step = covariance @ outward / one_sd
    at = best + step * max(float(border.latent(best)), 0.0) / one_sd
    rise = float(jax.jit(jax.grad(density))(at) @ step)
    at_border = float(np.sqrt(max(float((there := np.asarray(slope(at))) @ covariance @ there), (1e-3 * one_sd) ** 2)))
    return _WIDTH * at_border / float(np.clip(rise if np.isfinite(rise) else 1.0, 1.0, _STEEPEST))


def look_behind(target: Target, border: Border, settings: Infer, progress: Progress) -> Border:
    """Say where the posterior would be behind the border, were it not there: chains that it stops do not see far.

    What the emulator says there is worth little where all simulations failed; but a part of the parameters that can be
    solved, cut off by a region that cannot, is found by simulating some of these points.
    """
    z = settle(target, settings, progress, _LOOK, more=0).population.z.reshape(-1, target.size)
    held = border.holds(z[:, : target.predictor.space.size])
    return replace(border, hidden=z[~held], hidden_weight=1.0 / max(int(held.sum()), 1))


def leave_out(draws: Draws, most: int, target: Target, walled: Target, border: Border) -> tuple[Draws, Border]:
    """Leave out what was drawn behind the border, and keep it with the border.

    Chains end with `most` draws each, or as many as the shortest has.
    """
    held = border.holds(draws.z[..., : target.predictor.space.size])
    count = min(int(held.sum(axis=1).min()), most)
    if count < 2:
        raise StageError(
            "a chain has no draw where the simulator has an answer: the data ask for parameters that cannot be solved "
            '(simulate.failures = "impossible" gives them probability zero). Look at the failures of simulate, '
            "raise simulate.num_simulations, or the number of draws (infer.num_samples)"
        )
    pick = np.stack([np.flatnonzero(row)[:count] for row in held])
    chain = np.arange(len(pick))[:, None]
    kept = {name: values[chain, pick] for name, values in draws.statistics.items()}
    last = pick[:, min(count, HANDED) - 1]  # more draws than are handed over leave the border as it is
    beyond = draws.z[~held & (np.arange(held.shape[1]) <= last[:, None])]
    excess = np.zeros(0)
    if len(beyond):
        lower = jax.jit(lambda z: jax.lax.map(lambda z: target.log_likelihood(z) - walled.log_likelihood(z), z))
        excess = np.asarray(lower(jnp.asarray(beyond)))
    draws = draws._replace(z=draws.z[chain, pick], statistics=kept, log_evidence=None)  # the wall's is another
    return draws, replace(border, beyond=beyond, excess=excess)
