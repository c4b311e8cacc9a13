"""Lanes give what `diffrax.diffeqsolve` gives, row by row: the same save points, statuses and numbers of steps."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.ensemble import Ensemble, Rows, build_simulator
from tests import helpers

SIMULATORS = '''
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import ODESimulator


class Oscillator(ODESimulator):
    """A damped oscillator, its state a dictionary."""

    parameters = {"a": "", "b": ""}

    def initial_state(self, p):
        return {"x": p["a"], "v": jnp.zeros(2)}

    def vector_field(self, t, y, p):
        pull = -4.0 * y["x"] * jnp.array([1.0, 0.5])
        return {"x": y["v"].sum(), "v": pull - 0.1 * y["v"] + 0.1 * jnp.cos(p["b"] + t)}

    def observe(self, t, y, p):
        return {"x": y["x"], "energy": jnp.stack([y["v"] @ y["v"], y["x"] ** 2]) + t * 0}


class Stiff(ODESimulator):
    """Van der Pol's oscillator, its stiffness a parameter."""

    parameters = {"a": "", "b": ""}

    def initial_state(self, p):
        return jnp.array([2.0, 0.0])

    def vector_field(self, t, y, p):
        x, v = y
        return jnp.stack([v, 20.0 * jnp.exp(p["a"]) * (1 - x**2) * v - x])

    def observe(self, t, y, p):
        return {"x": y[0]}


class Blowup(ODESimulator):
    """y' = y^2 from a: infinite at t = 1 / a; not a number to begin with where b > 1."""

    parameters = {"a": "", "b": ""}

    def initial_state(self, p):
        return p["a"] + 0.0 * jnp.log(1.0 - p["b"])

    def vector_field(self, t, y, p):
        return y**2

    def observe(self, t, y, p):
        return {"y": y}
