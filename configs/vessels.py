"""Four vessels of yeast, whose rates of growth come from one population: a simulator, and a model of its runs."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from simfer import ODESimulator


class Growth(ODESimulator):
    """Logistic growth: n' = r n (1 - n / capacity), from n_0."""

    parameters = {"r": "1/h", "capacity": "", "n_0": ""}

    def initial_state(self, p):
        return jnp.asarray(p["n_0"])

    def vector_field(self, t, y, p):
        return p["r"] * y * (1 - y / p["capacity"])

    def observe(self, t, y, p):
        return {"yeast": y}


def population(simulate, data):
    """Say where the rates of four vessels come from, and how their yeast was measured."""
    center = numpyro.sample("center", dist.Normal(-0.7, 0.2))  # of the log rates,
    spread = numpyro.sample("spread", dist.HalfNormal(0.2))  # from vessel to vessel
    sigma = numpyro.sample("sigma", dist.HalfNormal(20.0))
    with numpyro.plate("vessel", 4):
        r = numpyro.sample("r", dist.LogNormal(center, spread))
        capacity = numpyro.sample("capacity", dist.LogNormal(6.5, 0.2))
        n_0 = numpyro.sample("n_0", dist.LogNormal(2.3, 0.3))
    grown = simulate({"r": r, "capacity": capacity, "n_0": n_0})["yeast"]  # vessels x times
    measured = jnp.stack([data[f"vessel_{i}"] for i in range(1, 5)])
    numpyro.sample("yeast", dist.Normal(grown[:, data["time_index"]], sigma), obs=measured)
