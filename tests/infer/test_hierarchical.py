"""Several data sets, one emulator and shared hyperparameters, in a user's own NumPyro model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, init_to_median
from scipy.stats import multivariate_normal

from simfer.stages.emulator.saved import load_emulator
from tests import helpers

NUM_SETS = 6
MU, TAU = (0.5, 1.0), 0.8  # prior of the population's mean: Normal; scale of its spread's: HalfNormal


def data() -> np.ndarray:
    """Return lines whose intercepts differ from set to set, with noise."""
    rng = np.random.default_rng(3)
    intercept, slope = rng.normal(0.9, 0.6, NUM_SETS), rng.normal(*helpers.PRIOR["slope"], NUM_SETS)
    return intercept[:, None] + slope[:, None] * helpers.X + rng.normal(0.0, helpers.SIGMA, (NUM_SETS, len(helpers.X)))


def model(emulator: Any, y: np.ndarray) -> None:
    mu = numpyro.sample("mu", dist.Normal(*MU))
    tau = numpyro.sample("tau", dist.HalfNormal(TAU))
    with numpyro.plate("set", len(y)):
        offset = numpyro.sample("offset", dist.Normal())
        slope = numpyro.sample("slope", dist.Normal(*helpers.PRIOR["slope"]))
    points = {"intercept": mu + tau * offset, "slope": slope}
    predicted, error = jax.vmap(emulator)(points)["y"], jax.vmap(emulator.error)(points)["y"]
    numpyro.sample("y", dist.Normal(predicted, jnp.hypot(helpers.SIGMA, error)), obs=y)


def exact(y: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return mean and sd of mu and tau on a grid, the intercepts and slopes of the sets integrated out by hand."""
    mean, sd = helpers.PRIOR["slope"]
    mus, taus = np.linspace(-1.5, 3.0, 120), np.linspace(0.005, 4.0, 120)
    log = -0.5 * ((mus - MU[0]) / MU[1]) ** 2 - 0.5 * (taus[:, None] / TAU) ** 2
    for i, tau in enumerate(taus):
        covariance = helpers.SIGMA**2 * np.eye(len(helpers.X)) + tau**2 + sd**2 * np.outer(helpers.X, helpers.X)
        marginal = multivariate_normal(np.zeros(len(helpers.X)), covariance)
        log[i] += [marginal.logpdf(y - mean * helpers.X - mu).sum() for mu in mus]
    weights = np.exp(log - log.max())
    weights /= weights.sum()

    def moments(values: np.ndarray, along: np.ndarray) -> tuple[float, float]:
        center = float(along @ values)
        return center, float(np.sqrt(along @ (values - center) ** 2))

    return {"mu": moments(mus, weights.sum(axis=0)), "tau": moments(taus, weights.sum(axis=1))}


@pytest.mark.slow  # its twin, the README's walk, is run by CI
def test_the_posterior_of_hyperparameters_is_the_exact_one() -> None:
    emulator = load_emulator(helpers.line_run(until="train").folders["train"])
    y = data()
    kernel = NUTS(model, target_accept_prob=0.9, init_strategy=init_to_median)
    mcmc = MCMC(kernel, num_warmup=300, num_samples=1500, progress_bar=False)
    mcmc.run(jax.random.key(0), emulator, y)
    draws = mcmc.get_samples()
    for name, (mean, sd) in exact(y).items():
        found = np.asarray(draws[name])
        assert abs(found.mean() - mean) < 0.15 * sd, name  # 1,500 draws: some 0.04 by chance
        assert 0.85 < found.std() / sd < 1.15, name
