"""The best fit is the exact one, also through an emulator that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from simfer import pipeline
from simfer.pipeline.studies import fit as links
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.target import build_target
from simfer.stages.progress import Silent
from simfer.stages.studies.fit import log_prior, run
from tests import helpers


def fitted(result: pipeline.Result, folder: Path, **sections: Any) -> dict[str, Any]:
    """Fit with the emulator of a run."""
    (link,) = links(helpers.problem(helpers.line(**sections)), 0)
    return run(link.config, {"emulator": [result.folders["train"]]}, folder, Silent())  # type: ignore[arg-type, return-value]


def values(summary: dict[str, Any]) -> dict[str, float]:
    return {row["parameter"]: row["best_fit"] for row in summary["tables"]["best fit"]}


def test_the_best_fit_of_a_line_is_exact(tmp_path: Path) -> None:
    summary = fitted(helpers.line_run(), tmp_path)
    mean, covariance = helpers.exact_line()
    found = values(summary)
    np.testing.assert_allclose(
        [found["intercept"], found["slope"]], mean, atol=0.02 * np.sqrt(np.diag(covariance)).min()
    )
    residuals = (helpers.line_data() - found["intercept"] - found["slope"] * helpers.X) / helpers.SIGMA
    assert summary["facts"]["chi_squared"] == pytest.approx((residuals**2).sum(), rel=1e-6)
    assert summary["facts"]["data"] == 9 and summary["facts"]["simulations"] >= 2 and not summary["warnings"]


def test_a_wrong_emulator_is_corrected_by_the_simulator(tmp_path: Path) -> None:
    """After 20 steps it has hardly learned: its own best fit is off, the simulator's is not."""
    poor = helpers.line_run("train.steps=20", "train.finish_steps=0", until="train")
    summary = fitted(poor, tmp_path, fit={"tolerance": 1e-6})
    mean, covariance = helpers.exact_line()
    sd = np.sqrt(np.diag(covariance))
    found = values(summary)
    by_emulator = fitted(poor, tmp_path / "alone", fit={"max_simulations": 1})
    assert (np.abs(np.array([*values(by_emulator).values()]) - mean) / sd).max() > 0.1
    assert (np.abs(np.array([found["intercept"], found["slope"]]) - mean) / sd).max() < 0.05


def test_the_density_is_that_of_the_parameters_in_their_own_units() -> None:
    """Of a log-normal scale the highest density lies below the median, by its variance in the logarithm."""
    table = helpers.line(noise={"y": {"dist": "Normal", "scale": {"dist": "LogNormal", "loc": 0.3, "scale": 0.5}}})
    (link,) = links(helpers.problem(table), 0)
    target = build_target(link.config, load_predictor(link.config, helpers.line_run().folders["train"]))  # type: ignore[arg-type]
    z = np.linspace(-2.0, 2.0, 4001)
    density = [float(log_prior(target, jnp.asarray([0.0, 0.0, each]))) for each in z[::40]]
    assert z[::40][int(np.argmax(density))] == pytest.approx(-0.5, abs=0.05)  # exp(loc - scale^2) is at z = -scale
