"""Chains beside the population that they began from: two samplers that share no step must give one answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from simfer.stages.infer.samplers.places import Heights, find_places
from simfer.stages.infer.samplers.precision import effective_size, log_sd_variance
from simfer.stages.summary import Table

_SOME = 1000  # points of either that places are sought among
_APART = 0.1  # in posterior sd, what the verdict's thresholds are by default


class Agreement(NamedTuple):
    """What two samplers differ by, component by component of a whitened point, in sd of the posterior."""

    names: list[str]
    difference: Float[np.ndarray, " names"]  # of the means
    standard_error: Float[np.ndarray, " names"]
    sd_ratio: Float[np.ndarray, " names"]  # the chains' over the population's
    sd_error: Float[np.ndarray, " names"]  # standard error of its logarithm
    unvisited: float  # share of the population in places where no chain is
    lost: float  # share of the chains' draws in places where the population has nobody

    @property
    def differ(self) -> Bool[np.ndarray, " names"]:
        """Where means or sds differ beyond chance, by more than a tenth of an sd."""
        apart = np.abs(self.difference) > 3.0 * self.standard_error + _APART
        return np.asarray(apart | (np.abs(np.log(self.sd_ratio)) > 3.0 * self.sd_error + _APART))

    @property
    def is_wider(self) -> bool:
        """Whether the population is where the chains are, and is the wider one wherever they differ."""
        return self.lost == 0.0 and bool((self.sd_ratio[self.differ] < 1.0).all())

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
    of_log_sd = np.array([log_sd_variance(a[..., i]) + log_sd_variance(b[..., i]) for i in range(len(names))])
    flat = [each.reshape(-1, each.shape[-1]) for each in (chains, population)]
    some = [each[np.linspace(0, len(each) - 1, min(_SOME, len(each))).astype(int)] for each in flat]
    place = np.split(find_places(heights, np.concatenate(some), 0), [len(some[0])])
    unvisited, lost = (float(np.mean(~np.isin(place[i], place[1 - i]))) for i in (1, 0))
    ratio = np.maximum(a.std(axis=(0, 1)), 1e-300) / sd
    return Agreement(names, difference, np.sqrt(variance), ratio, np.sqrt(of_log_sd), unvisited, lost)
