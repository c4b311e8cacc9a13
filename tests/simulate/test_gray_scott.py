"""From a noisy picture of a field to the rates that made it, through principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from simfer import pipeline
from simfer.stages.settings import Solver
from simfer.stages.simulate.simulators.gray_scott import GrayScott
from tests import helpers

CONFIG = helpers.ROOT / "configs" / "gray_scott.toml"
TRUTH = {"F": 0.0395, "k": 0.0603}
OPTIONS: dict[str, Any] = {"times": [150.0], "start": 0.0, "size": 16, "patches": [[8, 6, 5]]}


def observe(file: Path) -> Path:
    """Write every second cell of v, with noise."""
    p = {name: jnp.asarray(value) for name, value in (TRUTH | {"D_u": 0.16, "D_v": 0.08}).items()}
    v = np.asarray(GrayScott(**OPTIONS).solve(p, Solver()).outputs["v"])[0]
    noisy = v + np.random.default_rng(2).normal(0.0, 0.02, v.shape)
    rows = [f"150,{y},{x},{noisy[y, x]:.5f}" for y in range(0, 16, 2) for x in range(0, 16, 2)]
    file.write_text("\n".join(["time,y,x,v", *rows]))
    return file


def small(data: Path) -> dict[str, Any]:
    """Return a small problem with the same parts as the shipped one."""
    return {
        "parameters": {
            "F": {"dist": "Normal", "loc": 0.038, "scale": 0.002},
            "k": {"dist": "Normal", "loc": 0.060, "scale": 0.0005},
            "D_u": 0.16,
            "D_v": 0.08,
        },
        "simulate": {"simulator": "gray_scott", "num_simulations": 48, "batch_size": 16, "options": OPTIONS},
        "dataset": {"pca": {"u": 0.9999, "v": 0.9999}},
        "train": {"architecture": "mlp", "width": 32, "ensemble_size": 3, "steps": 600, "learning_rate": 1e-2},
        "observation": {"file": str(data)},
        "noise": {"v": {"dist": "Normal", "scale": 0.02}},
        "infer": {"sampler": "nuts", "num_warmup": 200, "num_samples": 600, "num_chains": 2},
        "check": {"num_draws": 32},
    }


def holds(result: pipeline.Result, truth: dict[str, float]) -> None:
    """Assert that the true parameters are in the posterior, and that it is much narrower than the prior."""
    posterior = result.posterior["posterior"]
    for name, value in truth.items():
        assert abs(float(posterior[name].mean()) - value) < 3.5 * float(posterior[name].std())
    assert float(posterior["F"].std()) < 0.5 * 0.002


def test_a_small_field_is_emulated_whole_by_a_few_components(tmp_path: Path) -> None:
    result = pipeline.run(small(observe(tmp_path / "v.csv")), store=tmp_path / "store", until="train")
    outputs = {row["output"]: row for row in result.summaries["dataset"]["tables"]["outputs"]}
    assert outputs["v"]["components"] < 10 and outputs["v"]["variance_dropped_on_unseen_rows"] < 1e-3
    error = {row["output"]: row for row in result.summaries["train"]["tables"]["held-out error"]}
    assert error["v"]["unexplained_variance"] < 1e-3
    assert (result.folders["train"] / "fields.png").stat().st_size > 5000
    whole = result.emulator({name: result.simulations[name].values[0] for name in TRUTH})
    assert whole["v"].shape == (1, 16, 16)
    assert np.abs(whole["v"] - result.simulations["v"].values[0]).max() < 0.02


@pytest.mark.slow
def test_a_small_field_gives_back_the_rates_that_made_it(tmp_path: Path) -> None:
    result = pipeline.run(small(observe(tmp_path / "v.csv")), store=tmp_path / "store")
    assert result.verdict.passed
    holds(result, TRUTH)
    row = result.summaries["check"]["tables"]["emulator error at the posterior, in data sigma"][0]
    assert 0.0 < row["pca_drops_99"] < 0.5


@pytest.mark.slow
def test_the_shipped_problem_passes_and_gives_back_the_rates_that_made_its_data(tmp_path: Path) -> None:
    result = pipeline.run(CONFIG, store=tmp_path)
    assert result.verdict.passed
    holds(result, TRUTH | {"D_u": 0.163, "D_v": 0.0785, "v_scale": 0.02})
