"""A straight line: the problem whose posterior is known exactly."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import FunctionSimulator, as_times


class Linear(FunctionSimulator):
    """Straight line y = intercept + slope x; with Gaussian priors and noise its posterior is Gaussian and exact."""

    parameters: ClassVar[dict[str, str]] = {"intercept": "", "slope": ""}

    x: Any = eqx.field(converter=as_times)

    def outputs(self) -> dict[str, Output]:
        """Describe y, a series over x."""
        return {"y": Output(("x",), {"x": np.asarray(self.x)})}

    def __call__(self, parameters: dict[str, Scalar]) -> dict[str, Float[Array, " x"]]:
        """Return y at every x."""
        return {"y": parameters["intercept"] + parameters["slope"] * jnp.asarray(self.x)}
