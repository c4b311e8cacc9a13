"""A step of the outputs in a parameter is found where there is one, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.stages.artifacts.figures import Figure, advice, what_helps
from simfer.stages.check.step import Step, find_step


def look(outputs: str, num: int = 256) -> Step:
    z = np.random.default_rng(0).normal(size=(num, 3))
    a, b, c = z.T
    y = {
        "step": a * b + c + 2.0 * (b > 0.3),
        "step in curved outputs": np.exp(0.3 * a) + c**2 - 1.5 * (b > -0.8),
        "cubic": b**3 + a,
        "wave": np.sin(2.0 * b) + a * c,
        "slope": np.tanh(4.0 * b),
        "rounding": a + b * c + 1e-12 * np.random.default_rng(1).normal(size=num),
    }[outputs]
    return find_step(2.0 + 0.1 * z, z, np.stack([y, 0.5 * y], axis=1))


@pytest.mark.parametrize(("outputs", "at"), [("step", 2.03), ("step in curved outputs", 1.92)])
def test_a_step_is_found_with_its_place(outputs: str, at: float) -> None:
    step = look(outputs)
    assert step.column == 1 and step.share > 0.9
    assert step.low <= at <= step.high and step.high - step.low < 0.01


@pytest.mark.parametrize("outputs", ["cubic", "wave", "slope", "rounding"])
def test_what_is_smooth_has_none(outputs: str) -> None:
    assert look(outputs).share < 0.9


def test_many_parameters_are_taken_with_fewer_terms() -> None:
    z = np.random.default_rng(2).normal(size=(60, 20))
    step = find_step(z, z, (z[:, :1] + (z[:, 7:8] > 0.0)))
    assert step.column == 7 and step.share > 0.9


def test_where_outputs_jump_no_simulations_are_bought() -> None:
    figures = [
        Figure("log likelihood, simulator - emulator (sd)", "emulator", 4.0, 0.5),
        Figure("step of the outputs where a passes 0.29 to 0.31 (share of what is not smooth)", "step", 0.99, 0.9),
    ]
    summary = {"facts": {"passed": False}, "tables": {"verdict": [figure.line() for figure in figures]}}
    assert what_helps(summary) == ""
    assert "outputs jump" in advice(figures) and "more rounds" not in advice(figures)
