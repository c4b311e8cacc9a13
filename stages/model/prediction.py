"""What an emulator says at the data."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Prediction(NamedTuple):
    """What an emulator says at the data: a mean in the transformed scale, and how far from it an output may lie.

    The error's covariance is factor^T factor + diag(rest). That of a random simulator's own scatter is
    scatter^T scatter; `excess` is the error's variance along each of its factors, in units of the scatter's.
    """

    mean: Float[Array, " n"]
    factor: Float[Array, "k n"]
    rest: Float[Array, " n"]
    scatter: Float[Array, "s n"] | None = None
    excess: Float[Array, " s"] | None = None

    @property
    def factors(self) -> Float[Array, "f n"]:
        """The factors of error and scatter together, the excess being one of either."""
        if self.scatter is None or self.excess is None:
            return self.factor
        return jnp.concatenate([self.factor, jnp.sqrt(1.0 + self.excess)[:, None] * self.scatter])

    @property
    def variance(self) -> Float[Array, " n"]:
        """The variance about the mean, of error and scatter together."""
        return self.rest + (self.factors**2).sum(axis=0)

    @property
    def scatter_variance(self) -> Float[Array, " n"]:
        """The part of the variance that is the simulator's own."""
        return jnp.zeros_like(self.mean) if self.scatter is None else (self.scatter**2).sum(axis=0)
