"""What is wrong with the draws themselves: chains that mix slowly, lie in separate places, or are lost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages.artifacts.figures import ONE_OF_TWO
from simfer.stages.batches import in_batches
from simfer.stages.check.verdict import Figure
from simfer.stages.infer.posterior import AGREEMENT, DRIFT
from simfer.stages.infer.samplers.places import find_places
from simfer.stages.infer.samplers.precision import largest_sd_error, sd_error_by_islands
from simfer.stages.infer.samplers.smc import ADRIFT
from simfer.stages.infer.summary import summarize
from simfer.stages.infer.target import Target
from simfer.stages.infer.wall import build_wall
from simfer.stages.settings import Check
from simfer.stages.simulate.border import Border

_NO_MASS = 50.0, 10.0  # nats, and nats for each component: what lies lower by so much holds none, however wide it is


class Apart(NamedTuple):
    """What keeps chains from agreeing, beside slow mixing."""

    places: int  # separate ones, between which no chain goes
    lost: int  # chains that are nowhere near the posterior


def convergence_figures(limits: Check, target: Target, tree: xr.DataTree, border: Border | None = None) -> list[Figure]:
    """Return the figures of the sampler; where R-hat fails, with one that says why, if it is not slow mixing.

    A `border` of what can be solved stands between places as a valley does.
    """
    table, statistics = summarize(tree["posterior"].to_dataset()), tree["sample_stats"]
    r_hat = max(row["r_hat"] for row in table)
    ess = min(min(row["ess_bulk"], row["ess_tail"]) for row in table)
    apart = (
        Apart(1, 0) if r_hat <= limits.max_r_hat else look_apart(build_wall(target, border) if border else target, tree)
    )
    figures = [
        Figure("largest R-hat", "sampler", r_hat, limits.max_r_hat),
        Figure("smallest ESS, bulk or tail", "sampler", ess, limits.min_ess, True),
    ]
    z = np.asarray(tree["unconstrained_posterior"].to_dataset()["z"])[..., : len(target.components)]
    is_nuts = "diverging" in statistics
    error = largest_sd_error(z) if is_nuts else max(largest_sd_error(z), sd_error_by_islands(z))
    figures.append(Figure("standard error of an sd (share)", "sampler", error, ONE_OF_TWO * limits.max_width_change))
    if is_nuts:
        share = float(statistics["diverging"].mean())
        figures.append(Figure("divergent transitions (share)", "sampler", share, limits.max_divergent))
    if DRIFT in statistics.attrs:
        drift = float(statistics.attrs[DRIFT])
        figures.append(Figure("drift of the population (distance of distributions)", "population", drift, ADRIFT))
    if apart.lost:
        figures.append(Figure("chains far from all that is probable", "lost", apart.lost, 0.0))
    elif apart.places > 1:
        figures.append(Figure("separate places that chains do not go between", "places", apart.places, 1.0))
    return figures + _agreement(limits, tree)


def _agreement(limits: Check, tree: xr.DataTree) -> list[Figure]:
    """Return how NUTS and the population that it began from agree; nothing where one of them did not draw."""
    if AGREEMENT not in tree:
        return []
    told = tree[AGREEMENT].to_dataset()
    beyond = np.abs(told["difference"].values) - 3.0 * told["standard_error"].values
    wider = np.abs(np.log(told["sd_ratio"].values)) - 3.0 * told["sd_error"].values
    return [
        Figure("two samplers' means apart, beyond chance (posterior sd)", "samplers",
               float(np.maximum(beyond, 0.0).max(initial=0.0)), limits.max_shift),
        Figure("two samplers' sds apart, beyond chance (share)", "samplers",
               float(np.maximum(wider, 0.0).max(initial=0.0)), limits.max_width_change),
        Figure("posterior mass that no chain is in", "samplers", float(told.attrs["unvisited"]), limits.max_outside),
    ]  # fmt: skip


def look_apart(target: Target, tree: xr.DataTree) -> Apart:
    """Say in how many places chains lie between which they do not go, and how many of them are lost."""
    z = np.asarray(tree["unconstrained_posterior"].to_dataset()["z"])
    lp = np.asarray(tree["sample_stats"].to_dataset()["lp"])
    best = np.nanmax(lp, axis=1)
    lost = best < best.max() - _NO_MASS[0] - _NO_MASS[1] * z.shape[-1]
    kept = z[~lost]

    def heights(z: Float[np.ndarray, "points size"]) -> Float[np.ndarray, " points"]:
        return np.asarray(in_batches(lambda z: target.log_ratio(z) - 0.5 * (z**2).sum(), z, size=1024))

    place = find_places(heights, kept.reshape(-1, z.shape[-1]), 0)
    inside = [set(np.unique(chain)) for chain in place.reshape(kept.shape[:2])]
    between = all(each == inside[0] for each in inside)
    return Apart(1 if between else int(place.max()) + 1, int(lost.sum()))
