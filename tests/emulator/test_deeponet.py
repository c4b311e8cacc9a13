"""A deep operator network can be asked between save points, and says what it cannot learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from simfer import pipeline
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator, save_emulator
from simfer.stages.errors import SimferError
from simfer.stages.preflight import mistakes
from tests import helpers

SIMULATOR = '''
import jax.numpy as jnp
import numpy as np

from simfer.stages.simulate.simulators.base import FunctionSimulator

from simfer.stages.model.outputs import Output

TIMES, PLACES = np.linspace(0.0, 6.0, 13), np.array([0.5, 1.0, 1.5, 2.5])


class Swing(FunctionSimulator):
    """A damped swing from a known start, a field that it radiates, and its energy."""

    parameters = {"frequency": "1/s", "damping": "1/s"}

    def outputs(self):
        field = Output(("time", "place"), {"time": TIMES, "place": PLACES})
        return {"angle": Output(("time",), {"time": TIMES}), "field": field, "energy": Output()}

    def __call__(self, p):
        return swing(p, TIMES, PLACES)


def swing(p, times, places):
    angle = 2.0 * jnp.exp(-p["damping"] * times) * jnp.cos(p["frequency"] * times)
    field = jnp.exp(-places * p["damping"]) * (3.0 + jnp.sin(p["frequency"] * times))[:, None]
    return {"angle": angle, "field": field, "energy": 2.0 * p["frequency"] ** 2}
'''
POINT = {"frequency": 1.1, "damping": 0.25}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("swing")
    (folder / "swing.py").write_text(SIMULATOR)
    (folder / "swing.csv").write_text("time,angle\n0.0,2.0\n3.0,-0.9\n")
    return {
        "parameters": {
            "frequency": {"dist": "Normal", "loc": 1.0, "scale": 0.15},
            "damping": {"dist": "Normal", "loc": 0.3, "scale": 0.1},
        },
        "simulate": {"simulator": f"{folder / 'swing.py'}:Swing", "num_simulations": 200},
        "dataset": {"transform": {"field": "log"}},
        "train": {
            "architecture": "deeponet",
            "options": {"width": 32, "depth": 2, "trunk_width": 32, "num_terms": 24},
            "ensemble_size": 2,
            "steps": 800,
            "learning_rate": 1e-2,
        },
        "observation": {"file": str(folder / "swing.csv")},
        "noise": {"angle": {"dist": "Normal", "scale": 0.1}},
    }


@pytest.fixture(scope="module")
def emulator(table: dict[str, Any]) -> Emulator:
    return pipeline.run(table, store=helpers.scratch() / "swing", until="train").emulator  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def swing(table: dict[str, Any]) -> Any:
    scope: dict[str, Any] = {}
    exec(SIMULATOR, scope)
    return scope


def points(num: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"frequency": 1.0 + 0.15 * rng.normal(size=num), "damping": 0.3 + 0.1 * rng.normal(size=num)}


def test_its_error_between_save_points_is_that_at_them(emulator: Emulator, swing: Any) -> None:
    times, places = swing["TIMES"], swing["PLACES"]
    between = {"time": (times[1:] + times[:-1]) / 2, "place": (places[1:] + places[:-1]) / 2}
    rms = {}
    for kind, at in {"at": {"time": times, "place": places}, "between": between}.items():
        asked = jax.jit(jax.vmap(lambda p, at=at: emulator.between(p, at)))(points())
        truth = jax.jit(jax.vmap(lambda p, at=at: swing["swing"](p, at["time"], at["place"])))(points())
        assert {name: value.shape for name, value in asked.items()} == {n: v.shape for n, v in truth.items()}
        rms[kind] = {name: float(np.sqrt(np.mean((asked[name] - truth[name]) ** 2))) for name in asked}
    for name in ("angle", "field"):
        assert rms["at"][name] < 0.03
        assert rms["between"][name] < 1.5 * rms["at"][name]


def test_at_save_points_it_says_what_it_always_says(emulator: Emulator, swing: Any) -> None:
    said = jax.jit(emulator)(POINT)
    for at in ({}, {"time": swing["TIMES"]}, {"place": swing["PLACES"], "time": swing["TIMES"]}):
        again = jax.jit(lambda point, at=at: emulator.between(point, at))(POINT)
        for name, values in said.items():
            assert np.allclose(again[name], values, rtol=1e-5, atol=1e-6), name
    assert said["angle"][0] == pytest.approx(2.0, abs=1e-12)  # the start never varies


def test_a_number_drops_its_dimension_and_what_is_not_named_stays(emulator: Emulator) -> None:
    one = emulator.between(POINT, {"time": 3.7})
    assert {name: value.shape for name, value in one.items()} == {"angle": (), "field": (4,), "energy": ()}
    some = emulator.between(POINT, {"time": [3.7, 3.9]})
    assert some["field"].shape == (2, 4) and np.allclose(some["field"][0], one["field"])
    assert emulator.between(POINT, {"time": [3.7, 3.9], "place": 0.8})["field"].shape == (2,)


def test_it_has_a_slope_along_its_coordinate(emulator: Emulator) -> None:
    w, d, t = POINT["frequency"], POINT["damping"], 2.2
    slope = jax.jit(jax.grad(lambda t: emulator.between(POINT, {"time": t})["angle"]))(t)
    assert slope == pytest.approx(-2 * np.exp(-d * t) * (d * np.cos(w * t) + w * np.sin(w * t)), abs=0.1)


def test_beyond_the_save_points_nothing_is_claimed(emulator: Emulator) -> None:
    beyond = emulator.between(POINT, {"time": [-0.1, 0.0, 6.0, 6.1]})
    assert np.isnan(beyond["angle"]).tolist() == [True, False, False, True]
    assert np.isnan(beyond["field"]).all(axis=1).tolist() == [True, False, False, True]
    assert np.isfinite(beyond["energy"])


def test_a_dimension_that_no_output_has_is_refused(emulator: Emulator) -> None:
    with pytest.raises(
        SimferError, match=r"got coordinates of \['tmie'\], expected dimensions among \['place', 'time'\]"
    ):
        emulator.between(POINT, {"tmie": 3.7})


def test_other_architectures_cannot_be_asked_between() -> None:
    with pytest.raises(SimferError, match='"mlp" knows its outputs at their saved coordinates alone; train with "deep'):
        helpers.line_run(until="train").emulator.between({"intercept": 0.7, "slope": -0.9}, {"x": 1.1})


def test_it_is_loaded_as_it_was_saved(emulator: Emulator, tmp_path: Path) -> None:
    save_emulator(emulator, tmp_path)
    again = load_emulator(tmp_path).between(POINT, {"time": 3.7})
    assert np.array_equal(again["field"], emulator.between(POINT, {"time": 3.7})["field"])


def test_what_it_cannot_learn_is_refused_before_anything_runs(table: dict[str, Any]) -> None:
    def refused(table: dict[str, Any]) -> str:
        found = {each.where: each.what for each in mistakes(helpers.problem(table))}
        return found["train.architecture"]

    assert not mistakes(helpers.problem(table))
    assert "dataset.pca" in refused(helpers.merged(table, {"dataset": {"pca": {"field": 3}}}))
    random = {
        "parameters": {"mu": {"dist": "Normal"}, "theta": 2.0, "sigma": 0.5, "x_0": 0.0},
        "simulate": {"simulator": "ornstein_uhlenbeck", "num_simulations": 500, "options": {"times": [1.0, 2.0, 3.0]}},
        "noise": {"x": {"dist": "Normal", "scale": 0.1}},
    }
    assert "random" in refused({**table, **random, "dataset": {}})
