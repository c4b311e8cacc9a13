"""The verdict: good where it should be, and bad for the right reason where it should not."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from simfer import pipeline
from simfer.stages.artifacts.verdict import VERDICT
from simfer.stages.check.evidence import smooth
from simfer.stages.check.stage import REWEIGHTED
from simfer.stages.check.verdict import Figure, advice, edge_mass
from simfer.stages.emulator.domain import Domain
from simfer.stages.model.quantiles import distribution, from_normal
from simfer.stages.settings import NumberOrPrior
from tests import helpers


def figures(result: pipeline.Result) -> dict[str, dict[str, float]]:
    return {row["figure"]: row for row in result.summaries["check"]["tables"]["verdict"]}


def failed(result: pipeline.Result) -> set[str]:
    return {name for name, row in figures(result).items() if not row["passed"]}


def verdict(result: pipeline.Result) -> str:
    return str(result.summaries["check"]["facts"]["verdict"])


def shifted(by: float) -> dict[str, object]:
    """Return the linear problem with its data moved along."""
    file = helpers.write_line(helpers.scratch() / f"shifted_{by}.csv", helpers.line_data() + by)
    return helpers.line(observation={"file": str(file)})


def test_a_linear_gaussian_problem_passes() -> None:
    result = helpers.line_run()
    assert result.verdict.passed, verdict(result)
    assert failed(result) == set()
    stored = json.loads((result.folders["check"] / VERDICT).read_text())
    assert stored["passed"] is True and len(stored["figures"]) == len(figures(result))
    assert result.summaries["check"]["facts"]["simulations"] == 64


def test_by_the_simulators_own_likelihood_it_does_not_matter_where_an_emulator_was_trained() -> None:
    result = helpers.line_run("infer.likelihood=simulator", "infer.sampler=auto", "train.steps=30")
    assert result.verdict.passed, verdict(result)
    assert "draws outside the training domain" not in figures(result)
    posterior, (mean, covariance) = result.posterior["posterior"], helpers.exact_line()
    for name, m, v in zip(("intercept", "slope"), mean, np.diag(covariance), strict=True):
        assert posterior[name].values.mean() == pytest.approx(m, abs=0.12 * np.sqrt(v))


def test_an_emulator_trained_far_too_briefly_fails_for_that_reason() -> None:
    brief = ("train.steps=10", "train.finish_steps=0", "infer.emulator_error=none")
    result = helpers.line_run(*brief)
    assert not result.verdict.passed
    assert "emulator error, y (99th percentile, data sigma)" in failed(result)
    assert "longer training (train.steps)" in verdict(result)
    assert "the sampler has not converged" not in verdict(result)


@pytest.mark.slow
def test_a_prior_that_misses_the_truth_fails_for_that_reason() -> None:
    # The data ask for an intercept seven prior sd away, and no noise covers that.
    result = pipeline.run(shifted(8.0), store=helpers.scratch() / "line")
    assert not result.verdict.passed
    assert {"posterior mass at a prior's edge", "posterior predictive p"} & failed(result)
    assert "widen that prior" in verdict(result) or "improbable under the model" in verdict(result)


@pytest.mark.slow
def test_data_outside_the_training_domain_fail_for_that_reason() -> None:
    # Trained on a narrow prior's middle alone: 4.5 prior sd out there is no row.
    result = pipeline.run(shifted(5.0), store=helpers.scratch() / "line")
    assert figures(result)["draws outside the training domain"]["value"] > 0.5
    assert "draws lie where nothing was simulated" in verdict(result)


def test_a_sampler_that_did_not_converge_fails_for_that_reason() -> None:
    result = helpers.line_run("infer.num_warmup=3", "infer.num_samples=40")
    assert not result.verdict.passed
    assert {"smallest ESS, bulk or tail", "largest R-hat"} & failed(result)
    assert verdict(result).startswith("failed: the sampler has not converged")
    assert "emulator error, y (99th percentile, data sigma)" not in failed(result)


def test_data_that_the_model_cannot_make_fail_for_that_reason() -> None:
    bent = helpers.line_data() + 2.0 * np.where(np.arange(9) % 2, 1.0, -1.0)
    file = helpers.write_line(helpers.scratch() / "bent.csv", bent)
    result = pipeline.run(helpers.line(observation={"file": str(file)}), store=helpers.scratch() / "line")
    assert failed(result) == {"posterior predictive p"}
    assert "improbable under the model" in verdict(result)


HALF = '''
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.model.outputs import Output

class Half(FunctionSimulator):
    """A number, as long as it is below one."""

    parameters = {"a": "", "b": ""}

    def outputs(self):
        return {"y": Output()}

    def __call__(self, p):
        return {"y": jnp.where(p["a"] < 1.0, p["a"], jnp.nan)}
'''


def half(y: float, scale: float, **check: object) -> pipeline.Result:
    """Infer a number from a datum, by a simulator that fails above one."""
    folder = helpers.scratch()
    (folder / "half.py").write_text(HALF)
    (folder / f"half_{y}.csv").write_text(f"y\n{y}\n")
    changes = {
        "parameters": {"intercept": None, "slope": None, "a": {"dist": "Normal"}, "b": {"dist": "Normal"}},
        "simulate": {"simulator": str(folder / "half.py:Half"), "options": None, "max_failed": 0.5},
        "observation": {"file": str(folder / f"half_{y}.csv")},
        "noise": {"y": {"dist": "Normal", "scale": scale}},
        "check": check,
    }
    table = helpers.line(**changes) | {"train": {"architecture": helpers.STRAIGHT}}
    return pipeline.run(table, store=folder / "half")


def test_draws_that_cannot_be_solved_are_named() -> None:
    result = half(1.0, 0.2, num_draws=200)
    summary = result.summaries["check"]
    name = "draws that the simulator cannot solve"
    a = xr.open_zarr(result.folders["check"] / "simulations.zarr", chunks=None)["a"].values
    assert figures(result)[name]["value"] == pytest.approx((a > 1).mean()) and 0.2 < (a > 1).mean() < 0.8
    unsolved, uncertain = summary["warnings"]
    assert f"cannot solve {(a > 1).sum()} of 200 posterior draws ({(a > 1).sum()} not finite)" in unsolved
    assert "mostly where a > 1" in unsolved or "mostly where a > 0.99" in unsolved
    assert unsolved.rstrip(".") in verdict(result)
    share = float(uncertain.split("%")[0]) / 100
    assert share == pytest.approx((a > 1).mean(), abs=0.15)
    assert "lie where most of the nearest simulations failed" in uncertain
    listed = summary["tables"]["draws that the simulator cannot solve (the first few)"]
    assert len(listed) == 5 and all(row["a"] > 1 and row["status"] == "not finite" for row in listed)
    assert [row["a"] for row in listed] == pytest.approx(a[[row["draw"] for row in listed]])


def test_a_verdict_without_a_usable_draw_is_json_all_the_same() -> None:
    result = half(3.0, 0.1)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    stored = json.loads((result.folders["check"] / VERDICT).read_text(), parse_constant=refuse)
    values = {row["figure"]: row["value"] for row in stored["figures"]}
    assert values["Pareto k-hat"] is None and values["log likelihood, simulator - emulator (sd)"] is None
    assert values["draws that the simulator cannot solve"] > 0.9
    assert result.verdict.figures == stored and not result.verdict.passed
    assert "the simulator has no answer at posterior draws" in verdict(result)
    assert figures(result)["Pareto k-hat"]["value"] is None and not figures(result)["Pareto k-hat"]["passed"]


def test_a_linear_problem_has_no_failures_to_tell_of() -> None:
    summary = helpers.line_run().summaries["check"]
    assert summary["warnings"] == [] and summary["facts"]["draws_where_simulations_failed"] == 0.0


def test_reweighting_moves_a_poor_emulators_posterior_towards_the_exact_one() -> None:
    brief = ("train.steps=60", "train.finish_steps=0", "check.reweight=true", "check.num_draws=256")
    result = helpers.line_run(*brief)
    with xr.open_dataset(result.folders["check"] / REWEIGHTED, engine="h5netcdf") as draws:
        weight = draws["weight"].values
        assert weight.sum() == pytest.approx(1.0) and (weight >= 0).all()
        assert len(weight) == 256 and len(np.unique(draws["slope"])) > 250  # only a step that NUTS refused is repeated
        mean, covariance = helpers.exact_line()
        for i, name in enumerate(("intercept", "slope")):
            sd = np.sqrt(covariance[i, i])
            assert abs(float(weight @ draws[name].values) - mean[i]) < 0.35 * sd
        assert draws.attrs["k_hat"] == pytest.approx(figures(result)["Pareto k-hat"]["value"], abs=1.0)


def test_smoothing_of_equal_weights_leaves_them() -> None:
    weights, k_hat = smooth(np.zeros(100))
    assert np.allclose(weights, 0.01) and k_hat == 0.0


def test_k_hat_of_a_pareto_tail_is_its_shape() -> None:
    # Importance ratios that are Pareto with tail index a have k = 1 / a (Vehtari et al. 2024, section 2).
    rng = np.random.default_rng(0)
    for shape in (0.3, 0.9):
        ratio = (1.0 - rng.random(20000)) ** -shape
        weights, k_hat = smooth(np.log(ratio))
        assert k_hat == pytest.approx(shape, abs=0.12)
        assert weights.sum() == pytest.approx(1.0)


def test_weights_of_a_gaussian_by_another_give_its_mean() -> None:
    x = np.random.default_rng(1).normal(size=20000)
    weights, k_hat = smooth(stats.norm.logpdf(x, 0.3, 0.9) - stats.norm.logpdf(x))
    assert weights @ x == pytest.approx(0.3, abs=0.03)
    assert k_hat < 0.5


def test_a_figure_that_is_not_a_number_does_not_pass() -> None:
    assert not Figure("x", "emulator", float("nan"), 0.5).passed
    assert not Figure("x", "sampler", float("nan"), 400.0, larger_is_better=True).passed
    assert Figure("x", "emulator", 0.5, 0.5).passed
    assert Figure("x", "sampler", 400.0, 400.0, larger_is_better=True).passed


def test_advice_names_each_cause_once_and_the_sampler_first() -> None:
    bad = [Figure("a", "emulator", 1.0, 0.5), Figure("b", "emulator", 1.0, 0.5), Figure("c", "sampler", 1.0, 0.5)]
    words = advice(bad)
    assert words.startswith("the sampler has not converged")
    assert words.count("the emulator differs") == 1
    assert "prior" not in advice([Figure("c", "sampler", 1.0, 0.5)])


def test_where_a_population_drew_the_advice_is_not_of_chains() -> None:
    words = advice([Figure("c", "sampler", 1.0, 0.5), Figure("drift of the population", "population", 0.0, 0.05)])
    assert words.startswith("the population that drew is too small")
    assert "NUTS" not in words


@pytest.mark.parametrize("scale", [1e3, 5e3, 1e6])  # on the way the tail's weights are smaller than any number
def test_a_draw_that_has_all_the_weight_leaves_no_tail_to_smooth(scale: float) -> None:
    log_ratio = -scale * np.random.default_rng(2).random(64)
    weights, k_hat = smooth(log_ratio)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.argmax() == log_ratio.argmax() and weights.max() > 0.99
    assert k_hat > 0.7


def test_the_domain_is_as_slanted_as_its_rows() -> None:
    rng = np.random.default_rng(0)
    training = rng.normal(size=(500, 2)) @ np.array([[1.0, 0.95], [0.0, 0.1]])  # a narrow band
    inside = training[:50] * 0.5
    domain = Domain.of(training)
    assert domain.holds(inside).all()
    beside = np.array([[0.0, 2.0], [1.5, -1.5]])  # within the box along the axes, but off the band
    assert not domain.holds(beside).any()
    assert np.mean(~domain.holds(np.concatenate([inside, beside]))) == pytest.approx(2 / 52)
    assert not domain.holds(np.array([np.nan, 0.0]))


def mass(prior: dict[str, object], **z: np.ndarray) -> float:
    theta = {
        name: np.asarray(from_normal(distribution(prior[name]), jnp.asarray(values))) for name, values in z.items()
    }
    return edge_mass(prior, theta, z)


@pytest.mark.parametrize("table", [
    {"dist": "Uniform", "low": 0.0, "high": 1.0},
    {"dist": "LogUniform", "low": 1e-10, "high": 1.0},
])  # fmt: skip
def test_mass_at_an_edge_is_that_of_a_posterior_which_is_cut(table: dict[str, object]) -> None:
    prior, rng = _priors(a=table), np.random.default_rng(0)

    def at(place: np.ndarray) -> float:  # from low, 0, to high, 1
        return mass(prior, a=stats.norm.ppf(place[(place > 0) & (place < 1)]))

    assert at(rng.exponential(1e-4, 20_000)) == pytest.approx(1 - np.exp(-1 / 8), abs=0.01)  # however narrow
    assert at(np.abs(rng.normal(size=20_000)) * 1e-3) > 0.05
    assert at(1.0 - np.abs(rng.normal(size=20_000)) * 1e-3) > 0.05
    assert at(1e-3 * (1.0 + rng.normal(size=20_000))) < 0.05  # the peak is one sd away: cut, but no more than that
    assert at(rng.uniform(size=20_000)) < 0.05  # the prior itself


def test_mass_at_the_edge_knows_hard_ends_from_natural_ones() -> None:
    rng = np.random.default_rng(1)
    prior, z = _priors(b={"dist": "LogNormal"}), rng.normal(size=100)
    z[:40] = -3.0 + 0.1 * z[:40]  # a small value of a LogNormal is nothing special
    assert mass(prior, b=z) == 0.0
    z[:40] = -4.0
    assert mass(prior, b=z) == pytest.approx(0.4)
    half = _priors(c={"dist": "HalfNormal"})
    assert mass(half, c=stats.norm.ppf(rng.uniform(0.0, 0.01, 1000))) < 0.05


def test_an_edge_that_is_meant_and_a_circle_have_no_mass_at_them() -> None:
    z = stats.norm.ppf(np.random.default_rng(2).exponential(1e-3, 1000))
    flat = {"dist": "Uniform", "low": 0.0, "high": 1.0}
    assert mass(_priors(a=flat), a=z) > 0.08
    assert mass(_priors(a=flat | {"edge": "meant"}), a=z) == 0.0
    assert mass(_priors(a=flat | {"periodic": True}), a=z) == 0.0


def _priors(**table: dict[str, object]) -> dict[str, object]:
    from pydantic import TypeAdapter

    read = TypeAdapter(NumberOrPrior).validate_python
    return {name: read(value) for name, value in table.items()}


def test_the_rows_of_a_check_are_posterior_draws() -> None:
    result = helpers.line_run()
    rows = xr.open_zarr(Path(result.folders["check"]) / "simulations.zarr", chunks=None, consolidated=False)
    drawn = result.posterior["posterior"]["slope"].values.ravel()
    assert np.isin(np.round(rows["slope"].values, 9), np.round(drawn, 9)).all()
    line = rows["intercept"].values[:, None] + rows["slope"].values[:, None] * helpers.X
    assert np.allclose(rows["y"].values, line)
