"""Many solves at once are the same as each alone, and a failure is a status."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.ensemble import Ensemble, Rows, build_ensemble
from simfer.stages.simulate.simulators.lotka_volterra import LotkaVolterra
from tests import helpers

TIMES = [0.0, 2.0, 5.0]
PARAMETERS = {
    "alpha": {"dist": "LogNormal", "loc": -0.3, "scale": 0.2},
    "beta": 0.03, "gamma": 0.8, "delta": 0.02, "prey_0": 30.0, "predator_0": 5.0,
}  # fmt: skip


def space(parameters: dict[str, Any] = PARAMETERS) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def solve(z: np.ndarray, name: str = "lotka_volterra", **simulate: Any) -> Rows:
    options = simulate.pop("options", {"times": TIMES})
    parameters = simulate.pop("parameters", PARAMETERS)
    settings = Simulate(simulator=name, num_simulations=len(z), options=options, **simulate)
    return build_ensemble(settings, space(parameters))(z, np.arange(len(z)))


def points(num: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, 1))


def test_rows_are_scipys() -> None:
    z = points(5)
    rows = solve(z, solver={"rtol": 1e-10, "atol": 1e-10})
    assert (rows.status == Status.OK).all() and (rows.num_steps > 3).all()
    for i, alpha in enumerate(np.exp(-0.3 + 0.2 * z[:, 0])):
        exact = solve_ivp(
            lambda t, y, a=alpha: [(a - 0.03 * y[1]) * y[0], (-0.8 + 0.02 * y[0]) * y[1]],
            (0, 5), [30.0, 5.0], "DOP853", TIMES, rtol=1e-12, atol=1e-12,
        ).y  # fmt: skip
        assert np.allclose(rows.outputs["prey"][i], exact[0], rtol=1e-7)
        assert np.allclose(rows.outputs["predator"][i], exact[1], rtol=1e-7)


def test_the_size_of_a_block_makes_no_difference() -> None:
    z = points(37)  # fewer than a block, and no multiple of one
    whole = solve(z, batch_size=64)
    for size in (1, 10):
        parts = solve(z, batch_size=size)
        assert parts.status.shape == (37,)
        assert np.allclose(parts.outputs["prey"], whole.outputs["prey"], rtol=1e-12)
        assert np.array_equal(parts.num_steps, whole.num_steps)


def test_fewer_rows_than_usual_need_no_program_of_their_own() -> None:
    z, numbers = points(40), np.arange(40)
    ensemble = Ensemble(LotkaVolterra(TIMES), Simulate(simulator="lotka_volterra", num_simulations=40), space())
    whole, few = ensemble(z, numbers), ensemble(z[:3], numbers[:3], like=40)
    assert ensemble._solve._cache_size() == 1  # type: ignore[attr-defined]
    assert np.array_equal(few.outputs["prey"], whole.outputs["prey"][:3]) and few.status.shape == (3,)


def test_a_row_does_not_know_its_neighbours() -> None:
    z = points(20)
    few, many = solve(z[:3], batch_size=16), solve(z, batch_size=16)
    assert np.array_equal(few.outputs["prey"], many.outputs["prey"][:3])


def test_running_out_of_steps_is_a_status() -> None:
    rows = solve(points(4), solver={"max_steps": 4})
    assert (rows.status == Status.MAX_STEPS).all()
    assert not np.isfinite(rows.outputs["prey"]).all(axis=1).any()


CODE = '''
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.simulate.simulators.base import ODESimulator
from simfer.stages.model.outputs import Output

class Root(FunctionSimulator):
    """A square root, which is NaN below zero."""

    parameters = {"a": ""}

    def outputs(self):
        return {"root": Output()}

    def __call__(self, p):
        return {"root": jnp.sqrt(p["a"])}

class Blowup(ODESimulator):
    """y' = y^2 from a: infinite at t = 1 / a."""

    parameters = {"a": ""}

    def initial_state(self, p):
        return p["a"]

    def vector_field(self, t, y, p):
        return y**2

    def observe(self, t, y, p):
        return {"y": y}
'''


def test_a_function_that_gives_nan_is_a_status_of_its_row_alone(plugin: str) -> None:
    z = np.array([[-1.0], [4.0], [0.25]])
    parameters = {"a": {"dist": "Normal"}}
    rows = solve(z, f"{plugin}:Root", options={}, parameters=parameters)
    assert rows.status.tolist() == [Status.NOT_FINITE, Status.OK, Status.OK]
    assert rows.outputs["root"][1:].tolist() == [2.0, 0.5]


def test_a_solution_that_runs_to_infinity_fails_where_it_does_and_only_there(plugin: str) -> None:
    z = np.array([[0.25], [-1.0], [2.0]])  # the last is infinite at t = 0.5
    parameters = {"a": {"dist": "Normal"}}
    rows = solve(z, f"{plugin}:Blowup", options={"times": [0.0, 1.0]}, parameters=parameters, solver={"max_steps": 500})
    assert rows.status[:2].tolist() == [Status.OK, Status.OK] and rows.status[2] != Status.OK
    assert np.allclose(rows.outputs["y"][:2, 1], z[:2, 0] / (1.0 - z[:2, 0]), rtol=1e-4)
    assert jnp.asarray(rows.outputs["y"]).dtype == jnp.float64


def test_a_fixed_step_that_blows_up_is_not_success(plugin: str) -> None:
    z = np.array([[50.0], [-0.5]])
    parameters = {"a": {"dist": "Normal"}}
    euler = {"solver": "Euler", "fixed_step": True, "dt0": 0.1}
    rows = solve(z, f"{plugin}:Blowup", options={"times": [0.0, 1.0]}, parameters=parameters, solver=euler)
    assert rows.status.tolist() == [Status.NOT_FINITE, Status.OK]  # Diffrax itself calls both successful
    assert rows.num_steps[1] in (10, 11)
    assert rows.outputs["y"][1, 1] == pytest.approx(-1 / 3, abs=0.02)
