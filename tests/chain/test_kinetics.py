"""Michaelis-Menten, Robertson and Lorenz: known answers, and their posteriors against exact ones."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.special import ndtr, ndtri

from simfer.pipeline import run
from simfer.stages.model.outputs import Status
from simfer.stages.model.quantiles import from_normal
from simfer.stages.settings import Solver
from simfer.stages.simulate import design
from tests import exact, helpers
from tests.simulate.test_simulators import POINTS, build, solve

CONFIGS = helpers.ROOT / "configs"
STIFF = Solver(solver="Kvaerno5", rtol=1e-9, atol=1e-14)


def data(system: str) -> np.ndarray:
    """Return the data by the names of their columns."""
    return np.genfromtxt(helpers.ROOT / "data" / "observations" / f"{system}.csv", delimiter=",", names=True)


# Known answers


def michaelis_menten(t: float, c: Any, k_a: Any, K_m: Any, V_m: Any) -> Any:
    return (30.0 * k_a * np.exp(-k_a * t) - V_m * c / (K_m + abs(c))) / 2.0


def robertson(t: float, y: Any, k_1: float, k_2: float, k_3: float) -> Any:
    a, b, c = y
    return [k_3 * b * c - k_1 * a, k_1 * a - k_2 * b**2 - k_3 * b * c, k_2 * b**2]


def lorenz(t: float, u: Any, sigma: Any, rho: Any, beta: Any) -> Any:
    x, y, z = u
    return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def test_elimination_far_from_saturation_is_linear() -> None:
    # C = k_a D / V / (k_a - k) (exp(-k t) - exp(-k_a t)) with k = V_m / (K_m V) (Bateman 1910).
    k_a, k, times = 0.7, 0.2, np.linspace(0.5, 10.0, 20)
    point = {"k_a": k_a, "K_m": 1e8, "V_m": 2.0 * k * 1e8}
    bateman = 15.0 * k_a / (k_a - k) * (np.exp(-k * times) - np.exp(-k_a * times))
    assert np.allclose(solve("michaelis_menten", point=point).outputs["concentration"], bateman, rtol=2e-7)


def test_elimination_at_saturation_is_constant() -> None:
    times, point = np.linspace(0.5, 10.0, 20), {"k_a": 0.7, "K_m": 1e-8, "V_m": 1.5}
    absorbed = 15.0 * (1.0 - np.exp(-0.7 * times))
    outputs = solve("michaelis_menten", point=point).outputs["concentration"]
    assert np.allclose(outputs, absorbed - 0.75 * times, rtol=1e-6)


def test_michaelis_menten_is_scipys() -> None:
    times, p = np.linspace(0.5, 10.0, 20), POINTS["michaelis_menten"]
    theirs = solve_ivp(michaelis_menten, (0, 10), [0.0], "LSODA", times, args=tuple(p.values()), rtol=1e-10, atol=1e-10)
    assert np.allclose(solve("michaelis_menten").outputs["concentration"], theirs.y[0], rtol=1e-7)


def test_michaelis_menten_is_solved_all_over_its_heavy_tailed_prior() -> None:
    z = design.rows("sobol", 0, 128, 128, 3, 0)
    theta = from_normal(dist.HalfCauchy(1.0), jnp.asarray(z))
    assert theta.max() > 100.0 and theta.min() < 1e-2
    simulator, solver = build("michaelis_menten"), Solver(solver="Kvaerno5", rtol=1e-7, atol=1e-7)
    names = list(POINTS["michaelis_menten"])
    solved = jax.jit(jax.vmap(lambda row: simulator.solve(dict(zip(names, row, strict=True)), solver)))(theta)
    concentration = np.asarray(solved.outputs["concentration"])
    assert (np.asarray(solved.status) == Status.OK).all()
    assert concentration.min() > -1e-6 and concentration.max() <= 15.0  # the dose in the volume


def test_robertson_has_the_published_solution() -> None:
    # Test Set for Initial Value Problem Solvers (Mazzia & Magherini 2008), problem ROBER at t = 1e11.
    at = {"k_1": 0.04, "k_2": 3e7, "k_3": 1e4}
    outputs = solve("robertson", STIFF, at, times=[1e11]).outputs
    published = {"a": 0.2083340149701255e-07, "b": 0.8333360770334713e-13, "c": 0.9999999791665050}
    for name, value in published.items():
        assert float(outputs[name][0]) == pytest.approx(value, rel=1e-5), name


def test_robertson_is_scipys_and_loses_no_mass() -> None:
    times = [1e-4, 1e-2, 1.0, 40.0, 4e3, 1e5]
    outputs = solve("robertson", STIFF, times=times).outputs
    for method in ("Radau", "BDF"):
        y = solve_ivp(
            robertson, (0, 1e5), [1.0, 0.0, 0.0], method, times, args=tuple(POINTS["robertson"].values()),
            rtol=1e-9, atol=1e-15,
        ).y  # fmt: skip
        for name, theirs in zip("abc", y, strict=True):
            assert np.allclose(outputs[name], theirs, rtol=2e-6, atol=0), (method, name)
    assert np.allclose(outputs["a"] + outputs["b"] + outputs["c"], 1.0, atol=1e-9)


def test_robertson_agrees_with_the_table_in_lsodes_source() -> None:
    # Hindmarsh (1983), ODEPACK: the demonstration in the heading of LSODE, at a relative tolerance of 1e-4.
    table = {4e-1: (9.851726e-01, 3.386406e-05, 1.479357e-02), 4e1: (7.158050e-01, 9.184616e-06, 2.841858e-01),
             4e2: (4.504846e-01, 3.222434e-06, 5.495122e-01)}  # fmt: skip
    outputs = solve("robertson", STIFF, times=list(table)).outputs
    for name, column in zip("abc", zip(*table.values(), strict=True), strict=True):
        assert np.allclose(outputs[name], column, rtol=3e-4), name


def test_lorenz_is_scipys_over_its_window() -> None:
    p, times = list(POINTS["lorenz"].values()), np.linspace(0.0, 2.0, 21)
    y = solve_ivp(lorenz, (0, 2), p[3:], "DOP853", times, args=tuple(p[:3]), rtol=1e-12, atol=1e-12).y
    for name, theirs in zip("XYZ", y, strict=True):
        assert np.allclose(solve("lorenz").outputs[name], theirs, atol=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_lorenz_rests_at_its_fixed_points(side: int) -> None:
    # X = Y = +-sqrt(beta (rho - 1)), Z = rho - 1 (Lorenz 1963, section 6).
    p = POINTS["lorenz"]
    x, z = side * np.sqrt(p["beta"] * (p["rho"] - 1.0)), p["rho"] - 1.0
    outputs = solve("lorenz", point={"X_0": x, "Y_0": x, "Z_0": z}).outputs
    for name, value in {"X": x, "Y": x, "Z": z}.items():
        assert np.allclose(outputs[name], value, atol=1e-7)


def test_lorenz_dies_out_where_conduction_is_stable() -> None:
    # Below rho = 1 the origin attracts all; slowest is the root of s^2 + (sigma + 1) s + sigma (1 - rho) (section 6).
    sigma, rho, times = 10.0, 0.5, [10.0, 20.0]
    outputs = solve("lorenz", Solver(rtol=1e-10, atol=1e-14), {"rho": rho}, times=times, start=0.0).outputs
    slowest = np.roots([1.0, sigma + 1.0, sigma * (1.0 - rho)]).max()
    assert abs(float(outputs["X"][1])) < 1e-3
    assert np.log(outputs["X"][1] / outputs["X"][0]) / 10.0 == pytest.approx(slowest, rel=1e-3)


def flow(times: list[float]) -> Any:
    """Return the derivatives of the Lorenz state at some times with respect to that at time 0."""
    simulator, p = build("lorenz", times=times, start=0.0), POINTS["lorenz"]

    def state(u: Any) -> Any:
        given = {name: jnp.asarray(value) for name, value in p.items()}
        given |= dict(zip(("X_0", "Y_0", "Z_0"), u, strict=True))
        outputs = simulator.solve(given, Solver(rtol=1e-10, atol=1e-10)).outputs
        return jnp.stack([outputs[name] for name in "XYZ"], axis=-1)

    return jax.jit(jax.jacfwd(state))(jnp.asarray([p[name] for name in ("X_0", "Y_0", "Z_0")]))


def test_lorenz_shrinks_every_volume_at_one_rate() -> None:
    # The divergence is -(sigma + 1 + beta) everywhere (Lorenz 1963, section 6), so Liouville's formula is exact.
    p, times = POINTS["lorenz"], [0.5, 1.0, 1.5]
    volume = np.log(np.linalg.det(flow(times)))
    assert np.allclose(volume, -(p["sigma"] + 1.0 + p["beta"]) * np.asarray(times), rtol=1e-5)


def test_lorenz_forgets_its_start_as_fast_as_its_lyapunov_exponent_says() -> None:
    # Sensitivity grows like exp(0.906 t) (Sprott 1997): a unit of time has an error in the start grow 2.5-fold, and
    # thirty units have it grow 1e11-fold. No network learns such a function of its parameters: windows are short.
    growth = np.log([np.linalg.norm(each, 2) for each in flow([2.0, 12.0, 22.0, 32.0])])
    assert growth[0] < 4.0
    assert (growth[-1] - growth[0]) / 30.0 == pytest.approx(0.906, abs=0.15)


# Small variants: one parameter is free, and its exact posterior is summed on a grid

# The free parameter, its prior for us and for SciPy, the output, its noise, the equation, and where it starts.
SMALL: dict[str, Any] = {
    "michaelis_menten": (
        "V_m", {"dist": "HalfCauchy", "scale": 1.0}, stats.halfcauchy(), "concentration", 0.13, michaelis_menten, [0.0],
    ),
    "robertson": (
        "k_1", {"dist": "LogUniform", "low": 0.03, "high": 0.06}, stats.loguniform(0.03, 0.06), "a", 0.02, robertson,
        [1.0, 0.0, 0.0],
    ),
    "lorenz": (
        "rho", {"dist": "LogNormal", "loc": 3.33, "scale": 0.02}, stats.lognorm(0.02, scale=np.exp(3.33)), "X", 1.0,
        lorenz, [-8.0, 8.0, 27.0],
    ),
}  # fmt: skip


@pytest.mark.slow  # the posteriors of test_infer.py, which are exact too, are its twins
@pytest.mark.parametrize("system", SMALL)
def test_the_posterior_of_one_parameter_is_exact(system: str, tmp_path: Path) -> None:
    name, prior, theirs, output, sd, rate, start = SMALL[system]
    shipped = tomllib.loads((CONFIGS / f"{system}.toml").read_text())
    times, y = data(system)["time"][::3], data(system)[output][::3]
    to_data = np.log if system != "lorenz" else np.asarray
    rows = [f"{t!r},{value!r}\n" for t, value in zip(times.tolist(), y.tolist(), strict=True)]
    (tmp_path / "data.csv").write_text(f"time,{output}\n" + "".join(rows))
    config = {
        "parameters": POINTS[system] | {name: prior},
        "simulate": shipped["simulate"]
        | {"num_simulations": 64, "batch_size": 64, "options": {"times": times.tolist(), "start": 0.0}},
        "dataset": {"transform": {output: "none" if system == "lorenz" else "log"}},
        "train": {"ensemble_size": 2, "steps": 1000, "width": 32, "depth": 2},
        "observation": {"file": str(tmp_path / "data.csv")},
        "noise": {output: {"dist": "Normal" if system == "lorenz" else "LogNormal", "scale": sd}},
        "infer": {"num_warmup": 300, "num_samples": 1000, "num_chains": 2},
    }
    posterior = run(config, store=tmp_path / "store", until="infer").posterior["posterior"]

    z = np.linspace(-3.0, 3.0, 121)
    points = [list((POINTS[system] | {name: value}).values())[:3] for value in theirs.ppf(ndtr(z))]
    outputs = np.array([solve_ivp(rate, (0.0, times[-1]), start, "LSODA", times, args=p, rtol=1e-8, atol=1e-12).y[0]
                        for p in points])  # fmt: skip
    log_likelihood = -0.5 * (((to_data(y) - to_data(outputs)) / sd) ** 2).sum(axis=1)
    reference = exact.weighted(z[:, None], log_likelihood - 0.5 * z**2)
    draws = ndtri(theirs.cdf(posterior[name].values))
    assert 0.02 < reference.sd[0] < 0.5  # wider than the grid's step, narrower than the prior
    assert abs(draws.mean() - reference.mean[0]) < 0.12 * reference.sd[0]
    assert 0.9 < draws.std() / reference.sd[0] < 1.1


# The shipped configs


LEVELS = (0.01, 0.05, 0.5, 0.95, 0.99)


def assert_quantiles(draws: np.ndarray, limits: np.ndarray, limits_ess: float = np.inf) -> None:
    """Hold the share of draws (chains x draws) below each quantile of the exact posterior to its level.

    The tolerance is four standard errors, of the draws' share and of quantiles from `limits_ess` points.
    """
    for level, limit in zip(LEVELS, limits, strict=True):
        below = (draws < limit).astype(float)
        ess = array_stats.ess(below, method="mean", chain_axis=0, draw_axis=1) if below.std() else 100.0
        error = np.sqrt(level * (1.0 - level) * (1.0 / min(ess, below.size) + 1.0 / limits_ess))
        assert abs(below.mean() - level) < 4.0 * error, (level, below.mean(), error)


@pytest.mark.slow
def test_michaelis_menten_has_its_exact_posterior_and_that_of_posteriordb(tmp_path: Path) -> None:
    result = run(CONFIGS / "michaelis_menten.toml", store=tmp_path)
    assert result.verdict.passed
    # Every parameter on a grid of whitened values, the equation solved by Runge and Kutta's method for all at once.
    axes = [np.linspace(-0.6, 0.25, 35), np.linspace(-4.5, 3.5, 61), np.linspace(-1.2, 2.6, 96)]
    z = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    theta = stats.halfcauchy.ppf(ndtr(z)).T
    times, y = data("michaelis_menten")["time"], data("michaelis_menten")["concentration"]
    c, outputs = np.zeros(len(z)), []
    for at in times:
        for t in np.arange(at - 0.5, at - 1e-9, 0.02):
            c = c + runge_kutta(michaelis_menten, t, c, 0.02, theta)
        outputs.append(c)
    misfit = ((np.log(y)[:, None] - np.log(np.maximum(outputs, 1e-10))) ** 2).sum(axis=0)
    sigma = np.exp(np.linspace(np.log(0.05), np.log(0.6), 100))
    log = (
        stats.halfcauchy.logpdf(sigma) + (1 - len(y)) * np.log(sigma)
        - 0.5 * misfit[:, None] / sigma**2 - 0.5 * (z**2).sum(axis=1)[:, None]
    )  # fmt: skip
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    shape = tuple(map(len, axes))
    marginals = {name: (axes[i], weight.sum(axis=1).reshape(shape).sum(axis=tuple({0, 1, 2} - {i})))
                 for i, name in enumerate(("k_a", "K_m", "V_m"))}  # fmt: skip
    marginals["concentration_scale"] = (ndtri(stats.halfcauchy.cdf(sigma)), weight.sum(axis=0))
    for name, (grid, mass) in marginals.items():
        draws = ndtri(stats.halfcauchy.cdf(result.posterior["posterior"][name].values))
        assert_quantiles(draws, smooth_quantiles(grid, mass))
    # Means of posteriordb's reference draws for one_comp_mm_elim_abs, with their standard errors.
    published = {"k_a": (0.76101, 0.00078), "V_m": (0.9818, 0.0060), "concentration_scale": (0.12883, 0.00024)}
    for name, (mean, error) in published.items():
        grid, mass = marginals[name]
        assert abs((mass * stats.halfcauchy.ppf(ndtr(grid))).sum() - mean) < 4.0 * error + 1e-4, name


def runge_kutta(rate: Any, t: float, y: np.ndarray, step: float, p: np.ndarray) -> np.ndarray:
    """Return the change in y over one step of the classic method of order four (Kutta 1901)."""
    first = rate(t, y, *p)
    second = rate(t + step / 2, y + step / 2 * first, *p)
    third = rate(t + step / 2, y + step / 2 * second, *p)
    return step / 6 * (first + 2 * second + 2 * third + rate(t + step, y + step * third, *p))


def smooth_quantiles(grid: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return quantiles of a density that is known on a grid coarser than they have to be."""
    fine = np.linspace(grid[0], grid[-1], 20001)
    density = np.exp(CubicSpline(grid, np.log(mass / np.gradient(grid) + 1e-300))(fine))
    return np.interp(LEVELS, np.cumsum(density) / density.sum(), fine)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["robertson", "lorenz"])
