"""Convection that does not repeat itself (Lorenz 1963)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class Lorenz(ODESimulator):
    """Chaos: X' = sigma (Y - X), Y' = X (rho - Z) - Y, Z' = X Y - beta Z (Lorenz 1963, equations 25 to 27).

    Everything is dimensionless. At sigma = 10, rho = 28, beta = 8 / 3 neighbouring solutions part like exp(0.906 t)
    (Sprott 1997, the largest Lyapunov exponent), so that time brings a factor of ten every 2.5 units. Take a short
    window: what the last output owes to the parameters grows as fast, bends as fast, and after a few turns an
    emulator of a prior of any width would have to learn a function that folds many times over. Beyond some ten units
    even the solver's tolerance decides where the solution is.
    """

    parameters: ClassVar[dict[str, str]] = {"sigma": "", "rho": "", "beta": "", "X_0": "", "Y_0": "", "Z_0": ""}

    def vector_field(self, t: Scalar, y: Float[Array, "3"], p: dict[str, Scalar]) -> Float[Array, "3"]:
        """Return the rates of change of X, Y and Z."""
        x, v, z = y
        return jnp.stack([p["sigma"] * (v - x), x * (p["rho"] - z) - v, x * v - p["beta"] * z])

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, "3"]:
        """Return X, Y and Z at the start."""
        return jnp.stack([p["X_0"], p["Y_0"], p["Z_0"]])

    def observe(self, t: Scalar, y: Float[Array, "3"], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return all three."""
        return {"X": y[0], "Y": y[1], "Z": y[2]}
