"""The figures of a verdict, and the one of the posterior mass at the edge of priors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simfer.stages.artifacts.figures import Figure, Said, advice, in_words, stored
from simfer.stages.model.quantiles import distribution
from simfer.stages.settings import Prior

__all__ = ["Figure", "Said", "advice", "edge_mass", "in_words", "stored"]


def edge_mass(priors: Mapping[str, Prior], theta: Mapping[str, np.ndarray], z: Mapping[str, np.ndarray]) -> float:
    """Return the largest share of draws, over the priors, that lie at one end of a prior.

    At a hard end (the bound of a Uniform) these are the draws within an eighth of the posterior's own sd of it, however
    narrow that is beside the prior: 12 % of a posterior that falls off exponentially from there, 6 % of half a normal,
    4 % of the prior itself, 3 % where the bound is one sd from the peak. Where a prior has no end, they are those
    beyond 3.5 of its standard normal scale, where it holds 0.02 percent itself. Nothing is counted of a prior whose
    edge is meant, nor around a circle.

    Args:
        priors: By name.
        theta: Draws by name, in the parameters' own units.
        z: The same draws in the priors' standard normal scale.
    """
    shares = [0.0]
    for name, prior in priors.items():
        if prior.periodic or prior.edge == "meant":
            continue
        place = np.log(theta[name]) if prior.dist == "LogUniform" else theta[name]
        near = place.std() / 8.0
        low, high = _bounds(prior)
        shares.append(float(np.mean(z[name] < -3.5 if low is None else place < low + near)))
        shares.append(float(np.mean(z[name] > 3.5 if high is None else place > high - near)))
    return max(shares)


def _bounds(prior: Prior) -> tuple[float | None, float | None]:
    """Return the bounds that somebody chose, in the scale in which a flat prior is flat."""
    if not prior.stands_alone:  # bounds that move are another parameter's say
        return None, None
    support = distribution(prior).support
    low = getattr(support, "lower_bound", None)
    high = getattr(support, "upper_bound", None)
    # A natural zero (of a LogNormal, say), or the ends of a Beta, are no bounds that anyone chose.
    if low is not None and np.asarray(low) == 0.0 and prior.dist != "Uniform":
        low = None
    if prior.dist.startswith("Beta"):
        high = None
    scale = np.log if prior.dist == "LogUniform" else np.asarray
    return None if low is None else float(scale(low)), None if high is None else float(scale(high))
