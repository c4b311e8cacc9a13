"""How many solves a second: SciPy in a loop, Diffrax under `vmap`, the lanes, and C written by hand?

    python benchmarks/ensembles.py [PROBLEM...]

Everything solves the same rows to the same tolerance, one after the other in each turn; medians over the turns. The C
program is compiled here, if there is a compiler. SciPy's loop takes some of the rows, and its rate stands for all.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs from anywhere

from simfer.pipeline import runtime

runtime.prepare()

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import TypeAdapter
from scipy.integrate import solve_ivp

from simfer.stages.model.space import Space
from simfer.stages.settings import AnyPrior, Simulate
from simfer.stages.simulate import design
from simfer.stages.simulate.ensemble import Ensemble
from simfer.stages.simulate.simulators.base import ODESimulator

TURNS = 5


class LotkaVolterra(ODESimulator):
    """Predators and prey, in numbers of them and not in logarithms: the equation that everyone times."""

    parameters = {"alpha": "", "beta": "", "gamma": "", "delta": ""}

    def initial_state(self, p):
        return jnp.array([30.0, 1.0])

    def vector_field(self, t, y, p):
        prey, predators = y
        return jnp.stack([prey * (p["alpha"] - p["beta"] * predators), predators * (p["delta"] * prey - p["gamma"])])

    def observe(self, t, y, p):
        return {"y": y}


class Lorenz(ODESimulator):
    """Lorenz's convection."""

    parameters = {"sigma": "", "rho": "", "beta": ""}

    def initial_state(self, p):
        return jnp.array([1.0, 1.0, 20.0])

    def vector_field(self, t, y, p):
        x, y, z = y
        return jnp.stack([p["sigma"] * (y - x), x * (p["rho"] - z) - y, x * y - p["beta"] * z])

    def observe(self, t, y, p):
        return {"y": y}


class Robertson(ODESimulator):
    """Robertson's kinetics: stiff."""

    parameters = {"k1": "", "k2": "", "k3": ""}

    def initial_state(self, p):
        return jnp.array([1.0, 0.0, 0.0])

    def vector_field(self, t, y, p):
        first, second, third = p["k1"] * y[0], p["k2"] * y[1] ** 2, p["k3"] * y[1] * y[2]
        return jnp.stack([third - first, first - third - second, second])

    def observe(self, t, y, p):
        return {"y": y}


class ThreeBodies(ODESimulator):
    """Three bodies near the figure of eight (Chenciner & Montgomery 2000), of different masses, softened by 0.1."""

    parameters = {"m1": "", "m2": "", "m3": ""}

    def initial_state(self, p):
        x = np.array([[0.97000436, -0.24308753], [-0.97000436, 0.24308753], [0.0, 0.0]])
        v = np.array([[0.466203685, 0.43236573], [0.466203685, 0.43236573], [-0.93240737, -0.86473146]])
        return jnp.concatenate([x.ravel(), v.ravel()])

    def vector_field(self, t, y, p):
        x, mass = y[:6].reshape(3, 2), jnp.stack([p["m1"], p["m2"], p["m3"]])
        apart = x[None] - x[:, None]
        square = (apart**2).sum(axis=-1) + 0.01
        pull = (mass / (square * jnp.sqrt(square)))[..., None] * apart  # a power of -1.5 takes three times as long
        return jnp.concatenate([y[6:], pull.sum(axis=1).ravel()])

    def observe(self, t, y, p):
        return {"y": y}


class Culled(LotkaVolterra):
    """Predators that die half as fast again from a time on, which is a parameter too."""

    parameters = LotkaVolterra.parameters | {"since": ""}

    def vector_field(self, t, y, p):
        return super().vector_field(t, y, p | {"gamma": jnp.where(t < p["since"], 1.0, 1.5) * p["gamma"]})

    def jumps(self, p):
        return p["since"][None]


class Ring(ODESimulator):
    """Lorenz's ring of forty places (1996), each with a forcing of its own."""

    parameters = {f"f{i}": "" for i in range(40)}

    def initial_state(self, p):
        return jnp.full(40, 8.0).at[0].set(9.0)

    def vector_field(self, t, y, p):
        ahead, behind, before = jnp.roll(y, -1), jnp.roll(y, 1), jnp.roll(y, 2)
        return (ahead - before) * behind - y + jnp.stack([p[name] for name in self.parameters])

    def observe(self, t, y, p):
        return {"y": y}


@dataclass(frozen=True)
class Problem:
    """One equation, where its parameters lie, and how it is solved."""

    title: str
    simulator: type[ODESimulator]
    priors: dict[str, dict[str, Any]]
    times: list[float]
    rows: int
    scipy_method: str
    scipy_rows: int
    solver: dict[str, Any]
    c_problem: int | None = None  # PROBLEM in ensembles.c
    design: tuple[str, int] = ("sobol", 0)  # and its seed


def _log_normal(loc: float, scale: float) -> dict[str, Any]:
    return {"dist": "LogNormal", "loc": loc, "scale": scale}


