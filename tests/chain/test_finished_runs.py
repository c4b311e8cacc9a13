"""Finished runs from end to end: no simulator, no verdict, and the right posterior all the same."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simfer import pipeline
from simfer.pipeline.cli import app
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.errors import ConfigError
from simfer.stages.model.outputs import Layout, Output, Status
from simfer.stages.preflight import foreign
from simfer.stages.progress import Silent
from tests import helpers

GRID = np.random.default_rng(7).normal(size=(240, 2)) * 1.2  # somebody's own design: no Sobol sequence of the prior
BROKEN = 5  # the run that failed


@cache
def table() -> Path:
    """Write finished runs of the line, sorted as people sort them, the first two of equal parameters."""
    theta = np.array([helpers.PRIOR[name] for name in helpers.PRIOR])
    runs = theta[:, 0] + theta[:, 1] * GRID
    runs = runs[np.argsort(runs[:, 0])]
    runs[1] = runs[0]
    rows = [",".join(map(repr, [*row.tolist(), *(row[0] + row[1] * helpers.X).tolist()])) for row in runs]
    cells = rows[BROKEN].split(",")
    rows[BROKEN] = ",".join([*cells[:2], "", *cells[3:]])
    file = helpers.scratch() / "line_runs.csv"
    names = ["a", "slope", *(f"y[x={x:g}]" for x in helpers.X)]
    file.write_text("\n".join([",".join(names), *rows]))
    return file


def problem(**sections: Any) -> dict[str, Any]:
    columns = {"files": str(table()), "columns": {"intercept": "a"}}
    alone = {"simulate": {"simulator": None, "options": None, "num_simulations": None, "table": columns}}
    return helpers.merged(helpers.line(**alone), sections)


@cache
def result() -> pipeline.Result:
    return pipeline.run(problem(), store=helpers.scratch() / "finished")


def test_the_posterior_is_right_and_not_checked() -> None:
    mean, covariance = helpers.exact_line()
    rows = {row["parameter"]: row for row in result().summaries["infer"]["tables"]["posterior"]}
    for i, name in enumerate(helpers.PRIOR):
        sd = covariance[i, i] ** 0.5
        assert rows[name]["mean"] == pytest.approx(mean[i], abs=0.1 * sd)
        assert rows[name]["sd"] == pytest.approx(sd, rel=0.1)
    facts = result().summaries["check"]["facts"]
    assert facts["passed"] is None and facts["simulations"] == 0 and facts["verdict"].startswith("not checked")
    assert not result().verdict.passed and not result().verdict.checked
    assert repr(result()).startswith("Result: NOT CHECKED")
    figures = {row["figure"]: row for row in result().summaries["check"]["tables"]["verdict"]}
    assert all(row["passed"] for row in figures.values()), figures
    assert 0.02 < figures["posterior predictive p, by the emulator"]["value"] < 0.98


def test_rows_are_those_of_the_table_and_twins_share_a_fold() -> None:
    simulations = result().simulations
    assert simulations.sizes["simulation"] == 240
    status = simulations["status"].values
    assert status[BROKEN] == Status.NOT_FINITE and (np.delete(status, BROKEN) == Status.OK).all()
    facts = result().summaries["simulate"]["facts"]
    assert facts["finished_runs"] == 240 and facts["repeated_parameters"] == 1 and facts["outside_the_priors"] == 0
    dataset = TrainingSet.load(result().folders["dataset"])
    z, fold = dataset.points()
    assert (z[0] == z[1]).all() and fold[0] == fold[1]
    # Parts of a sorted table are no corner of it.
    _, half = TrainingSet.load(result().folders["dataset"], 0.5).points()
    assert abs(np.median(z[half != TEST, 0])) < 0.3 and (half != TEST).sum() < 0.6 * len(z)


def test_the_command_says_so_with_a_code_of_its_own(tmp_path: Path) -> None:
    result()
    config = tmp_path / "line.toml"
    config.write_text(_toml(problem()))
    answer = CliRunner().invoke(app, ["run", str(config), "--store", str(helpers.scratch() / "finished"), "--json"])
    assert answer.exit_code == 5, answer.output
    told = json.loads(answer.stdout)
    assert told["passed"] is None and told["exit_code"] == 5
    shown = CliRunner().invoke(app, ["show", str(config), "--store", str(helpers.scratch() / "finished")])
    assert shown.exit_code == 0 and shown.output.startswith("NOT CHECKED: there is no simulator")


def test_coverage_is_tested_on_held_out_runs() -> None:
    from simfer.pipeline.config import from_table
    from simfer.pipeline.runner import execute_study
    from simfer.pipeline.store import Store

    few = {"replicates": 20, "num_warmup": 100, "num_samples": 100}
    checked = from_table(problem(calibrate=few), folder=Path.cwd())
    outcome = execute_study(checked, Store(helpers.scratch() / "finished"), "calibrate")
    assert outcome.summary["facts"]["over"] == "held-out runs" and outcome.summary["facts"]["passed"]
    assert outcome.summary["facts"]["data_sets"] >= 19


@pytest.mark.slow  # each compiles networks' errors of its own
@pytest.mark.parametrize("study", ["compare", "curve"])
def test_studies_of_the_training_take_a_table_as_any_ensemble(study: str) -> None:
    from simfer.pipeline.config import from_table
    from simfer.pipeline.runner import execute_study
    from simfer.pipeline.store import Store

    quick = {
        "train": {"architecture": "polynomial", "options": None},
        "compare": {"architectures": ["polynomial"], "seeds": 1},
    }
    checked = from_table(problem(**quick), folder=Path.cwd())
    outcome = execute_study(checked, Store(helpers.scratch() / "finished"), study)
    table = next(iter(outcome.summary["tables"].values()))
    errors = [row["percentile_99"] for row in table]
    assert len(errors) == (1 if study == "compare" else 4) and max(errors) < 1e-3  # a line is a polynomial


def test_the_emulator_of_a_table_predicts_and_is_handed_on(tmp_path: Path) -> None:
    result()
    (tmp_path / "line.toml").write_text(_toml(problem()))
    (tmp_path / "points.csv").write_text("intercept,slope\n0.5,-1.0\n")
    where = [str(tmp_path / "line.toml"), "--store", str(helpers.scratch() / "finished")]
    done = CliRunner().invoke(app, ["predict", *where, "--parameters", str(tmp_path / "points.csv")])
    assert done.exit_code == 0, done.output
    (row,) = csv.DictReader((tmp_path / "points_predicted.csv").read_text().splitlines())
    found = [float(row[f"y[x={x:g}]"]) for x in helpers.X]
    assert np.allclose(found, 0.5 - helpers.X, atol=0.05)
    more = ["--format", "stablehlo", "--output", str(tmp_path / "export")]
    done = CliRunner().invoke(app, ["export", *where, *more])
    assert done.exit_code == 0 and list((tmp_path / "export").iterdir()), done.output


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ({"refine": {"max_rounds": 1}}, "refine.max_rounds"),
        ({"infer": {"likelihood": "simulator"}}, "infer.likelihood"),
        ({"check": {"reweight": True}}, "check.reweight"),
        ({"simulate": {"num_simulations": 10}}, "simulate.num_simulations"),
    ],
)
def test_what_takes_a_simulator_is_refused(sections: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as raised:
        pipeline.run(problem(**sections), store=helpers.scratch() / "refused", until="simulate")
    assert [each.where for each in raised.value.mistakes] == [place]


def test_a_simulator_goes_on_with_a_table() -> None:
    both = {"simulator": "linear", "options": {"x": helpers.X.tolist()}, "num_simulations": 30}
    store = helpers.scratch() / "finished"
    rows = pipeline.run(problem(simulate=both), store=store, until="simulate").simulations
    alone = pipeline.run(helpers.line(simulate={"num_simulations": 30}), store=store, until="simulate").simulations
    assert rows.sizes["simulation"] == 270
    for name in ("intercept", "slope", "y", "z"):
        np.testing.assert_array_equal(rows[name][:240], result().simulations[name])
        np.testing.assert_array_equal(rows[name][240:], alone[name])
    other = both | {"options": {"x": (helpers.X + 1.0).tolist()}}
    with pytest.raises(ConfigError, match=r"y is there along x = 0, 0.5, 1, 1.5"):
        pipeline.run(problem(simulate=other, observation={"file": str(_moved())}), store=store, until="simulate")


@pytest.mark.parametrize(("simulator", "places"), [("linear", []), ("mine.py:Line", ["simulate.table"] * 2)])
def test_simulators_of_simfers_own_go_on_with_a_table_in_any_units(
    simulator: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout({"y": Output(("x",), {"x": helpers.X}, "cells")})
    runs: Any = SimpleNamespace(outputs=layout.outputs, units={"y": "mg", "x": "h"}, words=lambda: "")
    monkeypatch.setattr(foreign, "open_runs", lambda *_: runs)
    monkeypatch.setattr(foreign, "Space", lambda *_: None)
    settings = SimpleNamespace(table=1, derivatives=False, simulator=simulator)
    config: Any = SimpleNamespace(simulate=settings, parameters={})
    own: Any = SimpleNamespace(parameters={}, units={"x": "day"})
    assert [each.where for each in foreign.beside_table(config, own, layout, Silent())] == places


def _moved() -> Path:
    file = helpers.scratch() / "moved.csv"
    rows = zip(helpers.X + 1.0, helpers.line_data(), strict=True)
    file.write_text("x,y\n" + "".join(f"{float(x)!r},{float(y)!r}\n" for x, y in rows))
    return file


def _toml(table: dict[str, Any]) -> str:
    """Write a config's table as TOML, each section in a line."""
    return "\n".join(f"{name} = {_value(value)}" for name, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_value(inner)}' for key, inner in value.items()) + " }"
    return json.dumps(value)
