"""How many runs a config asks for that says what one costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simfer import pipeline
from simfer.pipeline import config
from simfer.pipeline.chain import ConfigError
from simfer.stages.preflight import mistakes
from simfer.stages.settings import Problem
from tests import helpers
from tests.emulator.test_scatter import ou_table
from tests.infer.test_own_model import own

OPEN: dict[str, Any] = {"check": None}


def problem(cost: Any = None, **simulate: Any) -> Problem:
    table = helpers.line(**OPEN, simulate={"num_simulations": None, "cost": cost, **simulate})
    return config.from_table(table, folder=helpers.scratch())


def runs(found: Problem) -> tuple[int | None, ...]:
    refine = found.refine
    of_rounds = refine.max_rounds, refine.simulations_per_round, refine.keep
    return found.simulate.num_simulations, found.check.num_draws, *of_rounds


def test_dear_runs_are_few_and_fewer_with_derivatives() -> None:
    assert runs(problem("1 h")) == (40, 40, 6, 10, 40)
    assert runs(problem(3600.0, derivatives=True)) == (40, 25, 6, 2, 40)
    many = {"parameters": {f"p{i}": {"dist": "Normal"} for i in range(8)}}
    table = helpers.merged(helpers.line(**OPEN, simulate={"num_simulations": None, "cost": "2 d"}), many)
    found = config.from_table(table, folder=helpers.scratch())
    assert found.simulate.num_simulations == found.refine.keep == 20 * len(found.parameters)


def test_what_a_config_says_is_not_chosen_and_cheap_runs_choose_nothing() -> None:
    assert runs(problem("1 h", num_simulations=500))[0] == 500
    assert runs(problem(0.01, num_simulations=500)) == runs(problem(num_simulations=500))


def test_a_model_of_ones_own_has_no_rows_near_the_data() -> None:
    table = own("line", **OPEN, simulate={"num_simulations": None, "cost": "1 h"})
    assert runs(config.from_table(table, folder=helpers.scratch())) == (40, 40, 6, 10, None)


@pytest.mark.parametrize("wrong", ["1 fortnight", -3.0, "dear"])
def test_a_cost_that_is_no_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"simulate\.cost: .*expected seconds"):
        problem(wrong, num_simulations=500)


def test_a_posterior_from_dear_runs_passes_and_a_cost_is_no_part_of_its_keys(tmp_path: Path) -> None:
    table = helpers.line(
        **OPEN, simulate={"num_simulations": None, "cost": "1 h"}, train={"architecture": "polynomial", "options": None}
    )
    result = pipeline.run(table, store=tmp_path)
    assert result.verdict.passed
    said = helpers.merged(table, {"simulate": {"cost": None, "num_simulations": 40}, "check": {"num_draws": 40}})
    again = pipeline.run(
        helpers.merged(said, {"refine": {"max_rounds": 6, "simulations_per_round": 10, "keep": 40}}), store=tmp_path
    )
    assert again.folders == result.folders


def test_a_random_simulator_does_not_take_few_runs() -> None:
    found = mistakes(helpers.problem(ou_table(simulate={"cost": "1 h"})))
    assert [each.where for each in found] == ["simulate.cost"] and "scatters" in found[0].what