'''


EVENTS = """

class Thrown(ODESimulator):
    \"\"\"A stone thrown up from the ground, until it is back; how long it flew is an output too.\"\"\"

    parameters = {"a": "", "b": ""}
    event_direction = False

    def initial_state(self, p):
        return jnp.stack([jnp.zeros(()), 3.0 + 0.3 * p["a"]])

    def vector_field(self, t, y, p):
        return jnp.stack([y[1], -9.81 - 0.1 * y[1]])

    def observe(self, t, y, p):
        return {"height": y[0], "time_of_flight": t}

    def event(self, t, y, p):
        return y[0]


class Fallen(Thrown):
    \"\"\"The same, seen after each step.\"\"\"

    event_direction = None

    def event(self, t, y, p):
        return (y[0] < 0.0) & (t > 0.0)
"""
CODE = SIMULATORS + EVENTS


def ensemble(name: str, num: int, times: Any, devices: Any = (), **simulate: Any) -> Ensemble:
    parameters = {"a": {"dist": "Normal"}, "b": {"dist": "Normal"}}
    space = Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)
    settings = Simulate(simulator=name, num_simulations=num, options={"times": list(times)}, **simulate)
    return Ensemble(build_simulator(settings), settings, space, devices)


def points(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 2))


def solve(made: Ensemble, z: np.ndarray) -> Rows:
    return made(z, np.arange(len(z)))


def one_by_one(made: Ensemble, z: np.ndarray) -> Any:
    """Solve each row with `diffeqsolve`."""
    solve = jax.jit(lambda z: made.simulator.solve(made.space.values(z), made.settings.solver))
    return jax.tree.map(lambda *rows: np.stack(rows), *[jax.device_get(solve(each)) for each in z])


def assert_equal(rows: Rows, alone: Any, rtol: float) -> None:
    assert rows.status.tolist() == alone.status.tolist()
    fine = alone.status == Status.OK
    assert np.array_equal(rows.num_steps[fine], alone.num_steps[fine])
    for name, values in alone.outputs.items():
        assert rows.outputs[name].shape == values.shape
        assert np.allclose(rows.outputs[name][fine], values[fine], rtol=rtol, atol=rtol)
        assert np.array_equal(np.isfinite(rows.outputs[name][fine]), np.isfinite(values[fine]))


EVERY = ["Tsit5", "Dopri5", "Dopri8", "Bosh3", "Heun", "Ralston", "Midpoint", "Kvaerno3", "Kvaerno5", "Rodas5P"]
SOME = {("Tsit5", 1e-4), ("Tsit5", 1e-8), ("Heun", 1e-4), ("Dopri8", 1e-6), ("Kvaerno5", 1e-6), ("Rodas5P", 1e-6)}


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [pytest.param(solver, tolerance, marks=[] if (solver, tolerance) in SOME else [pytest.mark.slow])
     for solver in EVERY for tolerance in (1e-4, 1e-6, 1e-8)],
)  # fmt: skip
def test_every_adaptive_solver_takes_the_same_steps(plugin: str, solver: str, tolerance: float) -> None:
    given = {"solver": solver, "rtol": tolerance, "atol": tolerance, "max_steps": 10**6}
    made = ensemble(f"{plugin}:Oscillator", 20, [0.0, 0.3, 1.0, 1.05, 4.0], solver=given, batch_size=8)
    z = points(20)
    # Dopri8 tells its error by differences so small that rounding moves the next step a little.
    assert_equal(solve(made, z), one_by_one(made, z), 1e-8)


@pytest.mark.parametrize("solver", [pytest.param("Kvaerno3", marks=pytest.mark.slow), "Rodas5P"])
def test_a_stiff_equation_by_an_implicit_solver(plugin: str, solver: str) -> None:
    given = {"solver": solver, "rtol": 1e-4, "atol": 1e-5, "max_steps": 3000}
    made = ensemble(f"{plugin}:Stiff", 12, [0.0, 1.0, 3.0], solver=given, batch_size=4)
    z = 0.5 * points(12)
    assert_equal(solve(made, z), one_by_one(made, z), 1e-7)


@pytest.mark.parametrize("solver", [pytest.param("Tsit5", marks=pytest.mark.slow), "Euler", "LeapfrogMidpoint"])
def test_a_fixed_step(plugin: str, solver: str) -> None:
    given = {"solver": solver, "fixed_step": True, "dt0": 0.03}
    made = ensemble(f"{plugin}:Oscillator", 9, [0.0, 0.3, 1.0], solver=given, batch_size=4)
    z = points(9)
    rows = solve(made, z)
    assert_equal(rows, one_by_one(made, z), 1e-9)
    assert set(rows.num_steps) <= {33, 34}


def test_many_save_points_in_one_step(plugin: str) -> None:
    made = ensemble(f"{plugin}:Oscillator", 20, np.linspace(0.0, 4.0, 701), batch_size=8)
    z = points(20)
    rows = solve(made, z)
    assert rows.num_steps.max() < 100  # so that steps pass more save points than one step records
    assert_equal(rows, one_by_one(made, z), 1e-10)


def test_rows_that_fail_in_every_way(plugin: str) -> None:
    made = ensemble(f"{plugin}:Blowup", 64, [0.0, 0.5, 1.0], solver={"max_steps": 3000}, batch_size=16)
    z = 2.0 * points(64)
    rows, alone = solve(made, z), one_by_one(made, z)
    assert {Status.OK, Status.STEP_TOO_SMALL, Status.NOT_FINITE} == set(rows.status)
    assert_equal(rows, alone, 1e-10)
    assert np.array_equal(rows.status == Status.NOT_FINITE, z[:, 1] >= 1.0)
    assert np.array_equal(rows.status == Status.STEP_TOO_SMALL, (z[:, 0] >= 1.0) & (z[:, 1] < 1.0))
    few = ensemble(f"{plugin}:Blowup", 64, [0.0, 0.5, 1.0], solver={"max_steps": 12}, batch_size=16)
    assert Status.MAX_STEPS in set(solve(few, z).status)
    assert_equal(solve(few, z), one_by_one(few, z), 1e-10)


def test_any_number_of_rows_in_any_number_of_lanes(plugin: str) -> None:
    z = points(70)
    all_rows = solve(ensemble(f"{plugin}:Oscillator", 70, [0.0, 1.0, 4.0], batch_size=16), z)
    for num, lanes in [(1, 8), (5, 1), (33, None)]:
        made = ensemble(f"{plugin}:Oscillator", num, [0.0, 1.0, 4.0], batch_size=lanes)
        rows, again = solve(made, z[:num]), solve(made, z[:num])
        assert np.array_equal(rows.num_steps, all_rows.num_steps[:num])
        assert np.allclose(rows.outputs["x"], all_rows.outputs["x"][:num], rtol=1e-11, atol=1e-13)
        assert all(np.array_equal(rows.outputs[name], again.outputs[name]) for name in rows.outputs)


def test_several_devices_give_what_one_does(plugin: str) -> None:
    devices = jax.local_devices()
    if len(devices) < 2:
        pytest.skip("JAX was started with one device")
    z = points(50)
    one = ensemble(f"{plugin}:Oscillator", 50, [0.0, 1.0, 4.0], batch_size=8)
    all_of_them = ensemble(f"{plugin}:Oscillator", 50, [0.0, 1.0, 4.0], devices, batch_size=8)
    rows, others = solve(one, z), solve(all_of_them, z)
    assert np.array_equal(rows.num_steps, others.num_steps) and np.array_equal(rows.status, others.status)
    assert np.allclose(rows.outputs["energy"], others.outputs["energy"], rtol=1e-11, atol=1e-13)


def test_lanes_are_mostly_busy_whatever_the_rows_cost(plugin: str) -> None:
    given = {"solver": "Tsit5", "max_steps": 20000}
    made = ensemble(f"{plugin}:Stiff", 2048, [0.0, 1.0], solver=given, batch_size=64)
    rows = solve(made, points(2048))
    assert (rows.status == Status.OK).all()
    assert rows.num_steps.max() > 5 * rows.num_steps.mean()  # one row is much harder than the others
    assert rows.num_steps.sum() > 0.9 * rows.steps_done.sum()


@pytest.mark.parametrize("name", ["Thrown", pytest.param("Fallen", marks=pytest.mark.slow)])
def test_an_event_ends_a_solve_and_its_state_is_held(plugin: str, name: str) -> None:
    times = np.linspace(0.0, 1.5, 31)
    made = ensemble(f"{plugin}:{name}", 20, times, batch_size=8)
    z = points(20)
    rows = solve(made, z)
    assert (rows.status == Status.OK).all()
    assert_equal(rows, one_by_one(made, z), 1e-6)
    flight = rows.outputs["time_of_flight"]
    landed = flight[:, -1]
    assert (landed < 1.0).all() and np.allclose(flight, np.minimum(times, landed[:, None]))
    if name == "Thrown":
        # v' = -g - k v from v_0, and so h = (v_0 + g / k) (1 - exp(-k t)) / k - g t / k.
        v_0, g, k = 3.0 + 0.3 * z[:, 0], 9.81, 0.1
        assert np.allclose((v_0 + g / k) * (1 - np.exp(-k * landed)) / k - g * landed / k, 0.0, atol=1e-6)
        assert np.allclose(rows.outputs["height"][:, -1], 0.0, atol=1e-6)
