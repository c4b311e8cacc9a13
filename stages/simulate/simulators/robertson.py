"""Three reactions of very different speed (Robertson 1966)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class Robertson(ODESimulator):
    """Stiff kinetics: A -> B at k_1, 2 B -> B + C at k_2, B + C -> A + C at k_3, starting from A alone.

    Robertson (1966), in Numerical Analysis: An Introduction, ed. Walsh; Hairer & Wanner (1996), IV.1, equation 1.4,
    with k_1 = 0.04, k_2 = 3e7, k_3 = 1e4. B is consumed within milliseconds and everything else takes years, so that
    an explicit solver is lost: take Rodas5P, and an absolute tolerance far below B, which is of the order of 1e-5
    and falls.
    """

    parameters: ClassVar[dict[str, str]] = {"k_1": "1/s", "k_2": "L/(mol s)", "k_3": "L/(mol s)"}
    units: ClassVar[dict[str, str]] = {"a": "mol/L", "b": "mol/L", "c": "mol/L", "time": "s"}

    start: float | None = 0.0

    def vector_field(self, t: Scalar, y: Float[Array, "3"], p: dict[str, Scalar]) -> Float[Array, "3"]:
        """Return the rates of change of A, B and C, which add up to zero."""
        a, b, c = y
        first, second, third = p["k_1"] * a, p["k_2"] * b**2, p["k_3"] * b * c
        return jnp.stack([third - first, first - second - third, second])

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, "3"]:
        """Return one mole of A in a litre."""
        return jnp.asarray([1.0, 0.0, 0.0])

    def observe(self, t: Scalar, y: Float[Array, "3"], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return all three concentrations."""
        return {"a": y[0], "b": y[1], "c": y[2]}
