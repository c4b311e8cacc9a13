"""Two moons (Greenberg et al. 2019), a task of sbibm (Lueckmann et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import StochasticSimulator


class TwoMoons(StochasticSimulator):
    """A point on half a circle that two parameters place, by chance: the posterior is two moons.

    x = (r cos a + 1/4 - |theta_1 + theta_2| / sqrt 2, r sin a + (theta_2 - theta_1) / sqrt 2), with an angle a that is
    uniform within +-pi/2, and r ~ Normal(0.1, 0.01).
    """

    parameters: ClassVar[dict[str, str]] = {"theta_1": "", "theta_2": ""}

    def outputs(self) -> dict[str, Output]:
        """Describe the point."""
        return {"x": Output(("axis",), {"axis": np.array([1.0, 2.0])})}

    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, " axis"]]:
        """Return one point."""
        first, second = jax.random.split(key)
        angle = jax.random.uniform(first, minval=-jnp.pi / 2, maxval=jnp.pi / 2)
        radius = 0.1 + 0.01 * jax.random.normal(second)
        total, difference = (parameters["theta_2"] + sign * parameters["theta_1"] for sign in (1.0, -1.0))
        center = jnp.array([0.25 - jnp.abs(total) / jnp.sqrt(2.0), difference / jnp.sqrt(2.0)])
        return {"x": center + radius * jnp.array([jnp.cos(angle), jnp.sin(angle)])}
