"""A simple likelihood with a complex posterior (Papamakarios et al. 2019), a task of sbibm (Lueckmann et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import StochasticSimulator

_VARIANCE = 1e-6  # added to both, so that the covariance is one


class SLCP(StochasticSimulator):
    """Four points from a Gaussian in the plane, whose covariance depends on squares: the posterior has four modes.

    The mean is (theta_1, theta_2), the standard deviations are theta_3^2 and theta_4^2, the correlation is
    tanh(theta_5).
    """

    parameters: ClassVar[dict[str, str]] = {f"theta_{i}": "" for i in range(1, 6)}

    def outputs(self) -> dict[str, Output]:
        """Describe the points."""
        return {"x": Output(("point", "axis"), {"point": np.arange(1.0, 5.0), "axis": np.array([1.0, 2.0])})}

    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, "point axis"]]:
        """Return the four points."""
        first, second = parameters["theta_3"] ** 2, parameters["theta_4"] ** 2
        shared = jnp.tanh(parameters["theta_5"]) * first * second
        covariance = jnp.array([[first**2 + _VARIANCE, shared], [shared, second**2 + _VARIANCE]])
        drawn = jax.random.normal(key, (4, 2)) @ jnp.linalg.cholesky(covariance).T
        return {"x": jnp.array([parameters["theta_1"], parameters["theta_2"]]) + drawn}
