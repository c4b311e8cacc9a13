"""Predators and their prey (Lotka 1925; Volterra 1926)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class LotkaVolterra(ODESimulator):
    """Predator and prey: u' = (alpha - beta v) u, v' = (-gamma + delta u) v, for prey u and predators v.

    Written in log u and log v, so that neither can pass through zero and the solver's tolerance is a relative one
    all the way through the deep troughs of a cycle.
    """

    parameters: ClassVar[dict[str, str]] = {
        "alpha": "1/time",
        "beta": "1/(predator time)",
        "gamma": "1/time",
        "delta": "1/(prey time)",
        "prey_0": "",
        "predator_0": "",
    }

    def vector_field(self, t: Scalar, y: Float[Array, "2"], p: dict[str, Scalar]) -> Float[Array, "2"]:
        """Return the rates of change of log prey and log predators."""
        prey, predator = jnp.exp(y)
        return jnp.stack([p["alpha"] - p["beta"] * predator, -p["gamma"] + p["delta"] * prey])

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, "2"]:
        """Return the logs of both populations at the start."""
        return jnp.log(jnp.stack([p["prey_0"], p["predator_0"]]))

    def observe(self, t: Scalar, y: Float[Array, "2"], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return both populations."""
        return {"prey": jnp.exp(y[0]), "predator": jnp.exp(y[1])}
