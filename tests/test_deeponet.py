"""A deep operator network can be asked between save points, and says what it cannot learn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pipeline
from pipeline.chain import ConfigError
from stages.emulator import Emulator
from stages.errors import SimferError
from tests import helpers

SIMULATOR = '''
import jax.numpy as jnp
import numpy as np

from stages.simulators import FunctionSimulator, Output

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
            "steps": 1500,
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
        truth = jax.vmap(lambda p, at=at: swing["swing"](p, at["time"], at["place"]))(points())
        assert {name: value.shape for name, value in asked.items()} == {n: v.shape for n, v in truth.items()}
        rms[kind] = {name: float(np.sqrt(np.mean((asked[name] - truth[name]) ** 2))) for name in asked}
    print(rms)
    for name in ("angle", "field"):
        assert rms["at"][name] < 0.03
        assert rms["between"][name] < 1.5 * rms["at"][name]
