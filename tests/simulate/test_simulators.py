"""Every simulator of the table, held against an answer that is not ours."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.ndimage import convolve
from scipy.optimize import brentq

from simfer.stages.model.outputs import Status
from simfer.stages.model.plugins import resolve
from simfer.stages.settings import Solver
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.simulators.base import Simulator, as_times
from simfer.stages.simulate.simulators.gray_scott import GrayScott

TIGHT = Solver(rtol=1e-9, atol=1e-9)
KEY = jax.random.key(0)  # of the stochastic ones
TIMES = np.linspace(0.0, 20.0, 21)
OPTIONS: dict[str, dict[str, Any]] = {
    "gray_scott": {"times": [40.0], "start": 0.0, "size": 8, "patches": [[4, 4, 4]]},
    "linear": {"x": [0.0, 1.0, 3.0]},
    "lorenz": {"times": np.linspace(0.0, 2.0, 21).tolist()},
    "lotka_volterra": {"times": TIMES.tolist()},
    "michaelis_menten": {"times": np.linspace(0.5, 10.0, 20).tolist()},
    "nbody": {"times": [0.0, 1.0], "num_bodies": 12},
    "ornstein_uhlenbeck": {"times": [0.5, 1.0, 3.0], "start": 0.0},
    "robertson": {"times": [1e-3, 1e-2, 1e-1]},
    "sir": {"times": np.linspace(0.0, 153.0, 10).tolist(), "population": 1e6, "infected_0": 1.0},
    "solow": {"times": {"start": 0, "stop": 20, "num": 21}},
    "solow_continuous": {"times": TIMES.tolist()},
    "supernova": {"times": [0.05, 0.5, 1.0, 2.26226]},
}
POINTS: dict[str, dict[str, float]] = {
    "gaussian_mixture": {"theta_1": 3.0, "theta_2": -2.0},
    "gray_scott": {"F": 0.04, "k": 0.06, "D_u": 0.16, "D_v": 0.08},
    "linear": {"intercept": 1.0, "slope": -2.0},
    "lorenz": {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3, "X_0": -8.0, "Y_0": 8.0, "Z_0": 27.0},
    "lotka_volterra": {"alpha": 0.7, "beta": 0.03, "gamma": 0.8, "delta": 0.02, "prey_0": 30.0, "predator_0": 5.0},
    "michaelis_menten": {"k_a": 0.7, "K_m": 2.0, "V_m": 1.5},
    "nbody": {"mass": 1.2, "scale_radius": 0.9, "virial_ratio": 0.6},
    "ornstein_uhlenbeck": {"theta": 1.0, "mu": 0.5, "sigma": 0.7, "x_0": 3.0},
    "robertson": {"k_1": 0.04, "k_2": 3e7, "k_3": 1e4},
    "sir": {"beta": 0.4, "gamma": 0.125},
    "slcp": {"theta_2": 0.7, "theta_1": -0.3, "theta_3": 1.1, "theta_4": -0.9, "theta_5": 0.4},
    "solow": {"saving": 0.25, "alpha": 0.33, "delta": 0.08, "capital_0": 1.5},
    "solow_continuous": {"saving": 0.25, "alpha": 0.33, "delta": 0.08, "capital_0": 1.5},
    "two_moons": {"theta_1": 0.4, "theta_2": -0.2},
    "supernova": {"omega_m": 0.3, "w": -0.8, "offset": 43.16},
}


def build(name: str, **options: Any) -> Simulator:
    return resolve(name, SIMULATORS)(**(OPTIONS.get(name, {}) | options))  # type: ignore[no-any-return]


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
    last = lambda p: next(iter(simulator.solve(p, TIGHT, KEY).outputs.values())).ravel()[-1]  # noqa: E731
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


@pytest.mark.parametrize(("omega_m", "w"), [(0.3, -0.8), (0.01, -0.4), (0.02, -2.9)])
def test_distance_moduli_are_scipys(omega_m: float, w: float) -> None:
    def slowness(z: float) -> float:
        return float((omega_m * (1 + z) ** 3 + (1 - omega_m) * (1 + z) ** (3 * (1 + w))) ** -0.5)

    redshifts = OPTIONS["supernova"]["times"]
    distances = np.array([quad(slowness, 0.0, z, epsabs=1e-14, epsrel=1e-13)[0] for z in redshifts])
    exact = 5.0 * np.log10((1.0 + np.array(redshifts)) * distances) + 43.16
    got = solve("supernova", Solver(rtol=1e-12, atol=1e-12), {"omega_m": omega_m, "w": w}).outputs["distance_modulus"]
    assert np.allclose(got, exact, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("omega_m", "w", "distance"),
    [
        (1.0, -1.0, lambda z: 2.0 * (1.0 - 1.0 / np.sqrt(1.0 + z))),  # Einstein & de Sitter 1932: matter alone
        (0.0, -1.0, lambda z: z),  # de Sitter 1917: a cosmological constant alone
        (0.0, -1.0 / 3.0, lambda z: np.log1p(z)),  # expansion at one speed
    ],
)
def test_distances_of_universes_that_are_known(omega_m: float, w: float, distance: Any) -> None:
    z = np.array(OPTIONS["supernova"]["times"])
    got = solve("supernova", point={"omega_m": omega_m, "w": w, "offset": 0.0}).outputs["distance_modulus"]
    assert np.allclose(got, 5.0 * np.log10((1.0 + z) * distance(z)), rtol=0.0, atol=1e-6)


def test_distance_moduli_are_over_redshift_and_not_at_zero() -> None:
    assert build("supernova").outputs()["distance_modulus"].dims == ("redshift",)
    for wrong in ({"times": [0.0, 1.0]}, {"times": [0.5, 1.0], "start": 0.1}):
        with pytest.raises(ValueError, match="expected redshifts above start = 0"):
            build("supernova", **wrong)


def test_growth_in_continuous_time_is_bernoullis() -> None:
    # k^(1 - alpha) solves a linear equation (Bernoulli 1695): it decays to s / delta at the rate (1 - alpha) delta.
    p = POINTS["solow_continuous"]
    power, ratio = 1.0 - p["alpha"], p["saving"] / p["delta"]
    root = ratio + (p["capital_0"] ** power - ratio) * np.exp(-power * p["delta"] * TIMES)
    outputs = solve("solow_continuous").outputs
    assert np.allclose(outputs["capital"], root ** (1.0 / power), rtol=1e-7)
    assert np.allclose(outputs["output"], root ** (p["alpha"] / power), rtol=1e-7)


def test_growth_of_capital_that_lasts_one_period() -> None:
    # With delta = 1, log k_{t+1} = log s + alpha log k_t: k_t = s^((1 - alpha^t) / (1 - alpha)) k_0^(alpha^t).
    p = POINTS["solow"]
    faded = p["alpha"] ** np.arange(21)
    exact = p["saving"] ** ((1.0 - faded) / (1.0 - p["alpha"])) * p["capital_0"] ** faded
    assert np.allclose(solve("solow", point={"delta": 1.0}).outputs["capital"], exact, rtol=1e-12)


@pytest.mark.parametrize("name", ["solow", "solow_continuous"])
def test_growth_ends_where_saving_replaces_what_wears_out(name: str) -> None:
    p = POINTS[name]
    steady = (p["saving"] / p["delta"]) ** (1.0 / (1.0 - p["alpha"]))  # Solow 1956: s k^alpha = delta k
    outputs = solve(name, times={"start": 0, "stop": 400, "num": 401}).outputs
    assert outputs["capital"][-1] == pytest.approx(steady, rel=1e-6)
    assert outputs["output"][-1] == pytest.approx(steady ** p["alpha"], rel=1e-6)


def test_growth_by_periods_nears_growth_in_continuous_time_as_they_get_short() -> None:
    def far(short: float) -> float:  # a period of `short` years: what is saved and what wears out shrink with it
        p = POINTS["solow"]
        each = {"saving": short * p["saving"], "delta": short * p["delta"]}
        last = {"start": 0, "stop": round(20 / short), "num": round(20 / short) + 1}
        by_period = solve("solow", point=each, times=last).outputs["capital"][-1]
        return abs(float(by_period - solve("solow_continuous").outputs["capital"][-1]))

    assert far(0.1) == pytest.approx(far(0.2) / 2, rel=0.05) and far(0.1) < 0.01  # Euler's steps: first order


def test_periods_are_whole() -> None:
    with pytest.raises(ValueError, match="expected each one period after the last"):
        build("solow", times=[0.0, 0.5, 1.0])


def test_gray_scott_is_scipys() -> None:
    p, weights = POINTS["gray_scott"], np.array([[1.0, 4.0, 1.0], [4.0, -20.0, 4.0], [1.0, 4.0, 1.0]]) / 6.0

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        u, v = y.reshape(2, 8, 8)
        spread = [p[d] * convolve(field, weights, mode="wrap") for d, field in (("D_u", u), ("D_v", v))]
        eaten = u * v * v
        return np.stack([spread[0] - eaten + p["F"] * (1 - u), spread[1] + eaten - (p["F"] + p["k"]) * v]).ravel()

    start = build("gray_scott").initial_state({})
    begun = np.stack([start["u"], start["v"]]).ravel()
    exact = solve_ivp(rate, (0, 40), begun, "DOP853", [40.0], rtol=1e-12, atol=1e-12).y.reshape(2, 8, 8)
    outputs = solve("gray_scott").outputs
    assert np.ptp(exact[1]) > 0.01  # there is a pattern to agree about
    assert np.allclose(outputs["u"][0], exact[0], atol=1e-8) and np.allclose(outputs["v"][0], exact[1], atol=1e-8)


@pytest.mark.parametrize(("k", "survives"), [(0.03, True), (0.05, True), (0.061, False)])
def test_gray_scott_without_space_rests_where_theory_says(k: float, survives: bool) -> None:
    # Beside (1, 0) there are u = (1 -+ sqrt(1 - 4 (F + k)^2 / F)) / 2, v = (F + k) / u, if F >= 4 (F + k)^2: a
    # saddle-node (Pearson 1993), here at k = 0.06.
    feed, whole = 0.04, {"patches": [[0, 0, 2]], "size": 2, "perturbation": 0.0, "times": [4000.0]}
    square = 1.0 - 4.0 * (feed + k) ** 2 / feed
    assert (square > 0) == survives
    u = 0.5 * (1.0 - np.sqrt(max(square, 0.0)))
    expected = {"u": u, "v": (feed + k) / u} if survives else {"u": 1.0, "v": 0.0}
    simulator, p = build("gray_scott", **whole), POINTS["gray_scott"] | {"F": feed, "k": k}
    even = {name: jnp.full((2, 2), value) for name, value in expected.items()}
    assert all(np.abs(rate).max() < 1e-12 for rate in simulator.vector_field(0.0, even, p).values())
    outputs = solve("gray_scott", point={"F": feed, "k": k}, **whole).outputs
    assert all(np.allclose(outputs[name], value, atol=1e-6) for name, value in expected.items())


def test_gray_scott_is_as_stable_as_theory_says() -> None:
    # The state of the smaller u has trace k - v^2 and determinant (F + k) (v^2 - F).
    feed, k = 0.04, 0.03
    u = 0.5 * (1.0 - np.sqrt(1.0 - 4.0 * (feed + k) ** 2 / feed))
    v, p = (feed + k) / u, POINTS["gray_scott"] | {"F": feed, "k": k}
    simulator = build("gray_scott", size=1)

    def rates(y: Any) -> Any:
        out = simulator.vector_field(0.0, {"u": y[0].reshape(1, 1), "v": y[1].reshape(1, 1)}, p)
        return jnp.stack([out["u"].ravel()[0], out["v"].ravel()[0]])

    slopes = np.asarray(jax.jacfwd(rates)(jnp.asarray([u, v])))
    assert np.trace(slopes) == pytest.approx(k - v**2) and k < v**2
    assert np.linalg.det(slopes) == pytest.approx((feed + k) * (v**2 - feed)) and v**2 > feed


class Wave(GrayScott):
    """A wave in u and nothing in v: what is left is diffusion."""

    def initial_state(self, p: dict[str, Any]) -> dict[str, Any]:
        i, j = np.mgrid[: self.size, : self.size] * 2.0 * np.pi / self.size
        return {"u": jnp.asarray(np.cos(2 * i + j)), "v": jnp.zeros((self.size, self.size))}


def test_gray_scotts_waves_fade_with_the_grids_own_rate() -> None:
    simulator = Wave(times=[30.0], start=0.0, size=16)
    p = {"F": 0.0, "k": 0.0, "D_u": 0.16, "D_v": 0.08}
    outputs = jax.jit(lambda p: simulator.solve(p, TIGHT).outputs)(p)
    a, b = 2 * 2.0 * np.pi / 16, 2.0 * np.pi / 16
    rate = ((4 + 2 * np.cos(a)) * (4 + 2 * np.cos(b)) - 36) / 6
    assert np.allclose(outputs["u"][0], np.exp(0.16 * rate * 30.0) * simulator.initial_state(p)["u"], atol=1e-8)
    assert np.all(outputs["v"] == 0.0)
    # To leading order that rate is short of -|k|^2 by a share |k|^2 / 12, whatever the direction.
    assert rate == pytest.approx(-(a**2 + b**2) * (1 - (a**2 + b**2) / 12), rel=0.01)


def test_gray_scott_keeps_what_is_conserved_and_its_symmetry() -> None:
    # Unfed and undrained, one u becomes one v, and diffusion moves them about.
    fed = {"F": 0.0, "k": 0.0}
    start, out = build("gray_scott").initial_state({}), solve("gray_scott", point=fed).outputs
    assert float((out["u"] + out["v"]).sum()) == pytest.approx(float((start["u"] + start["v"]).sum()), rel=1e-10)
    even = solve("gray_scott", perturbation=0.0, size=12, patches=[[6, 6, 4]]).outputs["v"][0]
    assert np.allclose(even, even[::-1], atol=1e-9) and np.allclose(even, even.T, atol=1e-9)


def test_gray_scotts_start_is_fixed_and_a_patch_may_cross_the_edge() -> None:
    start = build("gray_scott", patches=[[0, 7, 3]]).initial_state({})
    assert (np.asarray(start["v"]) > 0).sum() == 9 and start["v"][7, 0] > 0 and start["v"][1, 6] > 0
    inside = np.asarray(start["v"])[np.asarray(start["v"]) > 0]
    assert np.abs(inside / 0.25 - 1).max() <= 0.01 and np.ptp(inside) > 0
    again, other = (build("gray_scott", patches=[[0, 7, 3]], seed=s).initial_state({}) for s in (0, 1))
    assert np.array_equal(start["v"], again["v"]) and not np.array_equal(start["v"], other["v"])
    for wrong in ([], [4, 4, 4], [[4, 4]], [[4, 4, 0]], [[0.5, 4, 4]]):
        with pytest.raises(ValueError, match=r"got patches = .* expected a list of \[y, x, side\]"):
            build("gray_scott", patches=wrong)


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
