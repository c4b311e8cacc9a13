"""Error bars, replicates and censored data: their likelihood by SciPy, and posteriors on grids beside known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from simfer.stages.errors import ConfigError
from simfer.stages.model.likelihood import Likelihood, read_likelihood
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.preflight.data import data_mistakes
from simfer.stages.settings import AnyNoise, Observation
from simfer.stages.settings.slices import CompareConfig
from tests import helpers

T = np.arange(4.0)
LAYOUT = Layout({name: Output(("t",), {"t": T}) for name in ("y", "w")})
MEAN = np.array([1.0, 2.0, 3.0, 2.5])


def made(
    folder: Path, csv: str, noise: dict[str, Any], layout: Layout = LAYOUT, shared: Any = None, **more: Any
) -> Likelihood:
    """Return the likelihood of a config with these data and this noise."""
    (folder / "data.csv").write_text(csv)
    config = CompareConfig(
        candidates=[],
        observation=Observation.model_validate({"file": str(folder / "data.csv")} | more),
        noise={name: TypeAdapter(AnyNoise).validate_python(table) for name, table in noise.items()},
        noise_parameters=shared or {},
        limit=1.0,
    )
    return read_likelihood(config, layout, {})


def log_likelihood(likelihood: Likelihood, mean: np.ndarray = MEAN, **values: float) -> float:
    at_data = np.concatenate([mean] * len(likelihood.layout.outputs))[likelihood.index]
    fixed = likelihood.noise_space.fixed
    return float(jax.jit(likelihood.exact)(jnp.asarray(at_data), fixed | values))  # faster than step by step


SD = "t,y,sd\n0,1.1,0.1\n1,2.2,0.2\n2,2.7,0.3\n3,2.4,0.4\n"
DATA, SDS = np.array([1.1, 2.2, 2.7, 2.4]), np.array([0.1, 0.2, 0.3, 0.4])
HALF = {"dist": "HalfNormal", "scale": 1.0}


def test_a_column_of_error_bars(tmp_path: Path) -> None:
    likelihood = made(tmp_path, SD, {"y": {"dist": "Normal", "scale": {"column": "sd"}}})
    assert log_likelihood(likelihood) == pytest.approx(stats.norm.logpdf(DATA, MEAN, SDS).sum())
    assert likelihood.noise_space.names == [] and likelihood.is_gaussian
    assert np.allclose(likelihood.noise_variance(jnp.asarray(MEAN), {}), SDS**2)


def test_error_bars_with_a_factor_and_a_jitter(tmp_path: Path) -> None:
    scale = {"column": "sd", "times": HALF, "plus": HALF}
    likelihood = made(tmp_path, SD, {"y": {"dist": "Normal", "scale": scale}})
    assert likelihood.noise_space.names == ["y_scale_times", "y_scale_plus"]
    got = log_likelihood(likelihood, y_scale_times=2.0, y_scale_plus=0.3)
    assert got == pytest.approx(stats.norm.logpdf(DATA, MEAN, np.sqrt((2 * SDS) ** 2 + 0.09)).sum())


def test_one_sigma_for_two_outputs_and_a_formula(tmp_path: Path) -> None:
    csv = "t,y,w\n0,1.1,1.3\n2,2.7,2.9\n"
    noise = {"y": {"dist": "Normal", "scale": "sigma"}, "w": {"dist": "Normal", "scale": "0.05 * abs(w) + sigma"}}
    likelihood = made(tmp_path, csv, noise, shared={"sigma": 0.3})
    assert likelihood.noise_space.fixed == {"sigma": 0.3}
    mean = MEAN[[0, 2]]
    expected = stats.norm.logpdf([1.1, 2.7], mean, 0.3).sum()
    expected += stats.norm.logpdf([1.3, 2.9], mean, 0.05 * mean + 0.3).sum()
    assert log_likelihood(likelihood) == pytest.approx(expected)


def test_totals_and_degrees_of_freedom_from_columns(tmp_path: Path) -> None:
    csv = "t,y,n,nu\n0,1,10,3\n1,2,20,4\n"
    trials = {"dist": "Binomial", "total_count": {"column": "n"}, "population": 10.0}
    likelihood = made(tmp_path, csv, {"y": trials}, ignore=["nu"])
    assert log_likelihood(likelihood) == pytest.approx(stats.binom.logpmf([1, 2], [10, 20], MEAN[:2] / 10).sum())
    likelihood = made(tmp_path, csv, {"y": {"dist": "StudentT", "df": {"column": "nu"}, "scale": 0.4}}, ignore=["n"])
    assert log_likelihood(likelihood) == pytest.approx(stats.t.logpdf([1, 2], [3, 4], MEAN[:2], 0.4).sum())


CENSORED = "t,y\n0,<1.5\n1,2\n2,>3\n3,3\n"
FAMILIES: dict[str, tuple[dict[str, Any], Any]] = {
    "Normal": ({"scale": 0.4}, stats.norm(MEAN, 0.4)),
    "LogNormal": ({"scale": 0.4}, stats.lognorm(0.4, scale=MEAN)),
    "StudentT": ({"df": 3.5, "scale": 0.4}, stats.t(3.5, MEAN, 0.4)),
    "Poisson": ({}, stats.poisson(MEAN)),
    "NegativeBinomial2": ({"concentration": 2.5}, stats.nbinom(2.5, 2.5 / (2.5 + MEAN))),
    "Binomial": ({"total_count": 20, "population": 50.0}, stats.binom(20, MEAN / 50.0)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_censored_data_have_the_probability_beyond_their_bound(name: str, tmp_path: Path) -> None:
    arguments, exact = FAMILIES[name]
    likelihood = made(tmp_path, CENSORED, {"y": {"dist": name} | arguments})
    density = exact.logpmf if exact.dist.name in ("poisson", "nbinom", "binom") else exact.logpdf
    below = exact.logcdf(np.array([1.5] * 4))[0]  # of counts: 0 and 1
    expected = below + density(np.array([0, 2, 0, 3]))[[1, 3]].sum() + exact.logsf(np.array([3.0] * 4))[2]
    value = jax.jit(jax.value_and_grad(lambda mean: likelihood.exact(mean, likelihood.noise_space.fixed)))
    assert float(value(jnp.asarray(MEAN))[0]) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(value(jnp.asarray(MEAN + 0.01))[1]).all()  # a t's own derivative at its centre is taken to be 0


def test_a_bound_that_belongs_to_it_counts_for_whole_numbers(tmp_path: Path) -> None:
    less, at_most = (made(tmp_path, f"t,y\n0,{cell}\n1,7\n", {"y": {"dist": "Poisson"}}) for cell in ("<3", "<=3"))
    seven = stats.poisson.logpmf(7, MEAN[1])
    assert log_likelihood(less) - seven == pytest.approx(stats.poisson.logcdf(2, MEAN[0]))
    assert log_likelihood(at_most) - seven == pytest.approx(stats.poisson.logcdf(3, MEAN[0]))


def test_a_censored_datum_far_out_has_a_gradient(tmp_path: Path) -> None:
    for noise in ({"dist": "Normal", "scale": 0.01}, {"dist": "StudentT", "df": 4.0, "scale": 0.01}):
        likelihood = made(tmp_path, "t,y\n0,<-1\n1,>9\n", {"y": noise})
        fixed = likelihood.noise_space.fixed
        slope_of = jax.jit(jax.value_and_grad(lambda mean: likelihood.exact(mean, fixed)))  # noqa: B023
        value, slope = slope_of(jnp.asarray(MEAN[:2]))
        assert np.isfinite(float(value)) and np.isfinite(slope).all() and (np.asarray(slope) != 0.0).all()


def test_new_data_are_censored_as_the_observed_ones_are(tmp_path: Path) -> None:
    likelihood = made(tmp_path, "t,y\n0,<1.5\n1,2\n2,4\n", {"y": {"dist": "Normal", "scale": 1.0}})
    drawn = np.asarray(
        jax.vmap(lambda key: likelihood.replicate(key, None, jnp.asarray(MEAN[:3]), likelihood.noise_space.fixed)["y"])(
            jax.random.split(jax.random.key(0), 4000)
        )
    )
    expected = stats.norm.cdf(1.5, MEAN[:3], 1.0)
    assert np.allclose(np.isneginf(drawn).mean(axis=0), expected, atol=0.03)
    assert drawn[np.isfinite(drawn)].min() >= 1.5
    shown = np.asarray(likelihood.shown({"y": jnp.asarray(drawn)})["y"])
    assert shown.min() == 1.5 and np.isfinite(shown).all()


def posterior(likelihood: Likelihood, grids: dict[str, np.ndarray], log_prior: Any, outputs: Any) -> dict[str, Any]:
    """Return mean and sd of each quantity by sums over a grid; `outputs` maps one point to what is observed."""
    names, axes = list(grids), np.meshgrid(*grids.values(), indexing="ij")
    points = {name: axis.ravel() for name, axis in zip(names, axes, strict=True)}
    index = jnp.asarray(likelihood.index)

    def one(point: dict[str, Any]) -> Any:
        values = {name: point.get(name, 0.0) for name in likelihood.noise_space.names} | likelihood.noise_space.fixed
        return likelihood.exact(outputs(point)[index], values)

    log = np.asarray(jax.jit(jax.vmap(one))({k: jnp.asarray(v) for k, v in points.items()})) + log_prior(points)
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    means = {name: weights @ values for name, values in points.items()}
    return {name: (means[name], np.sqrt(weights @ (points[name] - means[name]) ** 2)) for name in names}


def test_replicates_are_all_used(tmp_path: Path) -> None:
    """Three data at each time (case of ICB-DCM/pyPESTO #122): the last ones alone give 10.42, the first 10.02."""
    table = {0: (10.02, 10.68, 10.61), 1: (7.15, 7.26, 7.14), 2: (5.77, 5.46, 5.86), 4: (2.09, 3.80, 2.96)}
    table |= {8: (1.25, 0.84, 0.72)}
    csv = "time,y\n" + "".join(f"{t},{y}\n" for t, data in table.items() for y in data)
    times = np.array(list(table), float)
    layout = Layout({"y": Output(("time",), {"time": times})})
    likelihood = made(tmp_path, csv, {"y": {"dist": "Normal", "scale": 0.5}}, layout)
    found = posterior(
        likelihood,
        {"A": np.linspace(9.0, 11.6, 120), "k": np.linspace(0.23, 0.4, 120)},
        lambda p: (
            stats.lognorm(0.5, scale=np.exp(2.3026)).logpdf(p["A"])
            + stats.lognorm(0.5, scale=np.exp(-1.204)).logpdf(p["k"])
        ),
        lambda p: p["A"] * jnp.exp(-p["k"] * jnp.asarray(times)),
    )
    assert found["A"] == pytest.approx((10.278, 0.258), abs=2e-3)
    assert found["k"] == pytest.approx((0.3123, 0.0189), abs=5e-4)


def lod(below: bool) -> tuple[str, np.ndarray]:
    """Return 100 values of N(1, 1), as a file and as numbers; those below 1 may be known to be that alone."""
    values = np.random.default_rng(5).normal(1.0, 1.0, 100)
    cells = ["<1" if below and v < 1.0 else repr(float(v)) for v in values]
    return "y\n" + "".join(f"{cell}\n" for cell in cells), values


def test_data_below_the_limit_of_detection_move_nothing(tmp_path: Path) -> None:
    """As in Data2Dynamics' example of a limit, where half of it as a number gives 1.26 and is sure of it."""
    layout = Layout({"y": Output()})
    grids = {"m": np.linspace(0.2, 2.0, 90), "y_scale": np.linspace(0.6, 1.9, 80)}
    found = {}
    for below in (True, False):
        csv, values = lod(below)
        likelihood = made(tmp_path, csv, {"y": {"dist": "Normal", "scale": HALF | {"scale": 5.0}}}, layout)
        prior = lambda p: stats.norm(0, 5).logpdf(p["m"]) + stats.halfnorm(0, 5).logpdf(p["y_scale"])  # noqa: E731
        found[below] = posterior(likelihood, grids, prior, lambda p: jnp.reshape(p["m"], (1,)))
    log = np.zeros((90, 80))
    m, s = np.meshgrid(*grids.values(), indexing="ij")
    for value in values:
        log += stats.norm.logcdf(1.0, m, s) if value < 1.0 else stats.norm.logpdf(value, m, s)
    weights = np.exp(log - 0.02 * (m**2 + s**2) - (log - 0.02 * (m**2 + s**2)).max())
    weights /= weights.sum()
    assert found[True]["m"][0] == pytest.approx((weights * m).sum(), abs=1e-6)
    assert found[True]["y_scale"][0] == pytest.approx((weights * s).sum(), abs=1e-6)
    assert abs(found[True]["m"][0] - found[False]["m"][0]) < 0.15 and found[True]["m"][1] > found[False]["m"][1]


def told(tmp_path: Path, csv: str, noise: dict[str, Any], layout: Layout = LAYOUT) -> str:
    (tmp_path / "data.csv").write_text(csv)
    config = helpers.problem(helpers.line(observation={"file": str(tmp_path / "data.csv")}) | {"noise": noise})
    return "; ".join(f"{each.where}: {each.what}" for each in data_mistakes(config, layout))


def test_what_does_not_fit_together_is_said(tmp_path: Path) -> None:
    normal = {"dist": "Normal", "scale": {"column": "sd"}}
    assert "expected numbers of at least 0" in told(tmp_path, "t,y,sd\n0,1,-0.1\n", {"y": normal})
    assert "got 0 for 1 of 2 data" in told(tmp_path, "t,y,sd\n0,1,0\n1,1,0.1\n", {"y": normal})
    assert "no column of the file" in told(tmp_path, "t,y\n0,1\n", {"y": normal})
    student = {"dist": "StudentT", "df": HALF, "scale": 1.0}
    assert told(tmp_path, "t,y\n0,1\n", {"y": student}) == ""
    assert "needs a CDF with derivatives" in told(tmp_path, "t,y\n0,<1\n", {"y": student})
    with pytest.raises(ConfigError, match="expected a formula"):
        told(tmp_path, SD, {"y": {"dist": "Normal", "scale": "__import__('os')"}})