def _log_uniform(middle: float) -> dict[str, Any]:
    return {"dist": "LogUniform", "low": middle / 10**0.5, "high": middle * 10**0.5}


PREY = {"alpha": _log_normal(-0.125, 0.5), "beta": _log_normal(-3.0, 0.5),
        "gamma": _log_normal(-0.125, 0.5), "delta": _log_normal(-3.0, 0.5)}  # fmt: skip
EXPLICIT = {"solver": "Tsit5", "rtol": 1e-6, "atol": 1e-6}
MASS = {"dist": "Uniform", "low": 0.9, "high": 1.1}
PROBLEMS = {
    "lotka_volterra": Problem(
        "Lotka-Volterra, sbibm's prior, t = 0..20, 21 save points", LotkaVolterra,
        PREY, list(np.linspace(0, 20, 21)), 16384, "LSODA", 200, EXPLICIT, 1),
    "lotka_volterra_hard": Problem(
        "Lotka-Volterra, the prior drawn so that one row runs out of its steps, Diffrax's 4,096", LotkaVolterra,
        PREY, list(np.linspace(0, 20, 21)), 16384, "LSODA", 200, EXPLICIT | {"max_steps": 4096}, 1, ("prior", 2)),
    "robertson": Problem(
        "Robertson, rate constants within a factor 10, t to 1e5, 16 save points", Robertson,
        {"k1": _log_uniform(0.04), "k2": _log_uniform(3e7), "k3": _log_uniform(1e4)},
        [0.0, *np.logspace(-2, 5, 15)], 4096, "LSODA", 100,
        {"solver": "Rodas5P", "rtol": 1e-6, "atol": 1e-10}),
    "lorenz": Problem(
        "Lorenz, t = 0..10, 41 save points", Lorenz,
        {"sigma": {"dist": "Uniform", "low": 8.0, "high": 12.0}, "rho": {"dist": "Uniform", "low": 20.0, "high": 35.0},
         "beta": {"dist": "Uniform", "low": 2.0, "high": 3.5}},
        list(np.linspace(0, 10, 41)), 8192, "LSODA", 100, EXPLICIT, 2),
    "three_bodies": Problem(
        "three bodies near the figure of eight, t = 0..6.3, 64 save points", ThreeBodies,
        {"m1": MASS, "m2": MASS, "m3": MASS}, list(np.linspace(0, 6.3, 64)), 8192, "LSODA", 100, EXPLICIT, 3),
    "dense": Problem(
        "Lotka-Volterra, sbibm's prior, t = 0..20, 1,001 save points", LotkaVolterra,
        PREY, list(np.linspace(0, 20, 1001)), 4096, "LSODA", 200, EXPLICIT, 1),
    "jump": Problem(
        "Lotka-Volterra with a jump at a time that is a parameter, t = 0..20, 21 save points", Culled,
        PREY | {"since": {"dist": "Uniform", "low": 2.0, "high": 18.0}}, list(np.linspace(0, 20, 21)), 16384,
        "DOP853", 50, EXPLICIT, 4),
    "forty": Problem(
        "Lorenz's ring of forty places and forty parameters, t = 0..2, 21 save points", Ring,
        {name: {"dist": "Normal", "loc": 8.0, "scale": 0.5} for name in Ring.parameters}, list(np.linspace(0, 2, 21)),
        2048, "LSODA", 50, EXPLICIT, 5),
}  # fmt: skip


def main() -> None:
    """Time the problems that are named, or all."""
    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, {TURNS} turns each")
    for name in sys.argv[1:] or PROBLEMS:
        run(PROBLEMS[name])


def run(problem: Problem) -> None:
    """Time one problem and print its table."""
    priors = {name: TypeAdapter(AnyPrior).validate_python(prior) for name, prior in problem.priors.items()}
    space, n = Space(priors), problem.rows
    kind, seed = problem.design
    z = design.rows(kind, 0, n, n, space.size, seed)
    theta = np.asarray(space.theta(z))
    settings = Simulate(simulator="linear", num_simulations=n, solver=problem.solver)
    simulator = problem.simulator(times=problem.times)
    lanes = Ensemble(simulator, settings, space)
    at_once = jax.jit(jax.vmap(lambda z: simulator.solve(space.values(z), settings.solver)))
    some = np.random.default_rng(0).choice(n, problem.scipy_rows, replace=False)
    methods: dict[str, tuple[int, Callable[[], Any]]] = {
        f"SciPy, {problem.scipy_method}, a loop": (len(some), lambda: scipy_loop(problem, simulator, theta[some])),
        "Diffrax, jit(vmap(diffeqsolve))": (n, lambda: jax.block_until_ready(at_once(z))),
        "lanes": (n, lambda: lanes(z, np.arange(n))),
    }
    if problem.c_problem is not None and (compiler := shutil.which("cc") or shutil.which("gcc")):
        methods["C, by hand"] = (n, compiled(problem, compiler, theta, settings.solver.max_steps))
    results = {name: solve() for name, (_, solve) in methods.items()}  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(TURNS):
        for name, (_, solve) in methods.items():
            start = time.perf_counter()
            results[name] = solve()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: methods[name][0] / float(np.median(taken)) for name, taken in seconds.items()}
    report(problem, rates, results, some)


