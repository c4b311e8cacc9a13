"""Refinement where the first round is poor: two modes, a narrow banana, a posterior at the edge of its prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.pipeline import run

SIMULATOR = '''
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from simfer.stages.simulate.simulators.base import FunctionSimulator

from simfer.stages.model.outputs import Output


class Toy(FunctionSimulator):
    """Two numbers from two parameters."""

    parameters: ClassVar = {"a": "", "b": ""}
    kind: str = "banana"

    def outputs(self):
        return {"y": Output(("i",), {"i": np.arange(2.0)})}

    def __call__(self, p):
        a, b = p["a"], p["b"]
        if self.kind == "modes":
            return {"y": jnp.stack([a**2, b])}
        if self.kind == "banana":
            return {"y": jnp.stack([a, b - a**2])}
        return {"y": jnp.stack([a, b])}
'''


def problem(folder: Path, kind: str, data: tuple[float, float], scale: float, prior: dict[str, Any]) -> dict[str, Any]:
    (folder / "toy.py").write_text(SIMULATOR)
    (folder / "data.csv").write_text(f"i,y\n0,{data[0]}\n1,{data[1]}\n")
    return {
        "parameters": {"a": prior, "b": {"dist": "Normal", "scale": 2.0}},
        "simulate": {
            "simulator": f"{folder / 'toy.py'}:Toy",
            "num_simulations": 64,
            "options": {"kind": kind},
        },
        "train": {"width": 48, "ensemble_size": 3, "steps": 1500},
        "observation": {"file": str(folder / "data.csv")},
        "noise": {"y": {"dist": "Normal", "scale": scale}},
        "infer": {"num_warmup": 500, "num_samples": 1000},
        "check": {"num_draws": 50},
        "refine": {"max_rounds": 5, "simulations_per_round": 30, "keep": 80},
    }


@pytest.mark.slow
def test_a_narrow_banana_is_found_and_matches_the_exact_posterior(tmp_path: Path) -> None:
    config = problem(tmp_path, "banana", (1.0, 0.5), 0.05, {"dist": "Normal", "scale": 1.0})
    config["noise"]["y"]["scale"] = 0.2
    result = run(config, store=tmp_path / "store")
    assert result.verdict.passed
    posterior = result.posterior["posterior"]
    a, b = posterior["a"].values.ravel(), posterior["b"].values.ravel()
    grid_a, grid_b = np.meshgrid(np.linspace(-0.5, 2.5, 601), np.linspace(-2.0, 6.0, 801), indexing="ij")
    log = -0.5 * (((grid_a - 1.0) / 0.2) ** 2 + ((grid_b - grid_a**2 - 0.5) / 0.2) ** 2 + grid_a**2 + (grid_b / 2) ** 2)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    for draws, grid in ((a, grid_a), (b, grid_b)):
        mean = (weight * grid).sum()
        sd = np.sqrt((weight * (grid - mean) ** 2).sum())
        assert abs(draws.mean() - mean) < 0.1 * sd
        assert 0.9 < draws.std() / sd < 1.1


@pytest.mark.slow
def test_two_modes_are_both_found_and_the_chains_disagreement_is_said(tmp_path: Path) -> None:
    config = problem(tmp_path, "modes", (2.0, 0.5), 0.1, {"dist": "Normal", "scale": 1.5})
    result = run(config | {"refine": {"max_rounds": 1, "simulations_per_round": 40}}, store=tmp_path / "store")
    a = result.posterior["posterior"]["a"].values
    assert (a < 0).any() and (a > 0).any()
    failed = {row["figure"] for row in result.verdict.figures["figures"] if not row["passed"]}
    assert "largest R-hat" in failed
    assert "converge" in result.verdict.figures["verdict"]


@pytest.mark.slow
def test_a_posterior_at_the_edge_of_its_prior_says_so(tmp_path: Path) -> None:
    config = problem(tmp_path, "plain", (1.3, 0.5), 0.05, {"dist": "Uniform", "low": 0.0, "high": 1.0})
    result = run(config | {"refine": {"max_rounds": 1}}, store=tmp_path / "store")
    failed = {row["figure"] for row in result.verdict.figures["figures"] if not row["passed"]}
    assert "posterior mass at a prior's edge" in failed
    assert "widen that prior" in result.verdict.figures["verdict"]
