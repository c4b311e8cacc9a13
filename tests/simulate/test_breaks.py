"""Jumps and doses: steps end at them, outputs and derivatives are those of closed forms."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.errors import UserCodeError
from simfer.stages.model.outputs import Status
from simfer.stages.settings import Solver
from simfer.stages.simulate.simulators.base import ODESimulator
from simfer.stages.simulate.solve.odes import solve_in_lanes

TIMES = np.linspace(40.0, 60.0, 21)
EXACT = Solver(rtol=1e-9, atol=1e-9)
ROWS = {"k": [0.15, 0.2, 0.25, 0.3], "u": [200.0, 300.0, 250.0, 400.0], "on": [50.0, 50.21, 49.3, 55.7]}


class Pulse(ODESimulator):
    """Half an hour of input to a system that is quiet otherwise; nobody says when."""

    parameters: ClassVar[dict[str, str]] = {"k": "1/h", "u": "1/h", "on": "h"}

    def initial_state(self, p):
        return jnp.asarray(20.0)

    def vector_field(self, t, y, p):
        return p["k"] * (100.0 - y) + p["u"] * ((t >= p["on"]) & (t <= p["on"] + 0.5))

    def observe(self, t, y, p):
        return {"y": y}


class Announced(Pulse):
    """The same, and when its right-hand side jumps."""

    def jumps(self, p):
        return [p["on"] + 0.5, p["on"], 1e6]


def pulse(p: dict[str, np.ndarray]) -> np.ndarray:
    """Return the exact answer, rows by times."""
    k, u, on = (np.asarray(p[name])[:, None] for name in ("k", "u", "on"))
    lasted, since = np.clip(TIMES - on, 0.0, 0.5), np.clip(TIMES - on - 0.5, 0.0, None)
    return 100.0 - 80.0 * np.exp(-k * TIMES) + u / k * (1.0 - np.exp(-k * lasted)) * np.exp(-k * since)


def solved(simulator: ODESimulator, rows: dict[str, Any], solver: Solver) -> dict[str, np.ndarray]:
    """Solve rows in lanes: the outputs, statuses and numbers of steps by name."""
    rows = {name: jnp.asarray(values) for name, values in rows.items()}
    num = len(next(iter(rows.values())))
    solution = jax.jit(lambda p: solve_in_lanes(simulator, solver, p, None, jnp.asarray(num, jnp.int32))[0])(rows)
    found = {**solution.outputs, "status": solution.status, "num_steps": solution.num_steps}
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        (EXACT, 1e-5),
        (Solver(rtol=1e-9, atol=1e-9, solver="Rodas5P"), 1e-5),
        (Solver(rtol=1e-9, atol=1e-9, solver="Kvaerno5"), 1e-3),
        (Solver(fixed_step=True, dt0=0.3), 1e-6),
        (Solver(fixed_step=True, dt0=0.25, solver="Rodas5P"), 1e-6),
    ],
    ids=["Tsit5", "Rodas5P", "Kvaerno5", "fixed step", "fixed step Rodas5P"],
)
def test_a_pulse_that_is_announced_is_exact(solver: Solver, tolerance: float) -> None:
    """Whatever the solver, and whoever chooses the steps."""
    found = solved(Announced(times=TIMES, start=0.0), ROWS, solver)
    assert (found["status"] == Status.OK).all()
    np.testing.assert_allclose(found["y"], pulse(ROWS), rtol=0, atol=tolerance)


def test_a_pulse_that_nobody_announces_is_stepped_over() -> None:
    """The trap: all statuses are ok. With the announcement each row takes but a few steps more."""
    blind, seeing = (solved(kind(times=TIMES, start=0.0), ROWS, Solver()) for kind in (Pulse, Announced))
    assert (blind["status"] == Status.OK).all()
    assert (np.abs(blind["y"] - pulse(ROWS)).max(axis=1) > 50.0).tolist() == [True, True, True, False]
    np.testing.assert_allclose(seeing["y"], pulse(ROWS), rtol=0, atol=2e-4)
    assert (seeing["num_steps"] - blind["num_steps"] < 15).all()


def test_a_longest_step_finds_the_pulse() -> None:
    """Short steps everywhere: dearer than an announcement, and no worse than the pulse's edges allow."""
    found = solved(Pulse(times=TIMES, start=0.0), ROWS, Solver(max_step=0.25))
    np.testing.assert_allclose(found["y"], pulse(ROWS), rtol=0, atol=0.1)
    assert (found["num_steps"] >= 240).all()


def test_fixed_steps_stay_on_their_grid_beside_jumps() -> None:
    """No step is longer than dt0: a jump cuts one in two, and the next ones end where they would have ended."""
    found = solved(
        Announced(times=TIMES, start=0.0), ROWS | {"on": [50.0, 50.1, 49.3, 50.0]}, Solver(fixed_step=True, dt0=0.3)
    )
    np.testing.assert_array_equal(found["num_steps"], [202, 201, 201, 202])  # 50.1 and 49.8 are on it


