"""Figures are held against the thresholds of a config when they are read, and what fails says what helps."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from simfer.stages import check
from simfer.stages.artifacts import figures
from simfer.stages.artifacts.figures import LONGER, SIMULATIONS, Figure, judge, leans_on_failures, what_helps
from simfer.stages.settings import Check, Problem, ReadLater, Simulate


def made() -> list[tuple[str, str]]:
    """Return the name, up to what is filled in, and the kind of every figure that the check makes."""
    found = []
    for file in sorted(Path(check.__file__).parent.glob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Figure":
                name, kind = call.args[:2]
                text = name.values[0] if isinstance(name, ast.JoinedStr) else name
                if isinstance(text, ast.Constant) and isinstance(kind, ast.Constant):
                    found.append((str(text.value), str(kind.value)))
    return found


@pytest.mark.parametrize(("name", "kind"), made())
def test_every_figure_is_known_with_its_threshold_and_advice(name: str, kind: str) -> None:
    figure, known = Figure(name, kind, 0.0, 1.0), figures._kind(name)
    assert known is not None
    if known.setting:  # some are what nobody could want otherwise
        section, _, key = figure.setting.partition(".")
        model: Any = {"check": Check, "simulate": Simulate}[section]
        assert any(isinstance(marker, ReadLater) for marker in model.model_fields[key].metadata)
    assert Figure.from_row(figure.line()).kind == kind and kind in figures._ADVICE


def test_every_threshold_is_that_of_a_figure() -> None:
    """Otherwise it would be in no key, and held against nothing."""
    later = {f"check.{name}" for name, field in Check.model_fields.items() if ReadLater in map(type, field.metadata)}
    assert later == {kind.setting for kind in figures._FIGURES.values()} - {"simulate.max_failed", ""}


@pytest.mark.parametrize("kind", figures._ADVICE)
def test_advice_names_keys_that_a_config_has(kind: str) -> None:
    for section, key in re.findall(r"\b(infer|train|refine|simulate|check)\.(?:solver\.)?(\w+)", figures._ADVICE[kind]):
        model: Any = Problem.model_fields[section].annotation
        solver = Simulate.model_fields["solver"].annotation
        assert key in model.model_fields or key in solver.model_fields, f"{section}.{key}"  # type: ignore[union-attr]


def summary(*rows: tuple[str, float | None, str, bool]) -> dict[str, Any]:
    table = [dict(zip(("figure", "value", "limit", "passed"), row, strict=True)) for row in rows]
    passed = all(row["passed"] for row in table)
    return {"facts": {"passed": passed, "verdict": "as it was"}, "tables": {"verdict": table}}


K_HAT = ("Pareto k-hat", 0.3, "≤ 0.7", True)
BAD_K_HAT = ("Pareto k-hat", 0.9, "≤ 0.7", False)
R_HAT = ("largest R-hat", 1.2, "≤ 1.01", False)
ESS = ("smallest ESS, bulk or tail", 345.0, "≥ 400", False)
EDGE = ("posterior mass at a prior's edge", 0.2, "≤ 0.05", False)
SOLVER = ("numerical error of the simulator (data sigma)", 3.0, "≤ 0.1", False)
OWN_DRAW = ("data simulated at the posterior, p of finding their own draw", 0.0, "≥ 0.005", False)
SHAPE = ("whitened residuals, p of being normal", 0.0, "≥ 0.005", False)
UNSOLVED = ("draws that the simulator cannot solve", 0.4, "≤ 0.05", False)


@pytest.mark.parametrize(
    ("rows", "helps"),
    [
        ((K_HAT,), ""),
        ((BAD_K_HAT,), SIMULATIONS),
        ((BAD_K_HAT, ESS, EDGE), SIMULATIONS),
        ((K_HAT, ESS), LONGER),
        ((K_HAT, R_HAT, ESS), LONGER),
        ((K_HAT, EDGE), ""),
        ((K_HAT, ESS, EDGE), ""),  # the prior has to be another, and chains with it
        ((BAD_K_HAT, SOLVER), ""),  # more rows of a solver that errs are as wrong as these
        ((OWN_DRAW,), SIMULATIONS),
        ((OWN_DRAW, SHAPE), ""),  # no Gaussian is the density, of however many rows it is learned
        ((UNSOLVED,), SIMULATIONS),
        ((("Pareto k-hat", None, "≤ 0.7", False),), SIMULATIONS),  # what cannot be computed has failed
    ],
)
def test_what_is_bought_is_what_can_help(rows: Any, helps: str) -> None:
    assert what_helps(summary(*rows)) == helps


def test_a_design_that_kept_away_from_failures_is_tried_once() -> None:
    assert what_helps(summary(UNSOLVED), steered=True) == ""
    assert what_helps(summary(UNSOLVED, BAD_K_HAT), steered=True) == SIMULATIONS


def test_a_laxer_threshold_passes_and_a_stricter_one_fails() -> None:
    failed = summary(K_HAT, ESS)
    assert judge(failed, {"check.min_ess": 400.0}) == failed
    passed = judge(failed, {"check.min_ess": 300.0})
    assert passed["facts"] == {"passed": True, "verdict": "passed: the true simulator agrees"}
    assert passed["tables"]["verdict"][1] == failed["tables"]["verdict"][1] | {"limit": "≥ 300", "passed": True}
    again = judge(passed, {"check.min_ess": 400.0, "check.max_k_hat": 0.2})
    assert again["facts"]["verdict"].startswith("failed: the sampler has not converged")
    assert "the emulator differs" in again["facts"]["verdict"]


def test_what_the_check_saw_is_in_the_words_of_another_threshold_too() -> None:
    strict = summary(("draws that the simulator cannot solve", 0.04, "≤ 0.05", True))
    seen = strict | {"said": {"where": "a > 1.", "cure": "more steps"}}
    assert judge(seen, {"check.max_outside": 0.01})["facts"]["verdict"].endswith("draws (a > 1): more steps")


def test_a_posterior_that_leans_on_failures_steers_the_next_design() -> None:
    assert leans_on_failures(summary(UNSOLVED)) and not leans_on_failures(summary(BAD_K_HAT))
    assert not leans_on_failures(summary(("draws that the simulator cannot solve", 0.01, "≤ 0.001", False)))
