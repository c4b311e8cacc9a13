"""Two Gaussians with one mean (Sisson et al. 2007), a task of sbibm (Lueckmann et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import StochasticSimulator


class GaussianMixture(StochasticSimulator):
    """A point from one of two round Gaussians at its parameters, of sd 1 or 0.1: a posterior with a sharp top.

    Both components of the point come from the same Gaussian, either as often as the other.
    """

    parameters: ClassVar[dict[str, str]] = {"theta_1": "", "theta_2": ""}

    def outputs(self) -> dict[str, Output]:
        """Describe the point."""
        return {"x": Output(("axis",), {"axis": np.array([1.0, 2.0])})}

    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, " axis"]]:
        """Return one point."""
        first, second = jax.random.split(key)
        sd = jnp.where(jax.random.bernoulli(first), 1.0, 0.1)
        return {"x": jnp.array([parameters["theta_1"], parameters["theta_2"]]) + sd * jax.random.normal(second, (2,))}
