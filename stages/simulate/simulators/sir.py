"""The SIR epidemic (Kermack & McKendrick 1927)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class SIR(ODESimulator):
    """Epidemic in a closed population: S' = -beta S I / N, I' = beta S I / N - gamma I, R' = gamma I.

    The state is (S / N, log(I / N)): the infected stay positive however far the epidemic dies out.
    """

    parameters: ClassVar[dict[str, str]] = {"beta": "1/time", "gamma": "1/time"}
    units: ClassVar[dict[str, str]] = {"infected": "people"}

    population: float = 1e6
    infected_0: float = 1.0

    def vector_field(self, t: Scalar, y: Float[Array, "2"], p: dict[str, Scalar]) -> Float[Array, "2"]:
        """Return the rates of change of the susceptible fraction and of the log infected fraction."""
        susceptible, infected = y[0], jnp.exp(y[1])
        return jnp.stack([-p["beta"] * susceptible * infected, p["beta"] * susceptible - p["gamma"]])

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, "2"]:
        """Return the state with `infected_0` people infected and nobody recovered."""
        share = self.infected_0 / self.population
        return jnp.stack([jnp.asarray(1.0 - share), jnp.log(jnp.asarray(share))])

    def observe(self, t: Scalar, y: Float[Array, "2"], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the number of people infected."""
        return {"infected": self.population * jnp.exp(y[1])}
