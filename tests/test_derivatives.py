"""Derivatives of simulated outputs are those of exact solutions, and fill the training set by the chain rule."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import lambertw

from stages.ensemble import Rows, build_ensemble
from stages.parameters import Space
from stages.settings import Simulate
from stages.simulators.base import Status
from tests import helpers

SIMULATORS = '''
import jax.numpy as jnp
from stages.simulators import FunctionSimulator, ODESimulator, Output


class Growth(ODESimulator):
    """Logistic growth from n, its logarithm observed too."""

    parameters = {"r": "1/h", "k": "", "n": ""}
    units = {"n_t": "cells"}

    def initial_state(self, p):
        return {"n": p["n"]}

    def vector_field(self, t, y, p):
        return {"n": p["r"] * y["n"] * (1 - y["n"] / p["k"])}

    def observe(self, t, y, p):
        return {"n_t": y["n"], "both": jnp.stack([jnp.log(y["n"]), p["r"] * t])}


class Thrown(ODESimulator):
    """A stone thrown up with speed v, slowed down by k v, until it is back."""

    parameters = {"v": "", "k": ""}
    event_direction = False

    def initial_state(self, p):
        return jnp.stack([jnp.zeros(()), p["v"]])

    def vector_field(self, t, y, p):
        return jnp.stack([y[1], -9.81 - p["k"] * y[1]])

    def observe(self, t, y, p):
        return {"height": y[0], "flown": t}

    def event(self, t, y, p):
        return y[0]


class Root(FunctionSimulator):
    """A square root: at zero it has a value and no derivative."""

    parameters = {"a": ""}

    def outputs(self):
        return {"root": Output()}

    def __call__(self, p):
        return {"root": jnp.sqrt(p["a"])}
'''
GROWTH = {
    "r": {"dist": "LogNormal", "loc": -0.7, "scale": 0.2},
    "k": 50.0,
    "n": {"dist": "Uniform", "low": 1, "high": 9},
}
THROWN = {"v": {"dist": "Normal", "loc": 4.0, "scale": 0.3}, "k": {"dist": "Uniform", "low": 0.05, "high": 0.5}}
TIMES = [0.0, 0.7, 3.0, 9.0]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("derivatives") / "mine.py"
    file.write_text(SIMULATORS)
    return str(file)


def space(parameters: dict[str, Any]) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def solve(name: str, parameters: dict[str, Any], z: np.ndarray, derivatives: bool = True, **simulate: Any) -> Rows:
    options = simulate.pop("options", {"times": TIMES})
    settings = Simulate(simulator=name, num_simulations=len(z), options=options, derivatives=derivatives, **simulate)
    return build_ensemble(settings, space(parameters))(z, np.arange(len(z)))


def points(num: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, size))


def logistic(theta: jnp.ndarray) -> jnp.ndarray:
    r, n, t = theta[0], theta[1], jnp.asarray(TIMES)
    return 50.0 / (1.0 + (50.0 / n - 1.0) * jnp.exp(-r * t))


@pytest.mark.parametrize("solver", ["Tsit5", "Rodas5P", pytest.param("Kvaerno5", marks=pytest.mark.slow)])
def test_derivatives_of_logistic_growth_are_those_of_its_closed_form(plugin: str, solver: str) -> None:
    z, given = points(20, 2), {"solver": solver, "rtol": 1e-9, "atol": 1e-9}
    rows = solve(f"{plugin}:Growth", GROWTH, z, solver=given)
    exact = np.asarray(jax.vmap(jax.jacfwd(logistic))(jnp.asarray(rows.theta)))  # rows, times, parameters
    assert (rows.status == Status.OK).all()
    assert rows.derivatives["n_t"].shape == (20, 2, 4)  # the free parameters alone
    assert np.allclose(rows.derivatives["n_t"], exact.swapaxes(1, 2), rtol=1e-6, atol=1e-6)
    logs = exact / np.asarray(jax.vmap(logistic)(jnp.asarray(rows.theta)))[:, :, None]
    assert np.allclose(rows.derivatives["both"][..., 0], logs.swapaxes(1, 2), rtol=1e-6, atol=1e-6)
    assert np.allclose(rows.derivatives["both"][..., 1], np.stack([TIMES, np.zeros(4)]), atol=1e-12)


@pytest.mark.parametrize("solver", ["Tsit5", pytest.param("Rodas5P", marks=pytest.mark.slow)])
def test_outputs_and_steps_are_those_of_the_plain_run_to_the_last_digit(plugin: str, solver: str) -> None:
    z = points(70, 2)
    made = [solve(f"{plugin}:Growth", GROWTH, z, each, solver={"solver": solver}) for each in (False, True)]
    assert np.array_equal(made[0].num_steps, made[1].num_steps)
    assert all(np.array_equal(made[0].outputs[name], made[1].outputs[name]) for name in made[0].outputs)
    assert made[0].derivatives == {}


def test_derivatives_of_an_oscillation_are_finite_differences() -> None:
    parameters = {
        "alpha": {"dist": "LogNormal", "loc": -0.3, "scale": 0.2}, "beta": {"dist": "LogNormal", "loc": -3.5},
        "gamma": 0.8, "delta": 0.02, "prey_0": 30.0, "predator_0": 5.0,
    }  # fmt: skip
    z, tight = 0.3 * points(8, 2), {"rtol": 1e-11, "atol": 1e-11}
    given: dict[str, Any] = {"options": {"times": [0.0, 4.0, 15.0]}}
    slopes = solve("lotka_volterra", parameters, z, **given).derivatives["predator"]  # to 1e-6, as by default
    step = 1e-5
    for i in range(2):
        ends = [solve("lotka_volterra", parameters, z + sign * step * np.eye(2)[i], False, solver=tight, **given)
                for sign in (-1, 1)]  # fmt: skip
        numeric = (ends[1].outputs["predator"] - ends[0].outputs["predator"]) / (
            ends[1].theta[:, i] - ends[0].theta[:, i]
        )[:, None]
        assert np.allclose(slopes[:, i], numeric, rtol=1e-4, atol=1e-4 * np.abs(numeric).max())


def test_an_event_moves_with_the_parameters(plugin: str) -> None:
    z = 0.5 * points(12, 2)
    options = {"times": np.linspace(0.0, 1.5, 16).tolist()}
    rows = solve(f"{plugin}:Thrown", THROWN, z, options=options, solver={"rtol": 1e-10, "atol": 1e-10})

    def landed(v: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the time of flight, (a + W(-a e^-a)) / k with a = 1 + k v / g and W Lambert's function."""
        a = 1.0 + k * v / 9.81
        return (a + np.real(lambertw(-a * np.exp(-a)))) / k

    v, k, h = *rows.theta.T, 1e-6
    assert np.allclose(rows.outputs["flown"][:, -1], landed(v, k))
    by_v = (landed(v + h, k) - landed(v - h, k)) / (2 * h)
    by_k = (landed(v, k + h) - landed(v, k - h)) / (2 * h)
    assert np.allclose(rows.derivatives["flown"][:, :, -1], np.stack([by_v, by_k], axis=1), rtol=1e-6)
    assert np.allclose(rows.derivatives["flown"][:, :, 1], 0.0)  # still in the air: time is time
    assert np.allclose(rows.derivatives["height"][:, :, -1], 0.0, atol=1e-8)  # on the ground, wherever it lands


def test_a_row_whose_derivative_is_not_finite_has_failed(plugin: str) -> None:
    z = np.array([[0.0], [4.0], [-1.0]])
    parameters = {"a": {"dist": "Normal"}}
    plain = solve(f"{plugin}:Root", parameters, z, False, options={})
    rows = solve(f"{plugin}:Root", parameters, z, options={})
    assert plain.status.tolist() == [Status.OK, Status.OK, Status.NOT_FINITE]
    assert rows.status.tolist() == [Status.NOT_FINITE, Status.OK, Status.NOT_FINITE]
    assert rows.derivatives["root"][1] == pytest.approx(0.25) and np.isnan(rows.derivatives["root"][0])
