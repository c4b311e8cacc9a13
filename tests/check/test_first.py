"""Whether the first round's emulator knew the prior: of one that did not, later rounds are no better."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simfer.pipeline import chain
from simfer.stages.artifacts.figures import Figure, advice, what_helps
from simfer.stages.check.first import first_figures
from simfer.stages.settings import Check
from tests import helpers

INDEX = np.array([0, 1, 1, 2])  # an output with two data, and one without


def emulator(error: float, **more: Any) -> Any:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 4)) * [1.0, 1e-6, 1e6, 1.0] + [0.0, 5.0, 0.0, 0.0]
    residuals = error * (y - np.median(y, axis=0))[rng.permutation(60)]  # as of a permuted design
    known = SimpleNamespace(y=y, residuals=residuals)
    return SimpleNamespace(**{"cross_validation": known, "random": None, "flow": None} | more)


@pytest.mark.parametrize("error", [0.01, 0.5, 1.5])
def test_the_figure_is_the_error_in_the_outputs_own_spread(error: float) -> None:
    (figure,) = first_figures(Check(), emulator(error), INDEX)
    assert figure.value == pytest.approx(error, rel=1e-6)
    assert figure.passed == (error < 1.0) and figure.kind == "first"


def test_a_few_wild_rows_are_nothing() -> None:
    wild = emulator(0.1)
    wild.cross_validation.residuals[:10] *= 1e6
    (figure,) = first_figures(Check(), wild, INDEX)
    assert figure.value < 0.2


def test_outputs_that_are_next_to_nothing_at_most_rows_are_seen_by_their_squares() -> None:
    spiked = emulator(0.1)
    y, residuals = vars(spiked.cross_validation).values()
    y[:] = 1e-3 * y + np.where(np.arange(60) % 4 == 0, 1.0, 0.0)[:, None]
    residuals[:] = 0.2 * np.resize([1.0, -1.0], 60)[:, None]
    (figure,) = first_figures(Check(), spiked, INDEX[:1])
    assert figure.value == pytest.approx(0.2 / y[:, 0].std())


def test_outputs_that_do_not_vary_have_no_say() -> None:
    still = emulator(0.1)
    y, residuals = vars(still.cross_validation).values()
    y[:, :2], residuals[:, :2] = 3.0, 1e-12
    (figure,) = first_figures(Check(), still, INDEX)
    assert figure.value == pytest.approx(0.1)
    y[:] = 3.0
    assert first_figures(Check(), still, INDEX) == []


@pytest.mark.parametrize("what", ["random", "flow"])
def test_of_a_random_simulator_nothing_is_said(what: str) -> None:
    assert first_figures(Check(), emulator(1.5, **{what: object()}), INDEX) == []


def test_where_the_simulator_is_the_likelihood_nothing_is_said() -> None:
    assert first_figures(Check(), emulator(1.5, cross_validation=None), INDEX) == []


def test_no_round_is_bought_and_the_advice_names_the_first() -> None:
    figures = [
        Figure("emulator error, y (99th percentile, data sigma)", "emulator", 4.0, 0.5),
        *first_figures(Check(), emulator(1.5), INDEX),
    ]
    summary = {"facts": {"passed": False}, "tables": {"verdict": [figure.line() for figure in figures]}}
    assert what_helps(summary) == ""
    assert advice(figures).startswith("the first round's emulator") and "simulate.num_simulations" in advice(figures)
    assert "refine.max_rounds" not in advice(figures)


def test_a_later_check_asks_the_first_emulator() -> None:
    problem = helpers.problem(helpers.line(refine={"max_rounds": 1}))
    first, later = (chain.links(problem, chain.Turn(number, 100))[-1] for number in (0, 1))
    assert "first" not in first.inputs and later.inputs["first"] == ("train-0",)
    by_simulator = helpers.problem(helpers.line(refine={"max_rounds": 1}, infer={"likelihood": "simulator"}))
    assert "first" not in chain.links(by_simulator, chain.Turn(1, 100))[-1].inputs
