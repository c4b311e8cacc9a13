"""A drug that is absorbed in proportion to what is left of it, and eliminated by an enzyme that saturates."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class MichaelisMenten(ODESimulator):
    """Drug in one compartment: C' = (D k_a / V) exp(-k_a t) - (V_m / V) C / (K_m + C), from C(0) = 0.

    First-order absorption of a dose D given at time zero into the volume V, and Michaelis-Menten elimination
    (Michaelis & Menten 1913). The equation and its units are those of Stan's benchmark one_comp_mm_elim_abs
    (Betancourt 2017; posteriordb), where V_m is "1/day"; its dimension is that of an amount a day.
    """

    parameters: ClassVar[dict[str, str]] = {"k_a": "1/day", "K_m": "mg/L", "V_m": "mg/day"}
    units: ClassVar[dict[str, str]] = {"concentration": "mg/L", "time": "day"}

    start: float | None = 0.0  # when the dose is given
    dose: float = 30.0  # mg
    volume: float = 2.0  # L

    def vector_field(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the rate of change of the concentration."""
        absorbed = self.dose * p["k_a"] * jnp.exp(-p["k_a"] * t)
        # Odd in y: only a solver's error is below zero, and with a small K_m there must not be a pole in its way.
        eliminated = p["V_m"] * y / (p["K_m"] + jnp.abs(y))
        return (absorbed - eliminated) / self.volume

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the concentration before anything is absorbed."""
        return jnp.asarray(0.0)

    def observe(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the concentration."""
        return {"concentration": y}