def test_one_row_alone_is_the_row_in_lanes() -> None:
    """As the likelihood by the simulator asks for it."""
    simulator = Announced(times=TIMES, start=0.0)
    found = solved(simulator, ROWS, EXACT)
    alone = jax.jit(lambda p: simulator.solve(p, EXACT))({name: jnp.asarray(v[2]) for name, v in ROWS.items()})
    np.testing.assert_allclose(np.asarray(alone.outputs["y"]), found["y"][2], rtol=1e-13)
    assert int(alone.num_steps) == found["num_steps"][2]


def test_the_derivative_by_a_jump_s_time_is_exact() -> None:
    """A step's end moves with it: the jump of the slope is part of the derivative."""
    simulator = Announced(times=TIMES, start=0.0)
    rows = {name: jnp.asarray(values) for name, values in ROWS.items()}

    def outputs(on: jax.Array) -> jax.Array:
        num = jnp.asarray(4, jnp.int32)
        return solve_in_lanes(simulator, EXACT, rows | {"on": on}, None, num)[0].outputs["y"]

    _, by_on = jax.jit(lambda on: jax.jvp(outputs, (on,), (jnp.ones(4),)))(rows["on"])
    h, on = 1e-5, np.array(ROWS["on"])
    expected = (pulse(ROWS | {"on": on + h}) - pulse(ROWS | {"on": on - h})) / (2 * h)
    off = np.abs(TIMES - on[:, None]) < 2 * h  # at the jump itself it has two
    off |= np.abs(TIMES - on[:, None] - 0.5) < 2 * h
    assert np.abs(expected[~off]).max() > 100.0
    np.testing.assert_allclose(np.asarray(by_on)[~off], expected[~off], rtol=0, atol=1e-3)


class Doses(ODESimulator):
    """One compartment with absorption: a dose into the depot again and again, the first after a lag."""

    parameters: ClassVar[dict[str, str]] = {"ka": "1/h", "ke": "1/h", "dose": "mg", "lag": "h"}
    num: int = 5

    def initial_state(self, p):
        return {"depot": jnp.zeros(()), "central": jnp.zeros(())}

    def vector_field(self, t, y, p):
        absorbed = p["ka"] * y["depot"]
        return {"depot": -absorbed, "central": absorbed - p["ke"] * y["central"]}

    def doses(self, p):
        return p["lag"] + 12.0 * np.arange(self.num), {"depot": p["dose"], "central": 0.0}

    def observe(self, t, y, p):
        return {"central": y["central"], "depot": y["depot"]}


DOSED = {"ka": [1.0, 0.7], "ke": [0.1, 0.2], "dose": [100.0, 50.0], "lag": [0.0, 0.9]}
SAMPLED = np.array([0.0, 1.0, 6.0, 11.9, 12.0, 13.0, 24.5, 48.0, 50.0, 70.0])


def superposed(p: dict[str, Any], num: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return the amounts in the central compartment and in the depot: each dose's own curve (Bateman's), summed."""
    ka, ke, dose, lag = (np.asarray(p[name])[:, None, None] for name in ("ka", "ke", "dose", "lag"))
    since = SAMPLED[None, :, None] - (lag + 12.0 * np.arange(num))
    after, since = since > 0.0, np.maximum(since, 0.0)
    central = dose * ka / (ka - ke) * (np.exp(-ke * since) - np.exp(-ka * since))
    return (after * central).sum(axis=2), (after * dose * np.exp(-ka * since)).sum(axis=2)


@pytest.mark.parametrize("solver", ["Tsit5", "Rodas5P"])
def test_repeated_doses_are_the_sum_of_their_curves(solver: str) -> None:
    """An output at the time of a dose is the one before it, at the start too."""
    found = solved(Doses(times=SAMPLED, start=0.0), DOSED, Solver(rtol=1e-9, atol=1e-9, solver=solver))
    central, depot = superposed(DOSED)
    np.testing.assert_allclose(found["central"], central, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["depot"], depot, rtol=0, atol=1e-6)
    assert found["depot"][0, 0] == 0.0


def test_the_derivative_by_a_lag_moves_every_dose() -> None:
    """The doses' times depend on a parameter."""
    rows = {name: jnp.asarray(values) for name, values in DOSED.items()} | {"lag": jnp.asarray([0.3, 0.9])}

    def outputs(lag: jax.Array) -> jax.Array:
        simulator = Doses(times=SAMPLED, start=0.0)
        return solve_in_lanes(simulator, EXACT, rows | {"lag": lag}, None, jnp.asarray(2, jnp.int32))[0].outputs[
            "central"
        ]

    _, by_lag = jax.jit(lambda lag: jax.jvp(outputs, (lag,), (jnp.ones(2),)))(rows["lag"])
    h, lag = 1e-5, np.array([0.3, 0.9])
    expected = (superposed(DOSED | {"lag": lag + h})[0] - superposed(DOSED | {"lag": lag - h})[0]) / (2 * h)
    np.testing.assert_allclose(np.asarray(by_lag), expected, rtol=0, atol=1e-4)


