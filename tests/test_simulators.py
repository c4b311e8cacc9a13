"""Every simulator of the table, held against an answer that is not ours."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from stages.plugins import resolve
from stages.settings import Solver
from stages.simulators import SIMULATORS
from stages.simulators.base import Simulator, Status, as_times

TIGHT = Solver(rtol=1e-9, atol=1e-9)
KEY = jax.random.key(0)  # of the stochastic ones
TIMES = np.linspace(0.0, 20.0, 21)
OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"x": [0.0, 1.0, 3.0]},
    "lotka_volterra": {"times": TIMES.tolist()},
    "nbody": {"times": [0.0, 1.0], "num_bodies": 12},
    "ornstein_uhlenbeck": {"times": [0.5, 1.0, 3.0], "start": 0.0},
    "sir": {"times": np.linspace(0.0, 153.0, 10).tolist(), "population": 1e6, "infected_0": 1.0},
}
POINTS: dict[str, dict[str, float]] = {
    "linear": {"intercept": 1.0, "slope": -2.0},
    "lotka_volterra": {"alpha": 0.7, "beta": 0.03, "gamma": 0.8, "delta": 0.02, "prey_0": 30.0, "predator_0": 5.0},
    "nbody": {"mass": 1.2, "scale_radius": 0.9, "virial_ratio": 0.6},
    "ornstein_uhlenbeck": {"theta": 1.0, "mu": 0.5, "sigma": 0.7, "x_0": 3.0},
    "sir": {"beta": 0.4, "gamma": 0.125},
}


def build(name: str, **options: Any) -> Simulator:
    return resolve(name, SIMULATORS)(**(OPTIONS[name] | options))  # type: ignore[no-any-return]


def solve(name: str, solver: Solver = TIGHT, point: dict[str, float] | None = None, **options: Any) -> Any:
    simulator, at = build(name, **options), POINTS[name] | (point or {})
    return jax.jit(lambda p: simulator.solve(p, solver, KEY))({k: jnp.asarray(v) for k, v in at.items()})


@pytest.mark.parametrize("name", SIMULATORS)
def test_outputs_are_as_described(name: str) -> None:
    simulator, solution = build(name), solve(name)
    assert set(POINTS[name]) == set(simulator.parameters)
    described = simulator.outputs()
    assert set(solution.outputs) == set(described)
    for output, value in solution.outputs.items():
        assert value.shape == described[output].shape and value.dtype == jnp.float64
        assert set(described[output].coords) == set(described[output].dims)
    assert int(solution.status) == Status.OK


@pytest.mark.parametrize("name", SIMULATORS)
def test_outputs_have_gradients(name: str) -> None:
    simulator = build(name)
    point = {k: jnp.asarray(v) for k, v in POINTS[name].items()}
    last = lambda p: next(iter(simulator.solve(p, TIGHT, KEY).outputs.values()))[-1]  # noqa: E731
    key = next(iter(point))
    slope = jax.jit(jax.jacfwd(last))(point)[key]  # gradients go forward: the parameters are few
    step, at = 1e-4 * float(point[key]), jax.jit(last)
    up, down = (at({**point, key: point[key] + sign * step}) for sign in (1, -1))
    assert float(slope) == pytest.approx(float(up - down) / (2 * step), rel=1e-3)


def test_a_straight_line_is_one() -> None:
    assert np.allclose(solve("linear").outputs["y"], [1.0, -1.0, -5.0])


def test_lotka_volterra_is_scipys() -> None:
    p = POINTS["lotka_volterra"]

    def rate(t: float, y: np.ndarray) -> list[float]:
        return [(p["alpha"] - p["beta"] * y[1]) * y[0], (-p["gamma"] + p["delta"] * y[0]) * y[1]]

    exact = solve_ivp(rate, (0, 20), [30.0, 5.0], "DOP853", TIMES, rtol=1e-12, atol=1e-12).y
    outputs = solve("lotka_volterra").outputs
    assert np.allclose(outputs["prey"], exact[0], rtol=1e-6)
    assert np.allclose(outputs["predator"], exact[1], rtol=1e-6)


def test_lotka_volterra_keeps_what_is_conserved() -> None:
    # delta u - gamma log u + beta v - alpha log v is constant along a solution (Volterra 1926).
    p, out = POINTS["lotka_volterra"], solve("lotka_volterra").outputs
    u, v = out["prey"], out["predator"]
    kept = p["delta"] * u - p["gamma"] * jnp.log(u) + p["beta"] * v - p["alpha"] * jnp.log(v)
    assert np.ptp(kept) < 1e-7 * np.abs(kept).max()


def test_lotka_volterra_rests_at_its_fixed_point() -> None:
    p = POINTS["lotka_volterra"]
    rest = {"prey_0": p["gamma"] / p["delta"], "predator_0": p["alpha"] / p["beta"]}
    assert np.allclose(solve("lotka_volterra", point=rest).outputs["prey"], rest["prey_0"])


def test_sir_is_scipys() -> None:
    p, n = POINTS["sir"], 1e6

    def rate(t: float, y: np.ndarray) -> list[float]:
        new = p["beta"] * y[0] * y[1] / n
        return [-new, new - p["gamma"] * y[1]]

    times = np.asarray(OPTIONS["sir"]["times"])
    exact = solve_ivp(rate, (0, 153), [n - 1, 1.0], "DOP853", times, rtol=1e-12, atol=1e-9).y[1]
    assert np.allclose(solve("sir").outputs["infected"], exact, rtol=1e-5)


def test_sir_ends_at_the_final_size() -> None:
    # log s = R0 (s - 1) - R0 i0 for the susceptible share s at the end (Kermack & McKendrick 1927); what recovered
    # is gamma times the integral of the infected.
    p = POINTS["sir"]
    ratio = p["beta"] / p["gamma"]
    share = brentq(lambda s: np.log(s) - ratio * (s - 1.0), 1e-9, 0.9)
    times = np.linspace(0.0, 400.0, 8001)
    infected = np.asarray(solve("sir", times=times).outputs["infected"])
    recovered = p["gamma"] * np.trapezoid(infected, times)
    assert recovered / 1e6 == pytest.approx(1.0 - share, rel=1e-4)


def test_a_start_before_the_first_time() -> None:
    # Half of an exponential decay has gone by when the first datum is taken.
    late = solve("lotka_volterra", times=[3.0, 4.0], start=0.0).outputs["prey"]
    whole = solve("lotka_volterra", times=[0.0, 3.0, 4.0]).outputs["prey"]
    assert np.allclose(late, whole[1:], rtol=1e-7)


def test_save_times() -> None:
    assert as_times({"start": 0, "stop": 10, "num": 3}).tolist() == [0.0, 5.0, 10.0]
    for wrong in ([], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [[0.0]], {"start": 0, "stop": 1}, {"start": 0, "end": 1}):
        with pytest.raises(ValueError, match=r"got times = .* expected"):
            as_times(wrong)
