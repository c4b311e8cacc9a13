"""Draws of the prior, and what they predict: what a reader holds the posterior against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from simfer.stages.batches import in_batches, split_keys
from simfer.stages.infer.derived import derived_draws
from simfer.stages.infer.posterior import named_draws
from simfer.stages.infer.predictive import at_data
from simfer.stages.infer.target import Target
from simfer.stages.settings import Derived

NUM_DRAWS = 500


def prior_draws(
    target: Target, derived: Mapping[str, Derived], seed: int
) -> tuple[dict[str, Float[np.ndarray, "1 draws"]], dict[str, Float[np.ndarray, "draws n"]]]:
    """Return parameters drawn from their priors by name, what is derived among them, and data that these predict."""
    z = np.random.default_rng([seed, 3]).standard_normal((1, NUM_DRAWS, target.size))
    named = named_draws(target, z)
    named |= derived_draws(derived, target, z, named)
    rows = (z[0], split_keys(seed + 3, NUM_DRAWS))
    replicated, *_ = in_batches(lambda point: at_data(target, *point), rows, together=False)
    return named, {name: np.asarray(values) for name, values in replicated.items()}