class Boluses(ODESimulator):
    """Decay, with boluses of given sizes: two of them at once, one before the rest in the list, one after the end."""

    parameters: ClassVar[dict[str, str]] = {"k": "1/h", "first": "h"}

    def initial_state(self, p):
        return jnp.stack([1.0 + 0.0 * p["k"], jnp.asarray(2.0)])

    def vector_field(self, t, y, p):
        return -p["k"] * y

    def jumps(self, p):
        return [4.0, 3.0]

    def doses(self, p):
        amounts = jnp.array([[0.0, 5.0], [10.0, 0.0], [20.0, 1.0], [1e9, 1e9]])
        return [4.0, p["first"], 4.0, 99.0], amounts

    def observe(self, t, y, p):
        return {"y": y}


def test_doses_come_in_any_order_and_at_one_time() -> None:
    """Amounts for each dose and each part of the state; a jump at the time of a dose is one break with it."""
    times = np.array([0.0, 2.0, 4.0, 5.0, 6.0])
    found = solved(Boluses(times=times), {"k": [0.5, 0.5], "first": [1.0, 4.0]}, EXACT)
    start, added, after = np.array([1.0, 2.0]), np.array([[10.0, 0.0], [20.0, 6.0]]), np.array([[1.0, 4.0], [4.0, 4.0]])
    for row, at in zip(found["y"], after, strict=True):
        since = times[:, None] - at
        decayed = np.where(since > 0, np.exp(-0.5 * np.maximum(since, 0.0)), 0.0)
        np.testing.assert_allclose(row, np.exp(-0.5 * times)[:, None] * start + decayed @ added, rtol=1e-7)


def test_a_dose_before_the_start_fails_the_row() -> None:
    """Nobody solves there, and to leave it out, or to give it later, would be another experiment."""
    found = solved(Boluses(times=np.array([0.0, 5.0])), {"k": [0.5] * 3, "first": [1.0, -0.1, np.nan]}, Solver())
    assert found["status"].tolist() == [Status.OK, Status.OTHER, Status.OTHER]


def test_amounts_have_the_structure_of_the_state() -> None:
    """And a word that says so."""

    class Wrong(Doses):
        def doses(self, p):
            return [0.0], {"depot": 1.0}

    class Short(Boluses):
        def doses(self, p):
            return [0.0, 1.0], jnp.ones(3)

    with pytest.raises(UserCodeError, match=r"expected that of the state.*an amount for each part"):
        solved(Wrong(times=SAMPLED), DOSED, Solver())
    with pytest.raises(UserCodeError, match=r"got amounts of shape \(3,\), expected \(2, 2\)"):
        solved(Short(times=SAMPLED), {"k": [0.5], "first": [1.0]}, Solver())


class Growth(ODESimulator):
    """The logistic equation, in a unit of one's choosing."""

    parameters: ClassVar[dict[str, str]] = {"r": "1/h", "unit": ""}

    def initial_state(self, p):
        return 9.6 * p["unit"]

    def vector_field(self, t, y, p):
        return p["r"] * y * (1.0 - y / (660.0 * p["unit"]))

    def observe(self, t, y, p):
        return {"y": y}


class Filled(Growth):
    """The same from nothing, by a constant inflow."""

    def initial_state(self, p):
        return 0.0 * p["unit"]

    def vector_field(self, t, y, p):
        return p["r"] * (660.0 * p["unit"] - y)


@pytest.mark.parametrize(
    ("kind", "solver"), [(Growth, "Tsit5"), (Growth, "Rodas5P"), (Growth, "Kvaerno5"), (Filled, "Tsit5")]
)
def test_units_do_not_change_an_answer(kind: type[ODESimulator], solver: str) -> None:
    """In 1e-13 of the unit the default absolute tolerance would see nothing: it shrinks with the state."""
    units = np.array([1.0, 1e-13, 2.0**-60])
    times = np.linspace(0.0, 18.0, 10)
    found = solved(kind(times=times), {"r": np.full(3, 0.5), "unit": units}, Solver(solver=solver))
    grown = {
        "Growth": 660.0 / (1.0 + (660.0 / 9.6 - 1.0) * np.exp(-0.5 * times)),
        "Filled": -660.0 * np.expm1(-0.5 * times),
    }
    for row, unit in zip(found["y"], units, strict=True):
        np.testing.assert_allclose(row / unit, grown[kind.__name__], rtol=2e-4)


def test_an_absolute_tolerance_that_is_given_is_kept() -> None:
    """Only the default shrinks; 1e-8 is blind to a state of 1e-12, and a small one takes more steps."""
    rows = {"r": [0.5], "unit": [1e-13]}
    blind, shrunk, seeing = (
        solved(Growth(times=np.linspace(0.0, 18.0, 10)), rows, Solver(atol=atol)) for atol in (1e-8, 1e-6, 1e-19)
    )
    assert blind["num_steps"][0] < shrunk["num_steps"][0] <= seeing["num_steps"][0]
