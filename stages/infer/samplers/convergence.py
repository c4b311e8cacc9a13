"""Whether draws have converged, by the limits of Vehtari et al. (2021)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from simfer.stages.infer.samplers.draws import Draws

_R_HAT, ESS, _DIVERGENT = 1.01, 400.0, 0.005


def converged(draws: Draws, named: int) -> bool:
    """Say of the first `named` components whether chains agree, have drawn enough, and entered what they came by."""
    from arviz_stats.base import array_stats

    z = draws.z[..., :named]
    divergent = float(np.mean(draws.statistics.get("diverging", 0.0)))
    if divergent > _DIVERGENT or not largest_r_hat(z) <= _R_HAT:
        return False
    halves = in_halves(z)
    sizes = [(float(array_stats.ess(halves[..., i])), tail_ess(halves[..., i])) for i in range(named)]
    return min(map(min, sizes)) >= ESS


def largest_r_hat(z: Float[np.ndarray, "chains draws size"]) -> float:
    """Return the largest rank-normalized split R-hat over the components."""
    from arviz_stats.base import array_stats

    halves = in_halves(z)
    return max(float(array_stats.rhat(halves[..., i])) for i in range(z.shape[-1]))


def tail_ess(values: Float[np.ndarray, "chains draws"]) -> float:
    """Return the effective sample size of the 5 and 95 % quantiles, the lesser of the two."""
    from arviz_stats.base import array_stats

    return float(array_stats.ess(values, method="tail", prob=(0.05, 0.95)))


def in_halves(values: Float[np.ndarray, "chains draws *rest"]) -> Float[np.ndarray, "chains draws *rest"]:
    """Return one chain as two, its halves, which R-hat compares; more than one as they are."""
    if len(values) > 1:
        return values
    half = values.shape[1] // 2
    return np.stack([values[0, :half], values[0, half : 2 * half]])
