"""Samplers against posteriors that are known: every mode with its weight, and the same answer where there is one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from simfer import Result, run
from tests import helpers

CODE = """
import jax.numpy as jnp
import numpy as np
from simfer import FunctionSimulator, Output


class Square(FunctionSimulator):
    parameters = {"a": ""}

    def outputs(self):
        return {"y": Output(("x",), {"x": np.arange(3.0)})}

    def __call__(self, p):
        return {"y": jnp.ones(3) * p["a"] ** 2}
"""
PRIOR, SIGMA, DATA = stats.norm(0.3, 1.0), 0.3, np.array([1.4, 1.7, 1.6])


@cache
def square(sampler: str) -> Result:
    """Run a problem whose data know the square of a parameter: two modes, of unequal mass by the prior."""
    file, data = helpers.scratch() / "square.py", helpers.scratch() / "square.csv"
    file.write_text(CODE)
    data.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in enumerate(DATA)))
    table = helpers.line(simulate={"simulator": f"{file}:Square", "options": None}, observation={"file": str(data)})
    table |= {"parameters": {"a": {"dist": "Normal", "loc": 0.3, "scale": 1.0}}}
    table |= {"noise": {"y": {"dist": "Normal", "scale": SIGMA}}, "train": {"architecture": "polynomial"}}
    table["infer"] |= {"sampler": sampler, "num_chains": 4}
    return run(table, store=helpers.scratch() / "square")


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Return a grid, and the exact posterior's weights on it."""
    grid = np.linspace(-4.0, 4.0, 8001)
    density = PRIOR.logpdf(grid) + stats.norm(grid[:, None] ** 2, SIGMA).logpdf(DATA).sum(axis=1)
    weights = np.exp(density - density.max())
    return grid, weights / weights.sum()


@pytest.mark.parametrize("sampler", ["smc", "auto"])
def test_both_modes_are_there_with_their_weights(sampler: str) -> None:
    result = square(sampler)
    grid, weights = exact()
    drawn = result.posterior["posterior"]["a"].values
    mass = weights[grid > 0].sum()
    assert 0.6 < mass < 0.8
    assert (drawn > 0).mean() == pytest.approx(mass, abs=0.04)
    for side in (grid > 0, grid < 0):
        mean = np.average(grid[side], weights=weights[side])
        sd = np.sqrt(np.average((grid[side] - mean) ** 2, weights=weights[side]))
        own = drawn[(drawn > 0) == (mean > 0)]
        assert own.mean() == pytest.approx(mean, abs=0.15 * sd) and own.std() == pytest.approx(sd, rel=0.1)
    places = result.summaries["infer"]["tables"]["separate places that the posterior lies in"]
    assert [row["mass"] for row in places] == pytest.approx([mass, 1.0 - mass], abs=0.04)
    assert result.summaries["infer"]["facts"]["sampler"] == "smc"
    assert result.verdict.passed


def test_chains_that_stay_in_a_mode_do_not_pass() -> None:
    verdict = square("nuts").verdict
    figures = {row["figure"]: row["value"] for row in verdict.figures["figures"] if not row["passed"]}
    assert not verdict.passed and figures["separate places that chains do not go between"] == 2.0
    assert "take infer.sampler = 'smc'" in square("nuts").summaries["check"]["facts"]["verdict"]


@pytest.mark.parametrize("sampler", [pytest.param("smc", marks=pytest.mark.slow), "auto"])
def test_one_mode_is_the_exact_answer(sampler: str) -> None:
    result = helpers.line_run(f'infer.sampler="{sampler}"', "infer.num_chains=4")
    mean, covariance = helpers.exact_line()
    assert result.summaries["infer"]["facts"]["sampler"] == ("smc" if sampler == "smc" else "nuts")
    for row, expected, variance in zip(
        result.summaries["infer"]["tables"]["posterior"], mean, np.diag(covariance), strict=True
    ):
        assert row["mean"] == pytest.approx(expected, abs=0.12 * np.sqrt(variance))
        assert row["sd"] == pytest.approx(np.sqrt(variance), rel=0.1)
    assert result.verdict.passed


def test_a_posterior_by_a_population_has_what_others_have() -> None:
    tree = square("smc").posterior
    assert tree["posterior"]["a"].shape == (4, 1000)
    assert set(np.unique(tree["sample_stats"]["place"].values)) == {0, 1}
    assert tree["posterior"].attrs["inference_library"] == "simfer"
    assert "divergences" not in square("smc").summaries["infer"]["facts"]
