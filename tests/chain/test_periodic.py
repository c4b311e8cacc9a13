"""A phase whose posterior lies across the seam is one mode, as on a grid; a bound that is meant ends a posterior."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from simfer import Result, run
from tests import helpers

CODE = """
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from simfer import FunctionSimulator, Output


class Wave(FunctionSimulator):
    parameters = {"phase": "rad"}

    def outputs(self):
        return {"y": Output(("x",), {"x": np.arange(6.0)})}

    def __call__(self, p):
        return {"y": jnp.sin(jnp.arange(6.0) + p["phase"])}
"""
TURN, SIGMA = 2.0 * np.pi, 0.4
DATA = np.sin(np.arange(6.0) + 0.05) + np.array([0.3, -0.2, 0.1, -0.1, 0.2, -0.3])


@cache
def wave(periodic: bool) -> Result:
    file, data = helpers.scratch() / "wave.py", helpers.scratch() / "wave.csv"
    file.write_text(CODE)
    data.write_text("x,y\n" + "".join(f"{x},{float(y)!r}\n" for x, y in enumerate(DATA)))
    phase = {"dist": "Uniform", "low": 0.0, "high": TURN} | ({"periodic": True} if periodic else {})
    return run(
        helpers.line(simulate={"simulator": f"{file}:Wave", "options": None}, observation={"file": str(data)})
        # The sine of a sum is linear in cosine and sine.
        | {"parameters": {"phase": phase}, "noise": {"y": {"dist": "Normal", "scale": SIGMA}}}
        | {"train": {"architecture": helpers.STRAIGHT}},
        store=helpers.scratch() / "wave",
    )


def exact(values: np.ndarray) -> np.ndarray:
    """Return weights of phases by the exact posterior."""
    residual = (DATA - np.sin(np.arange(6.0) + values[:, None])) / SIGMA
    weights = np.exp(-0.5 * (residual**2).sum(axis=1))
    return np.asarray(weights / weights.sum())


def test_a_posterior_across_the_seam_is_one_mode_and_exact() -> None:
    result = wave(True)
    grid = np.linspace(-np.pi, np.pi, 4001)
    weights = exact(grid)
    mean = weights @ grid
    sd = np.sqrt(weights @ (grid - mean) ** 2)
    row = result.summaries["infer"]["tables"]["posterior"][0]
    assert abs((row["mean"] - mean + np.pi) % TURN - np.pi) < 0.1 * sd and row["sd"] == pytest.approx(sd, rel=0.1)
    drawn = result.posterior["posterior"]["phase"].values
    assert drawn.min() >= 0.0 and drawn.max() < TURN
    assert 0.1 < (drawn > np.pi).mean() < 0.9  # on both sides of it
    assert result.verdict.passed


def test_its_emulator_goes_round() -> None:
    emulator = wave(True).emulator
    at = [np.asarray(emulator({"phase": phase})["y"]) for phase in (1.0, 1.0 + TURN, TURN - 1e-7, 1e-7)]
    assert np.allclose(at[0], at[1], atol=1e-12) and np.allclose(at[2], at[3], atol=1e-6)
    assert np.allclose(at[0], np.sin(np.arange(6.0) + 1.0), atol=1e-4)


def test_what_knows_no_circle_says_so() -> None:
    result = wave(True)
    assert "phase_cos" in str(result.dataset["z"].attrs)
    with pytest.raises(Exception, match="periodic phase"):
        run(
            helpers.line(simulate={"simulator": f"{helpers.scratch() / 'wave.py'}:Wave", "options": None})
            | {"parameters": {"phase": {"dist": "Uniform", "low": 0.0, "high": TURN, "periodic": True}}},
            overrides=["simulate.derivatives=true", f"observation.file={helpers.scratch() / 'wave.csv'}"],
            store=helpers.scratch() / "wave",
        )


@cache
def at_the_edge(edge: str) -> dict[str, Any]:
    """Run the line with a slope that can only be above -0.6, where the data would have it at -0.7."""
    slope = {"dist": "Uniform", "low": -0.6, "high": 2.0, "edge": edge}
    parameters = {"intercept": {"dist": "Normal", "loc": 0.5, "scale": 1.0}, "slope": slope}
    table = helpers.line() | {"parameters": parameters, "train": {"architecture": helpers.STRAIGHT}}
    return run(table, store=helpers.scratch() / "edge").summaries["check"]


def test_an_edge_fails_with_advice_that_works_and_simulates_nothing_anew() -> None:
    facts = at_the_edge("watched")["facts"]
    assert facts["passed"] is False and "edge = 'meant'" in facts["verdict"]
    result = at_the_edge("meant")
    assert "edge" not in result["facts"]["verdict"]
    figures = {row["figure"]: row for row in result["tables"]["verdict"]}
    assert figures["posterior mass at a prior's edge"]["value"] == 0.0
