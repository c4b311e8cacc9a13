"""A NumPyro model of one's own: its posterior beside the exact one, its verdict, and what it may not do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm
from scipy import stats

from simfer import pipeline
from simfer.pipeline import chain
from simfer.pipeline.studies import STUDIES
from simfer.stages.check.own_model import Asked, compare
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import ConfigError
from simfer.stages.infer.own_model.calls import Calls
from simfer.stages.infer.own_model.table import read_columns
from simfer.stages.infer.own_model.target import build_own_target, error_factor
from simfer.stages.infer.own_model.whitening import Centre, scale_of, whitening
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.preflight.own_model import own_model_mistakes
from simfer.stages.progress import Silent
from simfer.stages.simulate.simulators.experiments import Experiments
from simfer.stages.simulate.simulators.linear import Linear
from tests import helpers

MODELS = Path(__file__).with_name("own_models.py")


def own(model: str, **sections: Any) -> dict[str, Any]:
    """Return the linear problem's config with a model in the place of its noise."""
    table = helpers.line(infer={"model": f"{MODELS}:{model}"}, **sections)
    return {name: section for name, section in table.items() if name != "noise"}


def test_its_density_is_the_exact_one_by_the_emulator_and_by_the_simulator() -> None:
    problem, predictor = helpers.problem(own("line")), load_emulator(helpers.line_run(until="train").folders["train"])
    config: Any = helpers.link(problem, "infer-0").config
    factor = error_factor(predictor, np.random.default_rng(0).normal(size=(50, 2)))
    assert factor is not None
    target = build_own_target(config, predictor, factor)
    assert target.components == ["intercept", "slope"] and target.size == 2 + len(factor)
    z = np.random.default_rng(1).normal(size=(30, target.size))
    assert np.allclose(target.points(z)[:, 0], z[:, :2])  # the model's priors are those of the config here
    intercept, slope = 0.5 + z[:, :1], -1.0 + 0.5 * z[:, 1:2]
    y = intercept + slope * helpers.X
    expected = stats.norm.logpdf(helpers.line_data(), y, 0.5).sum(axis=1)
    plain = build_own_target(config, predictor, None)
    emulated = np.asarray(jax.jit(jax.vmap(plain.log_ratio))(jnp.asarray(z[:, :2])))
    assert np.allclose(emulated, expected, rtol=0.02)
    asked = Asked(target, np.concatenate([z[:, :2], 0.0 * z[:, 2:]], axis=1), target.points(z))
    found = compare(asked, y[:, None], np.ones(30, bool))
    assert np.abs(found.error["y"]).max() < 0.05 and np.abs(found.log_ratio).max() < 0.5
    assert 0.0 <= found.predictive_p < 0.3  # draws of the prior, far from these data


@pytest.mark.slow  # the test above is its small twin
def test_it_has_the_exact_posterior_and_passes() -> None:
    result = pipeline.run(own("line"), store=helpers.scratch() / "line")
    mean, covariance = helpers.exact_line()
    posterior = result.posterior["posterior"]
    for i, name in enumerate(("intercept", "slope")):
        drawn, sd = posterior[name].values, np.sqrt(covariance[i, i])
        assert abs(drawn.mean() - mean[i]) < 0.12 * sd and drawn.std() == pytest.approx(sd, rel=0.1), name
    assert np.allclose(posterior["end"], posterior["intercept"] + 4.0 * posterior["slope"])
    assert result.verdict.passed, result.verdict
    figures = {row["figure"] for row in result.summaries["check"]["tables"]["verdict"]}
    assert "emulator error, y (99th percentile, data sigma)" in figures and "posterior predictive p" in figures
    assert result.posterior["posterior_predictive"]["y"].shape == (2, 1000, 9)
    # What was simulated and trained for [noise] serves a model too.
    assert result.folders["train"] == helpers.line_run(until="train").folders["train"]


