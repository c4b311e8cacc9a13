"""Runs from the prior over the data: what is said where none comes near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.pipeline import config
from simfer.stages.report.prior_predictive import PriorPredictive, run
from tests import helpers


@pytest.fixture(scope="module")
def simulations() -> Path:
    return helpers.line_run(until="simulate").folders["simulate"]


def prior(simulations: Path, folder: Path, y: np.ndarray) -> PriorPredictive:
    data = helpers.write_line(folder / "data.csv", y)
    return PriorPredictive(helpers.problem(helpers.line(observation={"file": str(data)})), simulations)


def test_data_among_the_runs_need_no_words(simulations: Path, tmp_path: Path) -> None:
    assert prior(simulations, tmp_path, helpers.line_data()).words() == []


def test_a_datum_beyond_all_runs_is_named(simulations: Path, tmp_path: Path) -> None:
    y = helpers.line_data()
    y[3] = 99.0
    (words,) = prior(simulations, tmp_path, y).words()
    assert words.startswith("y: 1 of 9 data lie beyond all of 200 runs from the prior (x = 1.5: 99, runs ")


def test_runs_of_a_table_are_not_said_to_be_from_the_prior(simulations: Path, tmp_path: Path) -> None:
    y = helpers.line_data()
    y[3] = 99.0
    observation = {"file": str(helpers.write_line(tmp_path / "data.csv", y))}
    table = helpers.merged(helpers.line(observation=observation), {"simulate": None})
    table["simulate"] = {"table": "runs.csv"}
    (tmp_path / "runs.csv").write_text("slope,intercept,y[x=0]\n0,0,0\n")
    (words,) = PriorPredictive(config.from_table(table, (), folder=tmp_path), simulations).words()
    assert words.startswith("y: 1 of 9 data lie beyond all of 200 runs of the table (x = 1.5: 99, runs ")


@pytest.mark.parametrize("trials", [400, "tested", {"column": "tested"}])
def test_counts_are_held_against_runs_as_the_share_that_they_are(
    simulations: Path, tmp_path: Path, trials: Any
) -> None:
    share = np.clip(helpers.line_data(), 0.0, None) / 50.0
    rows = np.column_stack([helpers.X, np.round(400 * share), np.full(len(share), 400)])
    data = tmp_path / "data.csv"
    np.savetxt(data, rows, delimiter=",", header="x,y,tested", comments="", fmt="%g")
    noise = {"y": {"dist": "Binomial", "population": 50.0, "total_count": trials}}
    observation = {"file": str(data), "ignore": ["tested"] if trials == 400 else []}
    problem = helpers.problem(helpers.line(observation=observation, noise=noise))
    counted = PriorPredictive(problem, simulations)
    assert counted.words() == []
    assert np.allclose(counted.data.series["y"].values, 50.0 * share, atol=0.5 * 50.0 / 400)


def test_a_factor_is_taken_for_a_unit() -> None:
    runs = np.random.default_rng(0).uniform(1.0, 3.0, (100, 5))
    assert "about 1,000 times the runs: are both in the same unit?" in PriorPredictive._cause(
        np.full(5, 2.1e3), runs, 1.0
    )
    assert "are both in the same unit" not in PriorPredictive._cause(np.full(5, 4.0), runs, 1.0)


def test_the_picture_is_drawn(simulations: Path, tmp_path: Path) -> None:
    summary = run(helpers.problem(helpers.line()), simulations, tmp_path / "prior.png")
    assert summary["pictures"] == ["prior.png"] and (tmp_path / "prior.png").stat().st_size > 5000
