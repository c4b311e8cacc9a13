"""The simulator as the likelihood, and the two posteriors side by side."""

from __future__ import annotations

import numpy as np

from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store
from tests import helpers


def test_the_simulator_as_the_likelihood_gives_the_exact_posterior() -> None:
    result = helpers.line_run("infer.likelihood=simulator", until="infer")
    mean, covariance = helpers.exact_line()
    posterior = result.posterior["posterior"]
    for i, name in enumerate(("intercept", "slope")):
        draws, sd = posterior[name].values.ravel(), np.sqrt(covariance[i, i])
        assert abs(draws.mean() - mean[i]) < 0.12 * sd
        assert 0.9 < draws.std() / sd < 1.1
    assert result.summaries["infer"]["facts"]["emulator_error"] == "none"


def test_comparison_shows_both_posteriors_and_what_they_cost() -> None:
    problem = helpers.problem(helpers.line())
    outcome = execute_study(problem, Store(helpers.scratch() / "line"), "compare-posteriors")
    differences = {row["parameter"]: row for row in outcome.summary["tables"]["emulator - simulator"]}
    for row in differences.values():
        assert abs(row["mean_shift_sd"]) < 0.15
        assert 0.88 < row["sd_ratio"] < 1.12
    emulator, simulator = outcome.summary["tables"]["cost"]
    assert emulator["simulator_runs"] == 200 + 64
    assert simulator["simulator_runs"] == 3 * simulator["gradients"]  # two parameters: a solve and two derivatives
    assert (outcome.folder / "posteriors.png").is_file()
