"""One output's data, as a likelihood takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.model import noise as noises
from simfer.stages.model.observation import Series
from simfer.stages.model.tails import censored_log_prob
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.settings import Noise


class Block(NamedTuple):
    """One output's data: where they lie, their values, transform and family."""

    name: str
    at: slice
    values: Float[np.ndarray, " n"]
    transform: str
    noise: Noise
    family: Callable[..., dist.Distribution]
    series: Series

    @property
    def is_censored(self) -> bool:
        """Whether of some data a bound alone is known."""
        return self.series.side is not None

    @property
    def coded(self) -> Float[np.ndarray, " n"]:
        """The data as the likelihood takes them: those below a limit at -inf, those above one at inf."""
        side = self.series.side
        if side is None:
            return self.values
        return np.where(side < 0, -np.inf, np.where(side > 0, np.inf, self.values))

    def decode(self, data: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return data as a file has them: a censored one at its limit."""
        return data if (limits := self.series.limits) is None else jnp.clip(data, limits.lower, limits.upper)

    def censor(self, data: Float[Array, " n"]) -> Float[Array, " n"]:
        """Code new data as the observed ones are, by the same limits."""
        if (limits := self.series.limits) is None:
            return data
        return jnp.where(data < limits.lower, -jnp.inf, jnp.where(data > limits.upper, jnp.inf, data))

    def log_prob(self, distribution: dist.Distribution, data: Float[Array, " n"]) -> Float[Array, "..."]:
        """Return the log probability of coded data."""
        limits = self.series.limits
        return distribution.log_prob(data) if limits is None else censored_log_prob(distribution, data, limits)

    def natural(self, mean: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Undo the transform of a mean at all data, for these data."""
        return self.inverse(mean[..., self.at])

    def inverse(self, t: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Undo the transform."""
        return TRANSFORMS[self.transform].inverse(t)  # type: ignore[index]

    @property
    def is_gaussian(self) -> bool:
        """Whether the noise is Gaussian in the scale in which the emulator's error is, or there is none."""
        return self.noise.dist == "none" or noises.GAUSSIAN.get(self.noise.dist) == self.transform

    @property
    def scale(self) -> str:
        """The transform of the data whose density a flow learns."""
        return self.transform if self.noise.dist == "none" else noises.GAUSSIAN.get(self.noise.dist, "none")
