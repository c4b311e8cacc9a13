"""NumPyro models as users write them, and as they had better not."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def line(simulate: Any, data: Any) -> None:
    intercept = numpyro.sample("intercept", dist.Normal(0.5, 1.0))
    slope = numpyro.sample("slope", dist.Normal(-1.0, 0.5))
    y = simulate({"intercept": intercept, "slope": slope})["y"]
    numpyro.deterministic("end", intercept + 4.0 * slope)
    numpyro.sample("y", dist.Normal(y[data["x_index"]], 0.5), obs=data["y"])


def two_lines(simulate: Any, data: Any) -> None:
    """The data belong to one of two lines by turns; their slopes are those of a population."""
    center = numpyro.sample("center", dist.Normal(-1.0, 0.5))
    spread = numpyro.sample("spread", dist.Gamma(4.0, 20.0))
    with numpyro.plate("line", 2):
        slope = numpyro.sample("slope", dist.Normal(center, spread))
    intercept = numpyro.sample("intercept", dist.Normal(0.5, 1.0))
    y = simulate({"intercept": intercept, "slope": slope})["y"]
    which = data["x_index"] % 2
    numpyro.sample("y", dist.Normal(y[which, data["x_index"]], 0.5), obs=data["y"])


def no_call(simulate: Any, data: Any) -> None:
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal()), 0.5), obs=data["y"])


def no_data(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Normal())
    simulate({"intercept": a, "slope": a})


def discrete(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Poisson(3.0))
    y = simulate({"intercept": a, "slope": a})["y"]
    numpyro.sample("y", dist.Normal(y, 0.5), obs=data["y"])


def misspelt(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Normal())
    y = simulate({"intercept": a, "slop": a})["y"]
    numpyro.sample("y", dist.Normal(y, 0.5), obs=data["y"])


def fitted(simulate: Any, data: Any) -> None:
    a = numpyro.param("a", jnp.asarray(0.0))
    y = simulate({"intercept": a, "slope": a})["y"]
    numpyro.sample("y", dist.Normal(y, 0.5), obs=data["y"])


def in_parts(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Normal())
    y = simulate({"intercept": a, "slope": a})["y"]
    with numpyro.plate("some", 9, subsample_size=3) as index:
        numpyro.sample("y", dist.Normal(y[index], 0.5), obs=data["y"][index])


def wrong_column(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Normal())
    y = simulate({"intercept": a, "slope": a})["y"]
    numpyro.sample("y", dist.Normal(y, 0.5), obs=data["Y"])


def wrong_output(simulate: Any, data: Any) -> None:
    a = numpyro.sample("a", dist.Normal())
    numpyro.sample("y", dist.Normal(simulate({"intercept": a, "slope": a})["z"], 0.5), obs=data["y"])
