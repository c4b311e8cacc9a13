"""Shipped problems, made small and with two free parameters, against posteriors on a grid by NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer import pipeline
from simfer.pipeline import config
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import read
from simfer.stages.model.outputs import Layout
from simfer.stages.simulate.ensemble import build_simulator
from tests import helpers

SMALL = [
    "simulate.num_simulations=64",
    "train.ensemble_size=2",
    "train.options={ width = 32, depth = 1 }",
    "train.steps=1000",
    "infer.num_chains=2",
    "infer.num_warmup=300",
    "infer.num_samples=600",
]
SOLOW = ["parameters.alpha=0.33", "parameters.capital_0=1.5", "noise.output.scale=0.02"]
DATA = helpers.ROOT / "data" / "observations"
REDSHIFT, MODULUS = np.loadtxt(DATA / "union3.csv", delimiter=",", skiprows=1).T
COVARIANCE = np.loadtxt(DATA / "union3_covariance.csv", delimiter=",")


class Grid:
    """A density at the middles of the cells of a grid over two parameters, and its moments."""

    def __init__(self, axes: Mapping[str, np.ndarray], log_density: np.ndarray) -> None:
        self.axes = axes
        density = np.exp(log_density - log_density.max())
        self.weights = density / density.sum()

    def moments(self, name: str) -> tuple[float, float]:
        """Return a parameter's mean and sd."""
        at = list(self.axes).index(name)
        marginal, x = self.weights.sum(axis=1 - at), self.axes[name]
        mean = float(marginal @ x)
        return mean, float(np.sqrt(marginal @ (x - mean) ** 2))

    def median(self, name: str) -> float:
        """Return a parameter's median."""
        at = list(self.axes).index(name)
        marginal = self.weights.sum(axis=1 - at)
        return float(np.interp(0.5, marginal.cumsum() - 0.5 * marginal, self.axes[name]))


def middles(low: float, high: float, num: int) -> np.ndarray:
    return low + (high - low) * (np.arange(num) + 0.5) / num


def distance_moduli(omega_m: Any, w: Any) -> np.ndarray:
    """Return distance moduli but for an offset, the integral by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    z = 0.5 * REDSHIFT[:, None] * (nodes + 1.0)
    omega_m, w = np.asarray(omega_m)[..., None, None], np.asarray(w)[..., None, None]
    slowness = (omega_m * (1 + z) ** 3 + (1 - omega_m) * (1 + z) ** (3 * (1 + w))) ** -0.5
    return np.asarray(5.0 * np.log10((1.0 + REDSHIFT) * 0.5 * REDSHIFT * (slowness @ weights)))


def supernova_log_likelihood(omega_m: Any, w: Any) -> np.ndarray:
    """Return the log likelihood, up to a constant, with every offset as probable as any other."""
    precision = np.linalg.inv(COVARIANCE)
    common = precision.sum(axis=0)
    projected = precision - np.outer(common, common) / common.sum()  # blind to what all data share
    gap = MODULUS - distance_moduli(omega_m, w)
    return np.asarray(-0.5 * np.einsum("...i,ij,...j", gap, projected, gap))


@cache
def supernova_grid() -> Grid:
    axes = {"omega_m": middles(0.0, 1.0, 250), "w": middles(-3.0, 0.0, 300)}
    return Grid(axes, np.stack([supernova_log_likelihood(omega_m, axes["w"]) for omega_m in axes["omega_m"]]))


@cache
def solow_grid() -> Grid:
    axes = {"saving": middles(0.22, 0.28, 200), "delta": middles(0.065, 0.095, 200)}
    saving, delta = np.meshgrid(*axes.values(), indexing="ij")
    table = np.genfromtxt(DATA / "solow.csv", delimiter=",", names=True)
    log = stats.beta(0.22 * 40, 0.78 * 40).logpdf(saving) + stats.lognorm(0.25, scale=0.07).logpdf(delta)
    capital = np.full_like(saving, 1.5)
    for row in table:
        if np.isfinite(row["capital"]):
            log += stats.norm(np.log(capital), 0.05).logpdf(np.log(row["capital"]))
        log += stats.norm(0.33 * np.log(capital), 0.02).logpdf(np.log(row["output"]))
        capital = saving * capital**0.33 + (1.0 - delta) * capital
    return Grid(axes, log)


def test_the_configs_likelihood_of_union3_is_that_with_the_offset_projected_out() -> None:
    points = np.array([[0.25, -0.75], [0.01, -0.45], [0.4, -1.1], [0.3, -1.0], [0.6, -0.2]])
    checked = config.load(helpers.ROOT / "configs" / "supernova.toml")
    simulator = build_simulator(checked.simulate)
    layout = Layout(simulator.outputs())
    likelihood = Likelihood(checked.noise, read(checked.observation, layout), layout, {"distance_modulus": "none"})

    def one(point: Any) -> Any:
        given = {"omega_m": point[0], "w": point[1], "offset": jnp.asarray(43.16)}
        return likelihood.exact(simulator.solve(given, checked.simulate.solver).outputs["distance_modulus"], {})

    got = np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(points)))
    assert np.allclose(
        got - got[0], supernova_log_likelihood(*points.T) - supernova_log_likelihood(*points[0]), atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "overrides", "grid"),
    [("supernova", [], supernova_grid), ("solow", SOLOW, solow_grid)],
)
@pytest.mark.slow  # the posteriors of test_infer.py, which are exact too, are its twins
def test_a_small_run_finds_the_grids_posterior(name: str, overrides: list[str], grid: Callable[[], Grid]) -> None:
    file = helpers.ROOT / "configs" / f"{name}.toml"
    result = pipeline.run(file, overrides=SMALL + overrides, store=helpers.scratch() / "grids", until="infer")
    rows = {row["parameter"]: row for row in result.summaries["infer"]["tables"]["posterior"]}
    assert set(rows) == set(grid().axes)
    for parameter, row in rows.items():
        mean, sd = grid().moments(parameter)
        assert abs(row["mean"] - mean) < 4 * sd / np.sqrt(min(row["ess_bulk"], 1000)) + 0.05 * sd
        assert row["sd"] == pytest.approx(sd, rel=0.2)
    for each in result.posterior["posterior_predictive"].data_vars.values():
        observed = result.posterior["observed_data"][each.name].values
        low, high = np.quantile(each.values, [0.005, 0.995], axis=(0, 1))
        assert np.mean((low <= observed) & (observed <= high)) > 0.9  # an offset is the data's own, not the prior's
        assert np.max((high - low) / np.abs(observed)) < 0.5
