"""A random simulator whose scatter is not Gaussian: by a flow its posterior is right, and passes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from simfer import SimferError, pipeline
from tests import helpers
from tests.chain.test_reference import FOLDER, needs_reference

SIMULATOR = '''
import jax
import jax.numpy as jnp
from simfer import Output, StochasticSimulator

class Switch(StochasticSimulator):
    """A level that all outputs share, a switch up or down by 0.8, and a little scatter of each."""

    parameters = {"a": ""}

    def outputs(self):
        return {"y": Output(("x",), {"x": [0.0, 1.0, 2.0]})}

    def __call__(self, p, key):
        first, second = jax.random.split(key)
        switch = jnp.where(jax.random.bernoulli(first), 0.8, -0.8)
        return {"y": p["a"] + switch + 0.3 * jax.random.normal(second, (3,))}
'''
DATA, SCATTER, SIGMA, PRIOR = np.array([0.9, 1.3, 0.7]), 0.3, 0.1, 1.5


def table(**sections: Any) -> dict[str, Any]:
    """Return a small problem with a switch that all outputs share."""
    folder = helpers.scratch()
    (folder / "switch.py").write_text(SIMULATOR)
    (folder / "switch.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in enumerate(DATA)))
    small = helpers.line(
        parameters={"intercept": None, "slope": None, "a": {"dist": "Normal", "scale": PRIOR}},
        simulate={"simulator": str(folder / "switch.py:Switch"), "num_simulations": 1200, "options": {"x": None}},
        train={"steps": 200, "finish_steps": 0, "dtype": "float32", "scatter": "flow"}
        | {"flow": {"steps": 300, "layers": 1, "width": 16}},
        observation={"file": str(folder / "switch.csv")},
        noise={"y": {"dist": "Normal", "scale": SIGMA}},
        infer={"sampler": "smc", "num_samples": 500},
        check={"num_draws": 128},
    )
    return helpers.merged(small, sections)


@cache
def run(scatter: str) -> pipeline.Result:
    return pipeline.run(table(train={"scatter": scatter}), store=helpers.scratch() / "switch")


def exact() -> tuple[float, float]:
    """Return the posterior's mean and sd, from a grid."""
    a = np.linspace(-4.0, 4.0, 4001)
    variance = SCATTER**2 + SIGMA**2
    squares = [((DATA - level - a[:, None]) ** 2).sum(axis=1) / variance for level in (0.8, -0.8)]
    log = logsumexp([-0.5 * each for each in squares], axis=0) - 0.5 * (a / PRIOR) ** 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ a
    return float(mean), float(np.sqrt(weight @ (a - mean) ** 2))


@pytest.mark.slow  # half a minute each; tests/train/test_density.py has what is learned
def test_a_switch_that_outputs_share_is_learned_by_a_flow() -> None:
    mean, sd = exact()  # 0.9 and 0.8; a Gaussian scatter makes it one hill
    draws = run("flow").posterior["posterior"]["a"].values
    assert draws.mean() == pytest.approx(mean, abs=0.25 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.2)
    lower = np.mean(draws < mean)
    assert np.mean(np.abs(draws - mean) < 0.3 * sd) < 0.15 < lower  # few between the two modes
    kinds = {figure["figure"] for figure in run("flow").verdict.figures["figures"]}
    assert "simulated data among the flow's, p of being alike" in kinds and "Pareto k-hat" not in kinds


@pytest.mark.slow
def test_auto_sees_that_the_scatter_is_not_gaussian_and_says_so() -> None:
    said = run("auto").summaries["train"]["facts"]["scatter"]
    assert said.startswith("flow, ") and "held-out rows are not Gaussian" in said
    kinds = [row["density"] for row in run("auto").summaries["train"]["tables"]["density of the data at held-out rows"]]
    assert kinds == ["gaussian", "one shape", "shape by parameters"]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"train": {"ensemble_size": 1}}, "train.ensemble_size"),
        ({"noise": {"y": {"dist": "Poisson"}}}, "counts"),
        ({"simulate": {"simulator": "linear", "options": {"x": [0.0, 1.0, 2.0]}}}, "the simulator is not random"),
        ({"noise": {"y": {"dist": "none"}}, "dataset": {"transform": {"y": "asinh"}}}, "dataset.transform.y"),
    ],
    ids=["members", "counts", "not random", "transform"],
)
def test_what_a_flow_cannot_learn_is_said_before_anything_runs(sections: dict[str, Any], expected: str) -> None:
    if sections.get("simulate"):
        sections |= {"parameters": {"a": None, "intercept": {"dist": "Normal"}, "slope": {"dist": "Normal"}}}
    with pytest.raises(SimferError, match=expected):
        pipeline.run(table(**sections), store=helpers.scratch() / "switch")


def test_data_and_noise_enter_the_training_of_a_flow_alone() -> None:
    plain, shaped = (helpers.link(helpers.problem(each), "train-0").config for each in (helpers.line(), table()))
    assert not plain.noise and plain.observation is None
    assert shaped.noise and shaped.observation is not None


@pytest.mark.slow  # half a minute to some minutes each
@needs_reference
@pytest.mark.parametrize("name", ["16b_switch", "16d_gamma", "16f_uniform"])
def test_scatter_of_any_shape_passes_with_the_right_posterior(name: str, tmp_path: Path) -> None:
    assert FOLDER
    exact = np.load(FOLDER / "problems" / name / "exact.npz")["theta"].ravel()
    overrides = ['train.scatter="auto"', 'infer.sampler="auto"']
    result = pipeline.run(FOLDER / "problems" / name / "problem.toml", overrides=overrides, store=tmp_path)
    draws = result.posterior["posterior"]["a"].values
    assert result.verdict.passed, result.verdict
    assert draws.mean() == pytest.approx(exact.mean(), abs=0.1 * exact.std())
    assert draws.std() == pytest.approx(exact.std(), rel=0.1)


def test_several_data_in_one_place_need_noise() -> None:
    twice = helpers.scratch() / "twice.csv"
    twice.write_text("x,y\n0,0.9\n0,1.0\n1,1.3\n")
    sections = {"noise": {"y": {"dist": "none"}}, "observation": {"file": str(twice)}}
    with pytest.raises(SimferError, match="several data in one place"):
        pipeline.run(table(**sections), store=helpers.scratch() / "switch")
