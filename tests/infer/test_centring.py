"""A hierarchy whose members the data know well: its centred points, and a posterior beside the exact one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from simfer.pipeline import run
from simfer.stages.infer.samplers.centring import Centre, Centring, find_centring
from simfer.stages.model.space import Space
from tests import exact, helpers

PARAMETERS: dict[str, Any] = {
    "rate": {"dist": "LogNormal", "loc": "center", "scale": "spread"},
    "level": {"dist": "Normal", "loc": 0.0, "scale": "spread"},
    "center": {"dist": "Normal", "loc": 1.0, "scale": 0.5},
    "spread": {"dist": "HalfNormal", "scale": 0.3},
}


def space(parameters: dict[str, Any] = PARAMETERS) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def test_centred_points_are_whitened_ones_and_their_density_is_that() -> None:
    made = space()
    centring = Centring(made, {"rate": Centre(True, 1.0, 0.6), "level": Centre(False, 0.1, 0.4)})
    z = np.random.default_rng(0).normal(size=(3, 4))
    x = centring.to_x(z)
    assert np.allclose(x[:, 2:], z[:, 2:])
    values = {name: np.asarray(value) for name, value in made.values(z).items()}
    assert np.allclose(np.log(values["rate"]), 1.0 + 0.6 * x[:, 0])
    assert np.allclose(values["level"], 0.1 + 0.4 * x[:, 1])
    for one, expected in zip(x, z, strict=True):
        back, volume = centring.to_z(jnp.asarray(one))
        assert np.allclose(back, expected)
        slope = jax.jacfwd(lambda x: centring.to_z(x)[0])(jnp.asarray(one))
        assert np.linalg.slogdet(slope)[1] == pytest.approx(float(volume))


def test_what_the_data_know_better_than_the_population_is_centred() -> None:
    made, rng = space(), np.random.default_rng(1)
    target: Any = SimpleNamespace(space=made)
    assert find_centring(target, rng.normal(size=(500, 4))) is None  # the prior itself
    known = {"rate": (2.0, 0.02), "level": (0.1, 0.02), "center": (1.0, 0.2), "spread": (0.3, 0.05)}
    z = np.asarray(made.whiten({name: rng.normal(*each, 500) for name, each in known.items()}))
    found = find_centring(target, z)
    assert found is not None and set(found.centres) == {"rate", "level"}
    target.space = space({"a": {"dist": "Normal"}, "b": {"dist": "Normal", "loc": "a", "scale": 0.1}})
    assert find_centring(target, np.zeros((10, 2))) is None  # no curve: its prior is as wide everywhere


CODE = """
import jax.numpy as jnp
import numpy as np

from simfer import FunctionSimulator, Output


class Signal(FunctionSimulator):
    parameters = {"top": "", "k": ""}

    def outputs(self):
        return {"y": Output(("time",), {"time": np.arange(5.0)})}

    def __call__(self, p):
        return {"y": p["top"] * jnp.exp(-p["k"] * jnp.arange(5.0))}
"""


@pytest.mark.slow
def test_five_experiments_of_one_population_have_their_exact_posterior(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text(CODE)
    rng, times, names = np.random.default_rng(4), np.arange(5.0), "abcde"
    y = rng.lognormal(1.0, 0.3, 5)[:, None] * np.exp(-0.4 * times) + 0.02 * rng.normal(size=(5, 5))
    experiments = {}
    for name, row in zip(names, y, strict=True):
        lines = [f"{t:g},{float(v)!r}" for t, v in zip(times, row, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["time,y", *lines, ""]))
        experiments[name] = {"observation": {"file": str(tmp_path / f"{name}.csv")}}
    table = {
        "parameters": {
            "k": {"dist": "LogNormal", "loc": -1.0, "scale": 0.3},
            "center": {"dist": "Normal", "loc": 1.0, "scale": 0.5},
            "spread": {"dist": "HalfNormal", "scale": 0.5},
            "top": {"dist": "LogNormal", "loc": "center", "scale": "spread", "per": "experiment"},
        },
        "simulate": {"simulator": f"{tmp_path / 'signal.py'}:Signal", "num_simulations": 400},
        "experiments": experiments,
        "noise": {"y": {"dist": "Normal", "scale": 0.02}},
        "refine": {"max_rounds": 4, "simulations_per_round": 150},
    }
    result = run(table, store=tmp_path / "store")
    assert result.verdict.passed, result.verdict

    def to_theta(x: np.ndarray) -> np.ndarray:  # centred: the tops themselves, about as wide as their prior
        center, spread = 1.0 + 0.5 * x[:, 1], 0.5 * stats.halfnorm.ppf(ndtr(x[:, 2]))
        return np.column_stack([np.exp(-1.0 + 0.3 * x[:, 0]), center, spread, np.exp(1.0 + 0.6 * x[:, 3:])])

    def density(x: np.ndarray) -> np.ndarray:
        k, center, spread, *tops = to_theta(x).T
        log = -0.5 * (x[:, :3] ** 2).sum(axis=1)
        for row, top in zip(y, tops, strict=True):
            log += stats.norm.logpdf(np.log(top), center, np.maximum(spread, 1e-12))
            log += stats.norm.logpdf(row, top[:, None] * np.exp(-k[:, None] * times), 0.02).sum(axis=1)
        return np.where(np.isfinite(log), log, -1e30)

    right = to_theta(exact.sampled(density, 8, 100_000, 4000))
    posterior = result.posterior["posterior"]
    for i, name in enumerate(("k", "center", "spread", *(f"top.{name}" for name in names))):
        drawn, sd = posterior[name].values, right[:, i].std()
        assert abs(drawn.mean() - right[:, i].mean()) < 0.12 * sd, name
        assert drawn.std() == pytest.approx(sd, rel=0.12), name
