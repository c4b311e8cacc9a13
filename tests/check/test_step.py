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
    return find_step(z, z, np.stack([y, 0.5 * y], axis=1))


@pytest.mark.parametrize(("outputs", "at"), [("step", 0.3), ("step in curved outputs", -0.8)])
def test_a_step_is_found_with_its_place(outputs: str, at: float) -> None:
    step = look(outputs)
    assert step.column == 1 and step.share > 0.9
    b = np.random.default_rng(0).normal(size=(256, 3))[:, 1]
    assert b[step.below] <= at <= b[step.above] and b[step.above] - b[step.below] < 0.1


def test_two_heaps_of_draws_are_no_step() -> None:
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(size=(200, 2)), [0.0, 9.0] + rng.normal(size=(56, 2))])
    assert find_step(z, z, np.exp(z[:, 1:])).share < 0.9  # steep where there is nobody


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
