"""A simulator that has no answer in a part of the prior: a posterior that ends there, or fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simfer import pipeline
from simfer.stages.infer.wall import learn_border
from tests import helpers

SIMULATOR = '''
import jax.numpy as jnp
from simfer import FunctionSimulator, Output

class Partly(FunctionSimulator):
    """A straight line, as long as its parameters lie where it has an answer."""

    parameters = {"a": "", "b": ""}
    border: str

    def outputs(self):
        return {"y": Output(("x",), {"x": [0.0, 1.0, 2.0, 3.0]})}

    def __call__(self, p):
        solved = {
            "line": p["a"] > p["b"] - 0.7,
            "curve": p["a"] > p["b"] ** 2 - 0.2,
            "strip": (p["b"] < 0.6) | (p["b"] > 0.9),
            "nowhere": jnp.sin(9137.0 * p["a"] + 7717.0 * p["b"]) > -0.95,
        }[self.border]
        return {"y": jnp.where(solved, p["a"] + 0.5 * p["b"] * jnp.arange(4.0), jnp.nan)}
'''
SOLVED = {
    "line": lambda a, b: a > b - 0.7,
    "curve": lambda a, b: a > b**2 - 0.2,
    "nowhere": lambda a, b: np.ones_like(a, bool),
}
DATA, SIGMA = np.array([-0.3, 0.2, 0.3, 0.9]), 0.4


def config(border: str, **sections: Any) -> dict[str, Any]:
    """Return a config whose data pull the posterior onto the border."""
    folder = helpers.scratch()
    (folder / "partly.py").write_text(SIMULATOR)
    (folder / "partly.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in enumerate(DATA)))
    table = helpers.line(
        parameters={"intercept": None, "slope": None, "a": {"dist": "Normal"}, "b": {"dist": "Normal"}},
        simulate={
            "simulator": str(folder / "partly.py:Partly"),
            "options": {"x": None, "border": border},
            "max_failed": 0.9,
        },
        observation={"file": str(folder / "partly.csv")},
        noise={"y": {"dist": "Normal", "scale": SIGMA}},
        check={"num_draws": 128},
    )
    table["train"] = {"architecture": helpers.STRAIGHT}  # exact, as the simulator is a line where it has an answer
    return helpers.merged(table, sections)


def run(border: str, **sections: Any) -> pipeline.Result:
    return pipeline.run(config(border, **sections), store=helpers.scratch() / "partly")


def exact(border: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior's means and sds, from a grid."""
    at = np.linspace(-3.0, 3.0, 1201)
    a, b = np.meshgrid(at, at, indexing="ij")
    gap = (a[..., None] + 0.5 * b[..., None] * np.arange(4.0) - DATA) / SIGMA
    density = np.exp(-0.5 * (gap**2).sum(axis=-1) - 0.5 * (a**2 + b**2)) * SOLVED[border](a, b)
    weight = density / density.sum()
    mean = np.array([(weight * each).sum() for each in (a, b)])
    return mean, np.sqrt([(weight * (each - m) ** 2).sum() for each, m in zip((a, b), mean, strict=True)])


def facts(result: pipeline.Result) -> dict[str, Any]:
    return dict(result.summaries["check"]["facts"])


@pytest.mark.parametrize("border", ["line", pytest.param("curve", marks=pytest.mark.slow), "nowhere"])
def test_a_posterior_ends_where_the_simulator_has_no_answer(border: str) -> None:
    result = run(border, simulate={"failures": "impossible"}, refine={"max_rounds": 1, "simulations_per_round": 60})
    assert facts(result)["passed"], facts(result)["verdict"]
    posterior, (mean, sd) = result.posterior["posterior"], exact(border)
    assert posterior.sizes == {"chain": 2, "draw": 1000}
    a, b = (posterior[name].values for name in ("a", "b"))
    assert SOLVED[border](a, b).mean() > 0.95
    for drawn, m, s in zip((a, b), mean, sd, strict=True):
        assert abs(drawn.mean() - m) < 0.12 * s
        assert drawn.std() / s == pytest.approx(1.0, abs=0.08)


def test_the_advice_on_a_posterior_that_reaches_where_simulations_fail_costs_no_simulation_anew() -> None:
    """The posterior that follows it is the one that passes above."""
    failed = run("line")
    assert not facts(failed)["passed"] and 'simulate.failures = "impossible"' in facts(failed)["verdict"]
    assert "Rodas5P" not in facts(failed)["verdict"]
    table = config("line", simulate={"failures": "impossible"})
    followed = pipeline.run(table, store=helpers.scratch() / "partly", until="train")
    assert all(followed.folders[stage] == failed.folders[stage] for stage in ("simulate", "dataset", "train"))


def test_a_border_that_lies_too_near_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of a posterior is simulated too: no draw before the border could tell."""
    from simfer.stages.infer import stage
    from simfer.stages.simulate.border import Border

    def too_near(paths: Any) -> Border | None:
        border = learn_border(paths)
        assert border is not None
        slope = np.linalg.norm(np.ptp(border.latent(np.array([[1.0, -1.0], [-1.0, 1.0]])))) / np.sqrt(8.0)
        return Border(**(vars(border) | {"offset": border.offset - 0.3 * slope}))

    monkeypatch.setattr(stage, "learn_border", too_near)
    table = config("line", simulate={"failures": "impossible"})
    result = pipeline.run(table, store=helpers.scratch() / "too_near")
    figures = {row["figure"]: row for row in result.verdict.figures["figures"]}
    assert not figures["posterior mass left out though it has one"]["passed"]
    assert "more rounds (refine.max_rounds)" in facts(result)["verdict"]


def test_a_part_that_a_failing_strip_cuts_off_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that stop at the strip draw nothing beyond it; where the posterior would be without it, some is solved."""
    from simfer.stages.infer import stage
    from simfer.stages.simulate.border import Border

    def as_if_all_beyond_failed(paths: Any) -> Border | None:
        border = learn_border(paths)
        assert border is not None
        z = np.random.default_rng(0).normal(size=(200, 2))
        return Border.learn(z, z[:, 1] < 0.6, border.space)

    monkeypatch.setattr(stage, "learn_border", as_if_all_beyond_failed)
    table = config("strip", simulate={"failures": "impossible"})
    result = pipeline.run(table, store=helpers.scratch() / "strip")
    figures = {row["figure"]: row for row in result.verdict.figures["figures"]}
    assert figures["draws where the simulator has no answer"]["passed"]
    assert figures["posterior mass left out though it has one"]["value"] > 0.2
    assert not figures["posterior mass left out though it has one"]["passed"]


def test_a_later_round_keeps_out_of_where_runs_fail() -> None:
    # Most of the posterior lies beyond the border: simulated as it is, more than half of the round would fail.
    result = run("line", simulate={"max_failed": 0.35}, refine={"max_rounds": 1, "simulations_per_round": 60})
    figures = {row["figure"]: row for row in result.verdict.figures["figures"]}
    assert "simulations of this round that failed" not in figures
    assert figures["draws that the simulator cannot solve"]["value"] > 0.5
    assert not facts(result)["passed"]
