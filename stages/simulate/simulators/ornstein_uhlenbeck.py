"""The Ornstein-Uhlenbeck process (Uhlenbeck & Ornstein 1930)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from simfer.stages.simulate.simulators.sde import SDESimulator


class OrnsteinUhlenbeck(SDESimulator):
    """Noise that forgets: dx = theta (mu - x) dt + sigma dW, from x_0; Gaussian, its covariance known exactly.

    x(t) has mean mu + (x_0 - mu) exp(-theta t) and, with x(s), covariance
    sigma^2 / (2 theta) (exp(-theta |t - s|) - exp(-theta (t + s))) (Uhlenbeck & Ornstein 1930).
    """

    parameters: ClassVar[dict[str, str]] = {"theta": "1/s", "mu": "um", "sigma": "um/s^(1/2)", "x_0": "um"}
    units: ClassVar[dict[str, str]] = {"x": "um", "time": "s"}

    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> Float[Array, ""]:
        """Return x_0."""
        return jnp.asarray(p["x_0"])

    def vector_field(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the drift towards mu."""
        return p["theta"] * (p["mu"] - y)

    def diffusion(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the noise's amplitude, the same everywhere."""
        return jnp.asarray(p["sigma"])

    def observe(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the position."""
        return {"x": y}
