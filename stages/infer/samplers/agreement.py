"""Chains beside the population that they began from: two samplers that share no step must give one answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from simfer.stages.infer.samplers.places import Heights, find_places
from simfer.stages.summary import Table

_SOME = 1000  # points of either that places are sought among


class Agreement(NamedTuple):
    """What two samplers differ by, component by component of a whitened point, in sd of the posterior."""

    names: list[str]
    difference: Float[np.ndarray, " names"]  # of the means
    standard_error: Float[np.ndarray, " names"]
    sd_ratio: Float[np.ndarray, " names"]
    unvisited: float  # share of the population in places where no chain is
    lost: float  # share of the chains' draws in places where the population has nobody

    def table(self) -> Table:
        """Tabulate it, by parameter."""
        return [
            {"parameter": name, "difference_of_means": float(d), "standard_error": float(e), "ratio_of_sds": float(r)}
            for name, d, e, r in zip(self.names, self.difference, self.standard_error, self.sd_ratio, strict=True)
        ]  # fmt: skip


def agreement(
    chains: Float[np.ndarray, "chains draws size"],
    population: Float[np.ndarray, "islands points size"],
    names: list[str],
    heights: Heights,
) -> Agreement:
    """Compare chains with a population, of their first components those that are named."""
    a, b = (each[..., : len(names)] for each in (chains, population))
    sd = np.maximum(b.std(axis=(0, 1)), 1e-300)
    difference = (a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) / sd
    variance = np.array([1.0 / effective_size(a[..., i]) + 1.0 / effective_size(b[..., i]) for i in range(len(names))])
    flat = [each.reshape(-1, each.shape[-1]) for each in (chains, population)]
    some = [each[np.linspace(0, len(each) - 1, min(_SOME, len(each))).astype(int)] for each in flat]
    place = np.split(find_places(heights, np.concatenate(some), 0), [len(some[0])])
    unvisited, lost = (float(np.mean(~np.isin(place[i], place[1 - i]))) for i in (1, 0))
    return Agreement(names, difference, np.sqrt(variance), a.std(axis=(0, 1)) / sd, unvisited, lost)


def effective_size(values: Float[np.ndarray, "chains draws"]) -> float:
    """Return how many independent draws would know the mean as well (Vehtari et al. 2021)."""
    from arviz_stats.base import array_stats

    size = float(array_stats.ess(values, method="mean"))
    return size if np.isfinite(size) and size > 0.0 else 1.0
