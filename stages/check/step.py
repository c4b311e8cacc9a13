"""Whether outputs jump where a parameter passes some value: what no smooth emulator learns, of however many runs."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from simfer.stages.batches import in_batches
from simfer.stages.check.verdict import Figure
from simfer.stages.infer.posterior import named_draws
from simfer.stages.infer.target import Target

_SHARE = 0.9  # of what a quadratic leaves; a step explains 0.44 of a cubic, 0.9 of a slope over a twentieth of an sd
_SIDE = 5  # draws on either side of a step
_FOR_EACH = 3  # draws for each term of a quadratic, below which it has no products, and then no squares


class Step(NamedTuple):
    """The step that explains most of what is not smooth."""

    column: int
    below: int  # the row of the draw next to it, on this side
    above: int
    share: float


def step_figures(
    target: Target, draws: Float[np.ndarray, "draws size"], y: Float[np.ndarray, "draws outputs"]
) -> list[Figure]:
    """Return a figure that says where outputs jump, if they do: the reason why an emulator failed.

    Args:
        target: What was sampled.
        draws: Usable posterior draws.
        y: What the simulator gave there.
    """
    if target.predictor.random is not None or len(draws) < 4 * _SIDE:
        return []
    likelihood, space = target.likelihood, target.predictor.space
    truth = np.asarray(likelihood.to_transformed(y, target.predictor.floor))

    def variance(mean: Array) -> Array:
        return likelihood.noise_variance(mean, likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size)))

    sd = np.sqrt(in_batches(variance, np.median(truth, axis=0)[None]))[0]
    z = draws[:, : space.size]
    step = find_step(np.asarray(space.scores(z)), z, truth / sd)
    if step.share <= _SHARE:
        return []
    name = space.names[step.column]
    low, high = named_draws(target, draws)[name][[step.below, step.above]]
    where = f"{name} passes {low:.5g} to {high:.5g}"
    return [Figure(f"step of the outputs where {where} (share of what is not smooth)", "step", step.share, _SHARE)]


def find_step(
    scores: Float[np.ndarray, "draws p"], z: Float[np.ndarray, "draws k"], values: Float[np.ndarray, "draws n"]
) -> Step:
    """Return the step in one of the parameters that explains most of what a quadratic in z leaves of the values.

    Draws lie close to it on either side: where they lie in two heaps with nothing between (two modes; two islands of a
    posterior that is wrong), whatever differs between these would be a step, and nobody knows how steep it is.

    Args:
        scores: The parameters, each in its prior's standard normal scale.
        z: The same, as networks see them.
        values: Outputs in units of their noise.
    """
    smooth = np.linalg.qr(_quadratic(z))[0]
    left = values - smooth @ (smooth.T @ values)
    best, total = Step(0, 0, 0, 0.0), max(float((left**2).sum()), 1e-300)
    for column in range(scores.shape[1]):
        order = np.argsort(scores[:, column], kind="stable")
        below = np.arange(len(scores))[:, None] < np.arange(_SIDE, len(scores) - _SIDE + 1)  # by rank; a step a column
        beside = np.empty(below.shape)
        beside[order] = below
        beside -= smooth @ (smooth.T @ beside)
        size = np.maximum((beside**2).sum(axis=0), 1e-9)
        share = ((beside.T @ left) ** 2).sum(axis=1) / size / total
        share[~_close(scores[order, column])] = 0.0
        at = int(share.argmax())
        if share[at] > best.share:
            best = Step(column, int(order[at + _SIDE - 1]), int(order[at + _SIDE]), float(share[at]))
    return best


def _close(ordered: Float[np.ndarray, " draws"]) -> Bool[np.ndarray, " steps"]:
    """Say of each step whether the draws next to it are no farther apart than the next few on its two sides."""
    gap = np.diff(ordered)[_SIDE - 1 : len(ordered) - _SIDE]
    width = ordered[_SIDE - 1 :] - ordered[: len(ordered) - _SIDE + 1]  # of as many draws in a row
    return gap <= width[: len(gap)] + width[_SIDE:]


def _quadratic(z: Float[np.ndarray, "draws k"]) -> Float[np.ndarray, "draws terms"]:
    unit = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-300)
    first, second = np.triu_indices(z.shape[1], 1)
    terms = np.concatenate([np.ones((len(z), 1)), unit], axis=1)
    for more in (unit**2, unit[:, first] * unit[:, second]):
        if _FOR_EACH * (terms.shape[1] + more.shape[1]) <= len(z):
            terms = np.concatenate([terms, more], axis=1)
    return terms