def test_the_shipped_posterior_is_exact(system: str, tmp_path: Path) -> None:
    result = run(CONFIGS / f"{system}.toml", store=tmp_path)
    assert result.verdict.passed
    residuals, theirs, start = EXACT[system]()
    reference = exact.importance(residuals, start, 800 if system == "robertson" else 20000)
    assert reference.ess > 250
    limits = np.array([reference.quantile(level) for level in LEVELS])
    for i, (name, prior) in enumerate(theirs.items()):
        draws = ndtri(prior.cdf(result.posterior["posterior"][name].values))
        assert abs(draws.mean() - reference.mean[i]) < 0.12 * reference.sd[i], name
        assert 0.92 < draws.std() / reference.sd[i] < 1.08, name
        assert_quantiles(draws, limits[:, i], reference.ess)


def exact_robertson() -> tuple[Any, dict[str, Any], np.ndarray]:
    seen = data("robertson")
    theirs = {"k_1": stats.loguniform(0.01, 0.1), "k_2": stats.loguniform(1e7, 1e8), "k_3": stats.loguniform(3e3, 3e4)}
    noise = {"a": 0.02, "b": 0.05, "c": 0.05}

    def residuals(z: np.ndarray) -> np.ndarray:
        rows = []
        for point in z:
            p = [prior.ppf(ndtr(value)) for prior, value in zip(theirs.values(), point, strict=True)]
            y = solve_ivp(robertson, (0, 1e5), [1.0, 0.0, 0.0], "LSODA", seen["time"], args=p, rtol=1e-7, atol=1e-13).y
            gaps = [(np.log(seen[n]) - np.log(each)) / noise[n] for n, each in zip("abc", y, strict=True)]
            rows.append(np.concatenate(gaps))
        return np.array(rows)[:, np.isfinite(np.concatenate([seen[n] for n in "abc"]))]

    return residuals, theirs, np.zeros(3)


