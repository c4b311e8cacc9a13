"""Learning curves: nested rows, a slope that is known, and an answer that says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.pipeline import chain
from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.studies.curve import _answer
from simfer.stages.studies.power_law import PowerLaw
from tests import helpers
from tests.helpers import NEAREST

N = np.array([64.0, 128.0, 256.0, 512.0])


def test_a_power_law_without_scatter_is_found_exactly() -> None:
    law = PowerLaw.fit(N, 7.0 * N**-0.75)
    assert law.slope == pytest.approx(-0.75) and law.slope_error == pytest.approx(0.0, abs=1e-12)
    assert law.at(np.array([1000.0]))[0] == pytest.approx(7.0 * 1000.0**-0.75)
    assert law.needed(7.0 * 5000.0**-0.75, 0.68) == pytest.approx((5000.0, 5000.0, 5000.0))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    target, held_slope, held_number = 7.0 * 4000.0**-0.75, [], []
    for _ in range(400):
        law = PowerLaw.fit(N, 7.0 * N**-0.75 * np.exp(0.1 * rng.normal(size=4)))
        held_slope.append(abs(law.slope + 0.75) < law.reach(0.68) * law.slope_error)
        _, low, high = law.needed(target, 0.68)
        held_number.append(low < 4000.0 < high)
    assert np.mean(held_slope) == pytest.approx(0.68, abs=0.06)
    assert np.mean(held_number) == pytest.approx(0.68, abs=0.06)


def test_an_error_that_does_not_fall_promises_nothing() -> None:
    law = PowerLaw.fit(N, np.array([0.5, 0.6, 0.4, 0.55]))
    assert not law.falls(0.68)
    assert law.needed(0.01, 0.68)[2] == np.inf


def test_a_line_that_is_below_the_last_emulator_promises_no_negative_number() -> None:
    n, error = np.array([100.0, 200.0, 400.0, 800.0]), np.array([0.8, 0.42, 0.14, 0.11])
    said = _answer(PowerLaw.fit(n, error), n, error, 0.1)
    assert said.startswith("by the line ") and "-" not in said and "the target is 0.1; it may take up to" in said
    assert "about" in _answer(PowerLaw.fit(n, error), n, error, 0.01)


def folds(num_simulations: int, fraction: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    result = helpers.line_run(f"simulate.num_simulations={num_simulations}", until="dataset")
    return TrainingSet.load(result.folders["dataset"], fraction).points()


def test_parts_are_nested_and_are_what_fewer_simulations_would_have_given() -> None:
    z, whole = folds(200)
    half, quarter = folds(200, 0.5)[1], folds(200, 0.25)[1]
    assert np.array_equal(half[:100], whole[:100]) and (half[100:] == TEST).all()
    assert set(np.flatnonzero(quarter != TEST)) < set(np.flatnonzero(half != TEST)) < set(np.flatnonzero(whole != TEST))
    fewer_z, fewer = folds(100)
    assert np.array_equal(fewer_z, z[:100]) and np.array_equal(fewer, half[:100])


@pytest.mark.slow
def test_the_error_of_the_nearest_row_falls_as_the_root_of_their_number() -> None:
    even = {name: {"dist": "Uniform", "low": -1.0, "high": 1.0} for name in helpers.PRIOR}  # no tail to be alone in
    changes = {"architecture": NEAREST, "options": None}
    table = helpers.line(parameters=even, simulate={"num_simulations": 1024}, train=changes, curve={"target": 0.02})
    outcome = execute_study(helpers.problem(table), Store(helpers.scratch() / "line"), "curve")
    (points,) = outcome.summary["tables"].values()
    assert [point["simulations"] for point in points] == [128, 256, 512, 1024]
    assert np.all(np.diff([point["median"] for point in points]) < 0)
    slope = float(outcome.summary["facts"]["slope"].split()[0])
    assert slope == pytest.approx(-0.5, abs=0.1)  # of two parameters
    assert outcome.summary["facts"]["answer"].startswith("about ")
    assert (outcome.folder / "curve.png").stat().st_size > 5000


def test_the_whole_is_the_artifact_of_a_run_and_a_part_is_another() -> None:
    problem = helpers.problem(helpers.line())
    steps = {step.link.name: step.fingerprint for step in helpers.plan(problem, STUDIES["curve"].added(problem, 0))}
    plain = {step.link.name: step.fingerprint for step in helpers.plan(problem)}
    assert steps["train-0"] == plain["train-0"]
    assert len({steps[f"train-of-{share}-0"] for share in ("0.125", "0.25", "0.5")} | {steps["train-0"]}) == 4


def test_an_architecture_that_is_chosen_is_chosen_for_every_part() -> None:
    table = helpers.line(train={"architecture": "auto", "options": None, "candidates": ["mlp", NEAREST]})
    links = {link.name: link for link in STUDIES["curve"].added(helpers.problem(table), 0)}
    assert links["train-of-0.5-0"].inputs["mlp"] == ("train-mlp-of-0.5-0",)
    assert links["curve-0"].inputs["0.5"] == ("train-of-0.5-0",) and links["curve-0"].inputs["1"] == ("train-0",)


def test_too_few_simulations_are_refused() -> None:
    few = helpers.problem(helpers.line(simulate={"num_simulations": 50}))
    with pytest.raises(chain.ConfigError, match=r"curve.shares: got 50 simulations, shares of \[0.5, 1.0\]"):
        STUDIES["curve"].added(few, 0)


@pytest.mark.parametrize(("architecture", "fits"), [("polynomial", 1), ("mlp", 3)])
def test_what_draws_nothing_is_fitted_once(architecture: str, fits: int) -> None:
    # The same number three times over would count as three, and the line through them as surer than it is.
    problem = helpers.problem(helpers.line(train={"architecture": architecture, "options": None}, curve={"seeds": 3}))
    parts = STUDIES["curve"].added(problem, 0)[-1].inputs
    assert {len(links) for name, links in parts.items() if name != "dataset"} == {fits}


def test_of_candidates_those_that_draw_nothing_are_fitted_once() -> None:
    auto = {"architecture": "auto", "candidates": ["mlp", "polynomial"], "options": None}
    problem = helpers.problem(helpers.line(train=auto, curve={"seeds": 2}))
    steps = {step.link.name: step.fingerprint for step in helpers.plan(problem, STUDIES["curve"].added(problem, 0))}
    assert steps["train-polynomial-0"] == steps["train-polynomial-seed1-0"]
    assert steps["train-mlp-0"] != steps["train-mlp-seed1-0"]
