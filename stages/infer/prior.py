"""Draws of the prior, and what they predict: what a reader holds the posterior against."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float

from simfer.stages.batches import in_batches
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
    first, second = jax.random.split(jax.random.key(seed + 3))
    z = np.asarray(jax.random.normal(first, (1, NUM_DRAWS, target.size)))
    named = named_draws(target, z)
    named |= derived_draws(derived, target, z, named)
    rows = (z[0], jax.random.split(second, NUM_DRAWS))
    replicated, *_ = in_batches(lambda point: at_data(target, *point), rows, together=False)
    return named, {name: np.asarray(values) for name, values in replicated.items()}
