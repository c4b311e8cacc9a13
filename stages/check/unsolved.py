"""What the check says of draws that the simulator cannot solve, by what `simulate.failures` takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.check.verdict import Figure
from simfer.stages.model.outputs import Status
from simfer.stages.settings import Check, Simulate
from simfer.stages.simulate import design
from simfer.stages.simulate.border import Border

_BEYOND = 64  # draws behind the border that are simulated at most
_HEAVIEST = 2.0  # log weight of one of them at most: where the wall is far higher, hardly any were drawn


class Beyond(NamedTuple):
    """Points behind the border, to be simulated too: it may lie too near, or cut off what can be solved behind it."""

    z: Float[np.ndarray, "points size"]
    weight: Float[np.ndarray, "ways points"]  # of each, in the mass before the border, by two ways to find points


def beyond(border: Border | None, kept: int, size: int, limits: Check) -> Beyond:
    """Pick what is simulated behind the border, each point with the mass that it stands for without the wall.

    Half are draws of the sampler's: they lie close to the border, and tell its place best. Half are of a population
    that has seen no wall: they lie wherever the posterior would be.
    """
    if border is None:
        return Beyond(np.zeros((0, size)), np.zeros((2, 0)))
    near, far = (np.zeros((0, size)) if z is None else z[:, :size] for z in (border.beyond, border.hidden))
    most = min(_BEYOND, limits.num_draws) // 2
    a, b = (np.sort(design.picked(len(z), most, limits.seed)) for z in (near, far))
    weight = np.zeros((2, len(a) + len(b)))
    if len(a) and border.excess is not None:
        weight[0, : len(a)] = np.exp(np.minimum(border.excess[a], _HEAVIEST)) * len(near) / len(a) / kept
    weight[1, len(a) :] = border.hidden_weight * len(far) / max(len(b), 1)
    return Beyond(np.concatenate([near[a], far[b]]), weight)


def figures(
    limits: Check,
    settings: Simulate,
    training: Sequence[Simulations],
    draws: Float[np.ndarray, "draws named"],
    usable: Bool[np.ndarray, " draws"],
    behind: Beyond,
    answered: Bool[np.ndarray, " behind"],
) -> list[Figure]:
    """Return the figures of what cannot be solved."""
    if settings.failures == "excluded":
        share = float(np.mean(~usable))
        return [Figure("draws that the simulator cannot solve", "failures", share, limits.max_outside)]
    size = behind.z.shape[1]
    rows = [each.rows(0, len(each)) for each in training]
    z = np.concatenate([*(z for z, _, _ in rows), draws[:, :size], behind.z])
    solved = np.concatenate([*(ok for _, _, ok in rows), usable, answered])
    border = Border.learn(z, solved, training[0].space)
    # A draw that fails among others that do not marks no region, and leaves out nothing but itself.
    in_region = ~usable & ~border.holds(draws[:, :size]) if border else ~usable
    moved = np.abs(draws[usable].mean(axis=0) - draws.mean(axis=0)) if usable.any() else np.full(draws.shape[1], np.nan)
    shift = (moved / np.maximum(draws.std(axis=0), 1e-300)).max()
    return [
        Figure("draws where the simulator has no answer", "border", float(np.mean(in_region)), limits.max_outside),
        Figure("posterior mass left out though it has one", "border",
               float((behind.weight @ answered).max()), limits.max_outside),
        Figure("largest shift by dropping draws that cannot be solved (posterior sd)", "border",
               float(shift), limits.max_shift),
    ]  # fmt: skip


def too_many(settings: Simulate, latest: Simulations, round: int) -> list[Figure]:
    """Return the figure of a later round in which too many simulations failed; none where there is nothing to tell."""
    if round == 0 or settings.failures == "impossible":
        return []
    share = float(np.mean(latest.endings()[1] != Status.OK))
    if share == 0.0:
        return []
    return [Figure("simulations of this round that failed", "failures", share, settings.max_failed)]
