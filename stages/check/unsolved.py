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
    """Some of what the sampler drew behind the border, to be simulated too: a border may lie too near as well."""

    z: Float[np.ndarray, "draws size"]
    weight: Float[np.ndarray, " draws"]  # of each, in draws before the border


def beyond(border: Border | None, kept: int, size: int, limits: Check) -> Beyond:
    """Pick what is simulated behind the border, each with the draws that it stands for without the wall."""
    if border is None or border.beyond is None or border.excess is None or not len(border.beyond):
        return Beyond(np.zeros((0, size)), np.zeros(0))
    total = len(border.beyond)
    rows = np.sort(design.picked(total, min(_BEYOND, limits.num_draws), limits.seed))
    weight = np.exp(np.minimum(border.excess[rows], _HEAVIEST)) * total / len(rows) / kept
    return Beyond(border.beyond[rows, :size], weight)


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
               float(behind.weight @ answered), limits.max_outside),
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
