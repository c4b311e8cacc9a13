"""A further round simulates where the posterior is, and adds to what was there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simfer import pipeline
from simfer.pipeline import chain, config
from simfer.pipeline.chain import Link
from simfer.stages.dataset import stage as dataset
from tests import helpers
from tests.compilations import programs

# No verdict can be good: an emulator without any error is asked for.
ROUNDS = ("train.steps=200", "train.finish_steps=0", "refine.max_rounds=1", "refine.simulations_per_round=50")
CHEAP = ("infer.num_warmup=200", "infer.num_samples=200", "check.max_emulator_error=1e-9", "check.num_draws=30")
FIRST = ("refine.max_rounds=0",)


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[str]]:
    """What XLA is asked to compile, by the step that asks."""
    return {}


@pytest.fixture(scope="module")
def second(compiled: dict[str, list[str]]) -> pipeline.Result:
    run = chain.run

    def noted(link: Link, *given: Any) -> dict[str, Any]:
        with programs() as names:
            summary = run(link, *given)
        compiled[link.name] = names
        return summary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "run", noted)
        helpers.line_run(*ROUNDS, *CHEAP, *FIRST)
        return helpers.line_run(*ROUNDS, *CHEAP)


def test_a_second_round_of_other_sizes_compiles_nothing_that_the_first_had(
    second: pipeline.Result, compiled: dict[str, list[str]]
) -> None:
    steps = {f"{stage}-{number}" for stage in chain.STAGES for number in range(2)}
    assert steps - {"simulate-0", "dataset-0"} <= set(compiled)  # other tests may have made these two
    again = {stage: compiled[f"{stage}-1"] for stage in chain.STAGES}
    assert sum(map(len, again.values())) <= 3, again  # a design from draws; fewer rows of a function side by side
    assert not again["train"] and not again["infer"] and not again["check"], again
    assert sum(map(len, compiled.values())) <= 40, compiled


def test_a_second_round_follows_a_bad_verdict_and_reuses_the_first(second: pipeline.Result) -> None:
    first = helpers.line_run(*ROUNDS, *CHEAP, *FIRST)
    assert {outcome.step.link.round for outcome in second.outcomes.values()} == {1}
    again = pipeline.run(helpers.line(), overrides=[*ROUNDS, *CHEAP], store=helpers.scratch() / "line")
    assert all(outcome.cached for outcome in again.outcomes.values())
    steps = {step.link.name: step.fingerprint for step in _plan([*ROUNDS, *CHEAP])}
    for stage, outcome in first.outcomes.items():
        assert steps[f"{stage}-0"] == outcome.step.fingerprint


def _plan(overrides: list[str]) -> list[object]:
    return helpers.plan(config.from_table(helpers.line(), overrides, folder=helpers.scratch()))  # type: ignore[return-value]


def test_its_design_follows_the_first_rounds_posterior(second: pipeline.Result) -> None:
    draws = helpers.line_run(*ROUNDS, *CHEAP, *FIRST).posterior["unconstrained_posterior"]["z"].values.reshape(-1, 2)
    z = second.simulations["z"].values
    assert z.shape == (50, 2)
    assert np.allclose(np.median(z, axis=0), np.median(draws, axis=0), atol=0.6 * draws.std(axis=0).max())
    assert z.std(axis=0) == pytest.approx(1.5 * draws.std(axis=0), rel=0.35)
    mean, _ = helpers.exact_line()
    assert np.abs(second.simulations["slope"].values.mean() - mean[1]) < 0.4
    assert second.simulations["slope"].values.std() < helpers.PRIOR["slope"][1]  # narrower than the prior


def test_all_rows_so_far_train_those_of_the_check_too(second: pipeline.Result) -> None:
    first = helpers.line_run(*ROUNDS, *CHEAP, *FIRST)
    z = second.dataset["z"].values
    assert len(z) == 200 + 50 + 30
    assert np.array_equal(z[:200], first.simulations["z"].values)
    assert np.array_equal(z[200:250], second.simulations["z"].values)
    drawn = first.posterior["unconstrained_posterior"]["z"].values.reshape(-1, 2)
    assert all((row == drawn).all(axis=1).any() for row in z[250:])
    # The folds of the first round's rows are where they were.
    assert np.array_equal(second.dataset["fold"].values[:200], first.dataset["fold"].values)


@pytest.mark.slow
def test_only_the_rows_closest_to_the_data_are_kept(second: pipeline.Result) -> None:
    kept = helpers.line_run(*ROUNDS, *CHEAP, "refine.keep=200").dataset  # more than the stretched posterior holds
    assert len(kept["z"]) == 200
    whole = second.dataset
    distance = ((whole["y"].values - helpers.line_data()) ** 2).sum(axis=1)
    closest = np.sort(np.argsort(distance, kind="stable")[:200])
    assert np.array_equal(kept["z"].values, whole["z"].values[closest])


def test_no_row_of_a_later_round_is_left_out(second: pipeline.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    def ten_of_the_first(*given: Any) -> np.ndarray:
        return np.arange(280) < 10

    monkeypatch.setattr(dataset, "select_near_data", ten_of_the_first)
    kept = helpers.line_run(*ROUNDS, *CHEAP, "refine.keep=31").dataset
    # Where the posterior was said to be, right or wrong: forgotten, it would be said again.
    assert np.array_equal(kept["z"].values, second.dataset["z"].values[[*range(10), *range(200, 280)]])


def test_a_good_verdict_ends_the_rounds() -> None:
    table = helpers.line(refine={"max_rounds": 2})
    result = pipeline.run(table, store=helpers.scratch() / "line")
    assert {outcome.step.link.round for outcome in result.outcomes.values()} == {0}
    assert result.verdict.passed
