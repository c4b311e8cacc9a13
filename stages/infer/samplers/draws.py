"""What every sampler returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from simfer.stages.infer.samplers.agreement import Agreement
from simfer.stages.summary import Table


class Estimate(NamedTuple):
    """A number, and its standard error."""

    value: float
    standard_error: float


class Draws(NamedTuple):
    """Whitened points, and what the sampler says of each, with leading axes (chain, draw)."""

    z: Float[np.ndarray, "chains draws size"]
    statistics: dict[str, Shaped[np.ndarray, "chains draws"]]  # by ArviZ's names; which there are is the sampler's own
    seconds: float
    num_gradients: int  # warm-up counted
    sampler: str = "nuts"
    places: Table = []  # noqa: RUF012  # separate ones that the posterior lies in, with their mass, where that is known
    agreement: Agreement | None = None  # of chains with the population that they began from
    log_evidence: Estimate | None = None  # of the data, where a population is sure of it
    drift: float | None = None  # how far hops have carried a population that is the answer; 0 if they went through