def exact_lorenz() -> tuple[Any, dict[str, Any], np.ndarray]:
    seen = data("lorenz")
    theirs = {
        "sigma": stats.lognorm(0.2, scale=np.exp(2.3)),
        "rho": stats.lognorm(0.1, scale=np.exp(3.4)),
        "beta": stats.lognorm(0.2, scale=np.exp(1.0)),
    } | {name: stats.norm(at, 2.0) for name, at in {"X_0": -8.0, "Y_0": 8.0, "Z_0": 27.0}.items()}

    def residuals(z: np.ndarray) -> np.ndarray:
        p = np.array([prior.ppf(ndtr(column)) for prior, column in zip(theirs.values(), z.T, strict=True)])
        y, outputs = p[3:], []
        for at in seen["time"]:
            for t in np.arange(at - 0.1, at - 1e-9, 0.005) if at else []:
                y = y + runge_kutta(lorenz, t, y, 0.005, p[:3])
            outputs.append(y)
        gaps = np.array(outputs) - np.stack([seen[n] for n in "XYZ"], axis=1)[:, :, None]
        return gaps.reshape(-1, len(z)).T

    start = {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3, "X_0": -8.0, "Y_0": 8.0, "Z_0": 27.0}
    return residuals, theirs, np.array([ndtri(theirs[name].cdf(value)) for name, value in start.items()])


EXACT = {"robertson": exact_robertson, "lorenz": exact_lorenz}
