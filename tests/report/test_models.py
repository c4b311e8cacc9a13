"""Models held against one another: the numbers are ArviZ's, and those of exact answers; other data are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from typer.testing import CliRunner

import simfer
from simfer import pipeline
from simfer.pipeline.cli import app
from simfer.stages.report.models import Model, compare, loo, pointwise, rank, stacking
from tests import helpers

RANDOM = np.random.default_rng(3)
Y = RANDOM.normal(1.0, 1.0, 40)


def location(scale: float, draws: int = 4000) -> np.ndarray:
    """Return log likelihoods at exact draws of a normal's mean, flat before the data."""
    mean = RANDOM.normal(Y.mean(), scale / np.sqrt(len(Y)), draws)
    return np.asarray(norm.logpdf(Y[None], mean[:, None], scale))


def exact(scale: float) -> np.ndarray:
    """Return each datum's log density by the others: normal about their mean."""
    others = (Y.sum() - Y) / (len(Y) - 1)
    return np.asarray(norm.logpdf(Y, others, scale * np.sqrt(1 + 1 / (len(Y) - 1))))


def test_loo_is_the_exact_one_of_a_normal() -> None:
    found = loo(location(1.0))
    np.testing.assert_allclose(found.elpd, exact(1.0), atol=0.01)
    among = norm.logpdf(Y, Y.mean(), np.sqrt(1 + 1 / len(Y)))  # each datum's log density by all of them
    assert found.k_hat.max() < 0.5 and found.effective.sum() == pytest.approx(
        float((among - exact(1.0)).sum()), abs=0.05
    )


def test_the_right_width_comes_first_and_takes_the_weight() -> None:
    table = rank({"wide": loo(location(3.0)), "right": loo(location(1.0))})
    assert [row["model"] for row in table] == ["right", "wide"]
    assert table[0]["difference"] == 0.0 and table[1]["difference"] < -2 * table[1]["se_of_difference"]
    assert table[0]["stacking_weight"] > 0.9


def test_stacking_finds_the_mixture() -> None:
    part = RANDOM.random(20000) < 0.3
    y = np.where(part, RANDOM.normal(-4.0, 1.0, part.size), RANDOM.normal(4.0, 1.0, part.size))
    weights = stacking(np.stack([norm.logpdf(y, -4.0), norm.logpdf(y, 4.0), norm.logpdf(y, 40.0)], axis=1))
    np.testing.assert_allclose(weights, [0.3, 0.7, 0.0], atol=0.01)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")  # such a datum is among the heavy ones
def test_arviz_says_the_same_of_the_file(tmp_path: Path) -> None:
    import arviz

    result = helpers.line_run()
    logs = pointwise("line", result.posterior)
    theirs = arviz.loo(arviz.from_netcdf(result.folders["infer"] / "posterior.nc"), pointwise=True)
    ours, known = loo(logs), np.asarray(theirs.loo_i).ravel()
    heavy = np.maximum(ours.k_hat, np.asarray(theirs.pareto_k).ravel()) > 0.5  # where tails of other lengths are fitted
    np.testing.assert_allclose(ours.elpd[~heavy], known[~heavy], atol=1e-3)
    np.testing.assert_allclose(ours.elpd, known, atol=1e-2)
    assert heavy.sum() <= 3


def test_predictions_are_drawn_side_by_side(tmp_path: Path) -> None:
    model = Model(helpers.problem(helpers.line()), helpers.line_run().folders)
    summary = compare({"one": model, "other": model}, tmp_path / "models.png")
    (table, *_) = summary["tables"].values()
    assert [row["difference"] for row in table] == [0.0, 0.0] and summary["facts"]["data"] == 9
    assert [row["stacking_weight"] for row in table] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert (tmp_path / "models.png").stat().st_size > 5000


def exact_evidence(free: tuple[str, ...]) -> float:
    """Return the log density of the line's data, the prior of what is free integrated over (linear, Gaussian)."""
    design = {"intercept": np.ones_like(helpers.X), "slope": helpers.X}
    mean, covariance = np.zeros(len(helpers.X)), helpers.SIGMA**2 * np.eye(len(helpers.X))
    for name, column in design.items():
        location, sd = helpers.PRIOR[name] if name in free else (helpers.TRUTH[name], 0.0)
        mean, covariance = mean + location * column, covariance + sd**2 * np.outer(column, column)
    return float(multivariate_normal(mean, covariance).logpdf(helpers.line_data()))


def test_evidence_through_the_chain_is_the_exact_one(tmp_path: Path) -> None:
    drawn = {"infer": {"sampler": "smc", "num_samples": 500}}
    tables = {
        "both": helpers.line(**drawn),
        "slope known": helpers.line(**drawn, parameters={"slope": helpers.TRUTH["slope"]}),
    }
    models = {
        name: Model(
            helpers.problem(table), pipeline.run(table, store=helpers.scratch() / "line", until="infer").folders
        )
        for name, table in tables.items()
    }
    (rows,) = (table for title, table in compare(models, tmp_path / "m.png")["tables"].items() if "evidence" in title)
    exact = {"both": exact_evidence(("intercept", "slope")), "slope known": exact_evidence(("intercept",))}
    for row in rows:
        assert row["log_evidence"] == pytest.approx(exact[row["model"]], abs=max(3.0 * row["standard_error"], 0.05))
        assert row["standard_error"] < 0.1


def test_other_data_are_refused(tmp_path: Path) -> None:
    from simfer.stages.report.models import _hold_same_data

    tree = helpers.line_run().posterior
    other = tree.copy(deep=True)
    other["observed_data"] = other["observed_data"].to_dataset().assign(y=lambda data: data["y"] + (data["y"] > 0))
    with pytest.raises(simfer.SimferError, match=r"y: datum 1 is .* in a and .* in b; models of different data"):
        _hold_same_data({"a": tree, "b": other})


def test_one_config_is_no_comparison(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare-models", str(helpers.SMOKE)])
    assert result.exit_code == 2 and "expected two or more" in result.stderr
    result = CliRunner().invoke(
        app, ["compare-models", str(helpers.SMOKE), str(helpers.SMOKE), "--store", str(tmp_path)]
    )
    assert result.exit_code == 3 and "has no posterior yet; `simfer run" in result.stderr