def scipy_loop(problem: Problem, simulator: ODESimulator, theta: np.ndarray) -> np.ndarray:
    """Solve rows one after the other, the equation written in Python numbers: the fastest that SciPy can do."""
    start, stop, times = problem.times[0], problem.times[-1], problem.times
    tolerances = {"rtol": problem.solver["rtol"], "atol": problem.solver["atol"]}
    y0 = np.asarray(simulator.initial_state({}))
    field = FIELDS[problem.simulator]
    return np.stack(
        [solve_ivp(field, (start, stop), y0, problem.scipy_method, times, args=tuple(p), **tolerances).y.T
         for p in theta.tolist()]
    )  # fmt: skip


def _lotka_volterra(t, y, a, b, c, d):
    u, v = y
    return u * (a - b * v), v * (d * u - c)


def _lorenz(t, y, sigma, rho, beta):
    x, y, z = y
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def _robertson(t, y, k1, k2, k3):
    first, second, third = k1 * y[0], k2 * y[1] * y[1], k3 * y[1] * y[2]
    return third - first, first - third - second, second


def _three_bodies(t, y, *mass):
    x = y[:6].reshape(3, 2)
    apart = x[None] - x[:, None]
    pull = np.array(mass)[:, None] * apart * ((apart**2).sum(axis=-1) + 0.01)[..., None] ** -1.5
    return np.concatenate([y[6:], pull.sum(axis=1).ravel()])


def _culled(t, y, a, b, c, d, since):
    return _lotka_volterra(t, y, a, b, c if t < since else 1.5 * c, d)


def _ring(t, y, *forcing):
    return (np.roll(y, -1) - np.roll(y, 2)) * np.roll(y, 1) - y + np.array(forcing)


FIELDS: dict[type, Any] = {
    LotkaVolterra: _lotka_volterra, Lorenz: _lorenz, Robertson: _robertson, ThreeBodies: _three_bodies,
    Culled: _culled, Ring: _ring,
}  # fmt: skip


def compiled(problem: Problem, compiler: str, theta: np.ndarray, most: int) -> Callable[[], np.ndarray]:
    """Compile the C program for one problem, and return what solves its rows with it."""
    library = Path(tempfile.mkdtemp(), "ensembles.so")
    flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", f"-DPROBLEM={problem.c_problem}"]
    subprocess.run([compiler, *flags, str(Path(__file__).with_suffix(".c")), "-o", str(library), "-lm"], check=True)
    solve_rows = ctypes.CDLL(str(library)).solve_rows
    times, size = np.array(problem.times), len(problem.simulator(times=problem.times).initial_state({}))
    out, steps = np.empty((len(theta), len(times), size)), np.empty(len(theta), np.int32)

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def solve() -> np.ndarray:
        tolerance = ctypes.c_double(problem.solver["rtol"])
        solve_rows(
            pointer(theta), len(theta), pointer(times), len(times), tolerance, most, pointer(out), pointer(steps)
        )
        return out

    return solve


def report(problem: Problem, rates: dict[str, float], results: dict[str, Any], some: np.ndarray) -> None:
    """Print one problem's table: rates, ratios to the lanes, and the error of each against a tight solve."""
    lanes = results["lanes"]
    fine = lanes.status[some] == 0
    few = some[fine][:20]
    theta = np.asarray(lanes.theta)[few]
    tight = [
        solve_ivp(FIELDS[problem.simulator], (problem.times[0], problem.times[-1]),
                  np.asarray(problem.simulator(times=problem.times).initial_state({})),
                  "Radau" if "Rodas" in problem.solver["solver"] else "DOP853", problem.times,
                  args=tuple(p), rtol=1e-11, atol=1e-14).y.T
        for p in theta.tolist()
    ]  # fmt: skip
    within = [list(some).index(i) for i in few]
    print(f"\n{problem.title}; {problem.rows} rows, tolerance {problem.solver['rtol']:g}, {problem.solver['solver']}")
    print(
        "| | rows a second | lanes are faster by | median error, scaled by each value's tolerance |\n|---|---|---|---|"
    )
    for name, rate in rates.items():
        found = results[name]
        values = found[within] if "SciPy" in name else (found if "C," in name else np.asarray(found.outputs["y"]))[few]
        scaled = np.abs(values - tight) / (problem.solver["atol"] + problem.solver["rtol"] * np.abs(tight))
        print(f"| {name} | {rate:,.0f} | {rates['lanes'] / rate:.3g} | {np.median(scaled):.2g} |")
    steps = lanes.num_steps
    print(
        f"{(lanes.status != 0).sum()} rows failed; steps: mean {steps.mean():.0f}, most {steps.max()}; "
        f"useful steps / steps done in lanes: {steps.sum() / lanes.steps_done.sum():.3f}"
    )


if __name__ == "__main__":
    main()
