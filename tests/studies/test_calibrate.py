"""Calibration: it passes what is right, and fails an emulator that is surer of itself than it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simfer import pipeline
from simfer.pipeline import chain
from simfer.pipeline.studies import STUDIES
from simfer.stages.emulator.saved import load_emulator, save_emulator
from simfer.stages.progress import Silent
from simfer.stages.studies.coverage import ecdf_band, inside, tarp
from tests import helpers

QUICK = (
    "calibrate.replicates=200",
    "calibrate.seed=3",
    "calibrate.num_warmup=150",
    "calibrate.num_samples=200",
    "calibrate.thin=2",
)


def calibrate(overrides: tuple[str, ...], folder: Path, shrink: float = 1.0) -> dict[str, object]:
    """Calibrate the linear-Gaussian problem, the emulator's word on its error divided by `shrink`."""
    result = helpers.line_run(*overrides, until="infer")
    emulator = load_emulator(result.folders["train"])
    shrunk = type(emulator)(
        **{name: getattr(emulator, name) for name in emulator.__dataclass_fields__}
        | {"residuals": emulator.residuals / shrink}
    )
    given, out = folder / "emulator", folder / "calibrate"
    for path in (given, out):
        path.mkdir(parents=True)
    save_emulator(shrunk, given)
    problem = helpers.problem(helpers.line(), *QUICK, *overrides)
    (link,) = STUDIES["calibrate"].added(problem, 0)
    inputs = {"emulator": [given], "posterior": [result.folders["infer"]]}
    summary = chain.run(link, inputs, out, Silent())
    assert (out / "calibration.png").stat().st_size > 1000
    return summary["facts"]


def test_the_linear_gaussian_problem_is_calibrated(tmp_path: Path) -> None:
    facts = calibrate(("calibrate.replicates=100",), tmp_path)
    assert facts["passed"] and facts["over"] == "prior" and facts["data_sets"] == 100


# A network that has not learnt much, alone, so that all of its error is in the held-out residuals; and little noise.
POOR = (
    "noise.y.scale=0.3",
    "train.steps=100",
    "train.finish_steps=0",
    "train.ensemble_size=1",
    "train.learning_rate=0.005",
)


@pytest.mark.slow
def test_an_emulator_that_is_too_sure_of_itself_fails(tmp_path: Path) -> None:
    assert calibrate(POOR, tmp_path / "honest")["passed"]
    assert not calibrate(POOR, tmp_path / "shrunk", shrink=5.0)["passed"]


DECAY = '''
import jax.numpy as jnp
from simfer import ODESimulator

class Decay(ODESimulator):
    """Exponential decay."""

    parameters = {"rate": "1/s"}

    def initial_state(self, p):
        return jnp.asarray(1.0)

    def vector_field(self, t, y, p):
        return -p["rate"] * y

    def observe(self, t, y, p):
        return {"level": y}
'''


def test_a_differential_equation_in_the_likelihood_is_sampled_as_infer_samples_it(tmp_path: Path) -> None:
    (tmp_path / "decay.py").write_text(DECAY)
    (tmp_path / "level.csv").write_text("time,level\n0.5,0.6\n1.0,0.4\n2.0,0.1\n")
    table = {
        "parameters": {"rate": {"dist": "LogNormal", "loc": 0.0, "scale": 0.3}},
        "simulate": {
            "simulator": str(tmp_path / "decay.py:Decay"),
            "num_simulations": 64,
            "options": {"times": [0.0, 0.5, 1.0, 2.0]},
        },
        "train": {"architecture": helpers.STRAIGHT},
        "observation": {"file": str(tmp_path / "level.csv")},
        "noise": {"level": {"dist": "Normal", "scale": 0.1}},
        "infer": {"likelihood": "simulator"},
        "calibrate": {"replicates": 20, "num_warmup": 50, "num_samples": 100, "thin": 2},
    }
    trained = pipeline.run(table, store=tmp_path / "store", until="train").folders["train"]

    def ranks(*overrides: str) -> list[float]:
        folder = tmp_path / f"calibrate-{len(overrides)}"
        folder.mkdir()
        (link,) = STUDIES["calibrate"].added(helpers.problem(table, *overrides), 0)
        summary = chain.run(link, {"emulator": [trained], "posterior": []}, folder, Silent())
        assert summary["facts"]["passed"] and summary["facts"]["data_sets"] == 20
        return json.loads((folder / "calibration.json").read_text())["ranks"]["rate"]  # type: ignore[no-any-return]

    assert ranks() != ranks("infer.target_accept=0.95")  # which is the sampler that is calibrated


def test_the_band_holds_all_of_an_ecdf_as_often_as_it_says() -> None:
    grid, low, high = ecdf_band(100, 50, 0.9)
    ranks = np.random.default_rng(5).integers(0, 51, size=(2000, 100)) / 50
    share = np.mean([inside(row, grid, low, high) for row in ranks])
    assert share == pytest.approx(0.9, abs=0.025)


def test_tarp_is_uniform_for_the_right_posterior_and_not_for_a_narrow_one() -> None:
    random = np.random.default_rng(0)
    center = random.normal(size=(400, 3))  # of each posterior; the truth is a draw from it
    known, draws = center + random.normal(size=(400, 3)), center[:, None] + random.normal(size=(400, 100, 3))
    narrow = center[:, None] + 0.4 * (draws - center[:, None])
    grid, low, high = ecdf_band(400, 100, 0.99)
    assert inside(tarp(known, draws, 0), grid, low, high)
    assert not inside(tarp(known, narrow, 0), grid, low, high)