@pytest.mark.slow
def test_two_lines_of_one_population_and_their_coverage(tmp_path: Path) -> None:
    result = pipeline.run(own("two_lines"), store=tmp_path)
    assert result.verdict.passed, result.verdict
    rows = {row["parameter"]: row for row in result.summaries["infer"]["tables"]["posterior"]}
    assert {"slope[0]", "slope[1]", "spread", "center", "intercept"} <= rows.keys()
    quick = ("calibrate.replicates=100", "calibrate.num_warmup=150", "calibrate.num_samples=200", "calibrate.thin=2")
    problem = helpers.problem(own("two_lines"), *quick)
    (link,) = STUDIES["calibrate"].added(problem, 0)
    inputs = {"emulator": [result.folders["train"]], "posterior": [result.folders["infer"]]}
    (folder := tmp_path / "calibrate").mkdir()
    assert chain.run(link, inputs, folder, Silent())["facts"]["passed"]


FAMILIES = {
    "Normal": lambda a: dist.Normal(a, 2.0),
    "LogNormal": lambda a: dist.LogNormal(a, 0.5),
    "Uniform": lambda a: dist.Uniform(0.0, 1.0 + a**2),
    "Gamma": lambda a: dist.Gamma(3.0, 1.0 + a**2),
    "InverseGamma": lambda a: dist.InverseGamma(3.0, 1.0 + a**2),
    "Beta": lambda a: dist.Beta(1.0 + a**2, 3.0),
    "StudentT": lambda a: dist.StudentT(4.0, a, 2.0),
    "TruncatedNormal": lambda a: dist.TruncatedNormal(a, 1.0, low=0.0),
    "Kumaraswamy": lambda a: dist.Kumaraswamy(2.0, 1.0 + a**2),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_site_has_its_own_density(family: str, strict_dtypes: None) -> None:
    """A standard normal point, with what `log_ratio` adds to it, is the site's distribution (change of variables)."""
    made = FAMILIES[family](jnp.asarray(0.7))
    site = whitening("a", made)
    for x in (-1.3, 0.4):
        point = jnp.asarray([x])
        value = site.value(point)
        volume = jnp.log(jnp.abs(jax.jacfwd(site.value)(point)[0]))
        expected = made.log_prob(value) + volume - norm.logpdf(x)
        assert float(site.log_ratio(point, value)) == pytest.approx(float(expected), abs=1e-6)
        assert float(site.point(value)[0]) == pytest.approx(x, abs=1e-6)

    # Hierarchies need the slope by a distribution's own arguments.
    def both(a: Any) -> Any:
        site = whitening("a", FAMILIES[family](a))
        value = site.value(point)
        return value.sum() + site.log_ratio(point, value)

    slope = jax.grad(both)(0.7)
    assert np.isfinite(slope) and slope != 0.0


@pytest.mark.parametrize(("family", "is_log"), [("Normal", False), ("LogNormal", True)])
def test_a_site_that_moves_by_itself_has_its_density_too(family: str, is_log: bool) -> None:
    made, centre = FAMILIES[family](jnp.asarray(0.7)), Centre(is_log, 0.3, 2.0)
    assert scale_of(made.expand((4,))) is is_log
    site, point = whitening("a", made, centre), jnp.asarray([0.4])
    value = site.value(point)
    assert np.allclose(np.log(value) if is_log else value, 1.1)  # wherever its own prior lies
    volume = jnp.log(jax.jacfwd(site.value)(point)[0])
    expected = made.log_prob(value) + volume - norm.logpdf(0.4)
    assert float(site.log_ratio(point, value)) == pytest.approx(float(expected), abs=1e-6)
    assert float(site.point(value)[0]) == pytest.approx(0.4)


def test_joint_sites_have_theirs() -> None:
    root = jnp.asarray([[1.0, 0.0], [0.5, 2.0]])
    site = whitening("a", dist.MultivariateNormal(jnp.ones(2), scale_tril=root))
    assert np.allclose(site.value(jnp.asarray([1.0, -1.0])), [2.0, -0.5])
    assert np.allclose(site.point(jnp.asarray([2.0, -0.5])), [1.0, -1.0])
    assert whitening("w", dist.Dirichlet(jnp.ones(3))).size == 2
    plate = dist.Normal(jnp.zeros(3), 1.0).to_event(1).expand((4,))
    assert whitening("b", plate).value(jnp.arange(12.0)).shape == (4, 3)


REFUSED = {
    "no_call": "never calls simulate",
    "no_data": "observes nothing",
    "discrete": '"a" from Poisson, which is discrete',
    "misspelt": "slop is no free parameter.*did you mean.*slope",
    "fitted": "numpyro.param",
    "wrong_column": r'data\["Y"\]: no such name; expected one of x, x_index, y',
    "wrong_output": r'simulate\(...\)\["z"\]: no such name; expected one of y',
    "in_parts": "a part of the data at a time",
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_it_may_not_do_is_said_before_anything_runs(model: str) -> None:
    problem = helpers.problem(own(model))
    found = own_model_mistakes(problem, Layout(Linear(helpers.X).outputs()), stochastic=False)
    assert found and found[0].where == "infer.model"
    assert re.search(REFUSED[model], found[0].what, re.IGNORECASE), found[0].what


def test_what_stands_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="got noise beside it"):
        helpers.problem(own("line") | {"noise": {"y": {"dist": "Normal", "scale": 0.5}}})
    with pytest.raises(ConfigError, match=r"refine\.keep"):
        helpers.problem(own("line", refine={"keep": 100}))
    with pytest.raises(ConfigError, match="noise: missing"):
        helpers.problem({name: section for name, section in helpers.line().items() if name != "noise"})
    with pytest.raises(ConfigError, match="fit needs"):
        STUDIES["fit"].added(helpers.problem(own("line")), 0)


def test_data_are_columns_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x;y;plot\n0;1,5;2\n4;;1\n")
    problem = helpers.problem(own("line", observation={"file": str(tmp_path / "data.csv")}))
    data = read_columns(problem.observation, Layout(Linear(helpers.X).outputs()))
    assert data["x_index"].tolist() == [0, 8] and data["plot"].tolist() == [2.0, 1.0]
    assert data["y"][0] == 1.5 and np.isnan(data["y"][1])
    found = own_model_mistakes(problem, Layout(Linear(helpers.X).outputs()), stochastic=False)
    assert "a cell of the data is empty" in found[0].what
    (tmp_path / "data.csv").write_text("x,y\n0.3,1\n")
    with pytest.raises(ConfigError, match=r"nearest: 0\.5"):
        read_columns(problem.observation, Layout(Linear(helpers.X).outputs()))


def test_data_of_several_experiments_are_tables_of_their_own(tmp_path: Path) -> None:
    experiments = {}
    for name, x in (("near", [0.0, 1.0]), ("far", [0.0, 4.0])):
        (tmp_path / f"{name}.csv").write_text(f"x,y\n{x[1]},1.5\n")
        experiments[name] = {"options": {"x": x}, "observation": {"file": str(tmp_path / f"{name}.csv")}}
    table = own("line") | {"experiments": experiments}
    problem = helpers.problem({name: section for name, section in table.items() if name != "observation"})
    parts = {name: Linear(each["options"]["x"]) for name, each in experiments.items()}
    data = read_columns(problem.observation, Layout(Experiments(parts, ()).outputs()))
    assert data["near"]["x_index"].tolist() == [1] and data["far"]["x"].tolist() == [4.0]
    assert "near.x_index" not in data["near"]


def test_a_vector_of_the_simulator_is_an_array() -> None:
    space = Space({f"effect[{i}]": each for i, each in enumerate(helpers.problem(helpers.line()).parameters.values())})
    seen: list[Any] = []

    def give(z: Any, before: int) -> dict[str, Any]:
        seen.append(z)
        return {"y": jnp.zeros((len(z), 3))}

    calls = Calls(space, give)
    assert calls({"effect": jnp.asarray([[0.5, -1.0], [1.5, -0.5], [0.5, -1.5]])})["y"].shape == (3, 3)
    assert np.allclose(seen[0], [[0.0, 0.0], [1.0, 1.0], [0.0, -1.0]]) and calls.num_points == 3


def test_an_edited_model_is_drawn_from_anew_by_the_same_emulator(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    plans = []
    for scale in ("0.5", "0.6"):
        file.write_text(MODELS.read_text().replace("0.5), obs", f"{scale}), obs"))
        table = helpers.merged(own("line"), {"infer": {"model": f"{file}:line"}})
        plans.append({step.link.name: step.fingerprint for step in helpers.plan(helpers.problem(table))})
    changed = {name for name, fingerprint in plans[0].items() if plans[1][name] != fingerprint}
    assert changed == {"infer-0", "check-0"}
