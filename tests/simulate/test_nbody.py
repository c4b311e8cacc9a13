"""Gravity, its integrators and star clusters, held against orbits and distributions that are known."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import kstest

from simfer.pipeline import run
from simfer.pipeline.config import load as load_config
from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store
from simfer.stages.simulate.simulators.nbody.cluster import StarCluster
from simfer.stages.simulate.simulators.nbody.gravity import acceleration, kinetic_energy, potential, potential_energy
from simfer.stages.simulate.simulators.nbody.plummer import lagrangian_radius, plummer_sphere
from simfer.stages.simulate.simulators.nbody.symplectic import INTEGRATORS, integrate
from tests.chain.test_reference import FOLDER, ROOT

FOURTH_ORDER = ("forest_ruth", "blanes_moan")
# Three equal masses chase one another along an eight (Chenciner & Montgomery 2000; digits of C. Simo).
EIGHT_X = np.array([[0.97000436, -0.24308753], [-0.97000436, 0.24308753], [0.0, 0.0]]).T
EIGHT_V = np.array([[0.466203685, 0.43236573], [0.466203685, 0.43236573], [-0.93240737, -0.86473146]]).T
EIGHT_PERIOD = 6.32591398
CROSSING_TIME = (3 * np.pi / 32) ** -1.5  # M^(5/2) / (2 |E|)^(3/2) with E = -3 pi / 64: a Plummer sphere of M = a = 1
POINT = {"mass": jnp.asarray(1.0), "scale_radius": jnp.asarray(1.0), "virial_ratio": jnp.asarray(0.5)}


def follow(
    name: str, x: Any, v: Any, masses: Any, softening: float, stop: float, num_steps: int, num_looks: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Return positions and velocities at evenly spaced looks, the start not among them."""
    x, v, masses = jnp.asarray(x), jnp.asarray(v), jnp.asarray(masses)
    accelerate = lambda x: acceleration(x, masses, softening)  # noqa: E731

    def look(state: Any, _: None) -> Any:
        state = integrate(INTEGRATORS[name], accelerate, state, stop / num_steps, num_steps // num_looks)
        return state, state[:2]

    steps = jax.jit(lambda x, v: jax.lax.scan(look, (x, v, accelerate(x)), None, length=num_looks)[1])
    return steps(x, v)  # type: ignore[no-any-return]


def energy_error(name: str, num_steps: int, num_bodies: int = 100, softening: float = 0.1) -> float:
    """Return the largest relative error of the energy of a Plummer sphere in ten crossing times."""
    x, v = plummer_sphere(jax.random.key(0), num_bodies)
    masses = jnp.full(num_bodies, 1.0 / num_bodies)
    energy = jax.vmap(lambda x, v: potential_energy(x, masses, softening) + kinetic_energy(v, masses))
    at, speed = follow(name, x, v, masses, softening, 10 * CROSSING_TIME, num_steps, 50)
    return float(jnp.abs(energy(at, speed) / energy(x[None], v[None]) - 1).max())


@functools.cache
def spheres(num: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return the radii and velocities of many Plummer spheres' bodies."""
    x, v = jax.jit(jax.vmap(lambda key: plummer_sphere(key, 100)))(jax.random.split(jax.random.key(1), num))
    return np.moveaxis(np.asarray(x), 1, 0).reshape(3, -1), np.moveaxis(np.asarray(v), 1, 0).reshape(3, -1)


@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_forces_are_the_closed_form_and_the_gradient_of_the_energy(softening: float) -> None:
    x = jax.random.normal(jax.random.key(0), (3, 7))
    masses = jnp.arange(1.0, 8.0)
    d = np.asarray(x[:, None, :] - x[:, :, None])  # from the body of the second axis to that of the third
    cubed = ((d**2).sum(axis=0) + softening**2 + np.eye(7)) ** 1.5
    closed = (d * np.asarray(masses) / cubed).sum(axis=2)
    gradient = jax.jit(jax.grad(lambda x: potential_energy(x, masses, softening)))(x)
    found = jax.jit(acceleration, static_argnums=2)(x, masses, softening)
    assert np.allclose(found, closed, rtol=1e-12)
    assert np.allclose(found, -gradient / masses, rtol=1e-12)


def test_the_potential_energy_is_its_sum_over_pairs() -> None:
    x, masses = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 4.0]]), np.array([1.0, 2.0, 3.0])
    exact = -(2 / 3 + 3 / 4 + 6 / 5)
    assert float(potential_energy(jnp.asarray(x), jnp.asarray(masses), 0.0)) == pytest.approx(exact)
    assert np.allclose(masses @ potential(jnp.asarray(x), jnp.asarray(masses), 0.0), 2 * exact)


@pytest.mark.parametrize(("name", "order"), [("leapfrog", 2), ("forest_ruth", 4), ("blanes_moan", 4)])
def test_integrators_have_their_order(name: str, order: int) -> None:
    # Kepler's ellipse of eccentricity 1/2 about a mass of 1, followed from pericentre for one period.
    x, v, masses = [[0.5, 0.0], [0.0, 0.0]], [[0.0, 0.0], [np.sqrt(3.0), 0.0]], [1e-14, 1.0]
    coarse, fine = (
        float(jnp.linalg.norm(follow(name, x, v, masses, 0.0, 2 * np.pi, num)[0][-1][:, 0] - jnp.asarray([0.5, 0.0])))
        for num in (300, 600)
    )
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("name", ["leapfrog", "blanes_moan"])
def test_integrators_go_back_the_way_they_came(name: str) -> None:
    x, v = plummer_sphere(jax.random.key(3), 8)
    masses = np.full(8, 1 / 8)
    there, speed = (each[-1] for each in follow(name, x, v, masses, 0.1, 3.0, 60))
    assert np.allclose(follow(name, there, -speed, masses, 0.1, 3.0, 60)[0][-1], x, atol=1e-10)


@pytest.mark.parametrize("name", FOURTH_ORDER)
def test_the_figure_eight_closes(name: str) -> None:
    at, speed = follow(name, EIGHT_X, EIGHT_V, np.ones(3), 0.0, EIGHT_PERIOD, 4000, 2)
    assert np.abs(at[-1] - EIGHT_X).max() < 1e-6 and np.abs(speed[-1] - EIGHT_V).max() < 1e-6
    # Half a period before that all are where they began, left and right exchanged.
    assert np.abs(at[0] - EIGHT_X * np.array([[-1.0], [1.0]])).max() < 1e-6


@pytest.mark.skipif(not (FOLDER / "figure_eight.npz").is_file(), reason=f"no reference orbits in {FOLDER}")
def test_the_figure_eight_is_that_of_another_solver() -> None:
    reference = np.load(FOLDER / "figure_eight.npz")
    at, speed = follow("blanes_moan", EIGHT_X, EIGHT_V, np.ones(3), 0.0, EIGHT_PERIOD, 6400, 64)
    assert np.allclose(np.moveaxis(np.asarray(at), 1, 2), reference["x"][1:], atol=1e-7)
    assert np.allclose(np.moveaxis(np.asarray(speed), 1, 2), reference["v"][1:], atol=1e-7)


def test_a_cluster_moves_as_scipy_says() -> None:
    x, v = plummer_sphere(jax.random.key(5), 6)
    masses = np.full(6, 1 / 6)

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        x, v = y.reshape(2, 3, 6)
        d = x[:, None, :] - x[:, :, None]
        return np.stack([v, (d * masses / ((d**2).sum(axis=0) + 0.1**2) ** 1.5).sum(axis=2)]).ravel()

    start = np.stack([x, v]).ravel()
    exact = solve_ivp(rate, (0, 5), start, "DOP853", rtol=1e-11, atol=1e-11).y[:18, -1].reshape(3, 6)
    assert np.allclose(follow("blanes_moan", x, v, masses, 0.1, 5.0, 1000)[0][-1], exact, atol=1e-7)


def test_energy_is_kept_over_ten_crossing_times() -> None:
    # The twin of the slow test below, with fewer bodies, which come closer to one another, and the better scheme.
    assert energy_error("blanes_moan", 2500, num_bodies=20, softening=0.2) < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps_in_a_crossing"), [("forest_ruth", 500), ("blanes_moan", 250)])
def test_energy_of_a_hundred_bodies_is_kept_over_ten_crossing_times(name: str, steps_in_a_crossing: int) -> None:
    assert energy_error(name, 10 * steps_in_a_crossing) < 1e-6


@pytest.mark.slow
def test_blanes_moan_is_better_for_the_same_number_of_forces() -> None:
    # Six forces in a step against three, so twice the steps of Forest & Ruth.
    assert energy_error("blanes_moan", 2500) < 0.1 * energy_error("forest_ruth", 5000)


def test_plummer_spheres_have_plummers_mass_profile() -> None:
    x, _ = spheres()
    radius = np.linalg.norm(x, axis=0)
    assert kstest(radius, lambda r: (1 + r**-2) ** -1.5).pvalue > 1e-3
    assert kstest(x[2] / radius, "uniform", (-1, 2)).pvalue > 1e-3  # directions


def test_plummer_spheres_have_plummers_velocities() -> None:
    # The integral of q^2 (1 - q^2)^(7/2) is that of the beta distribution (3/2, 9/2) in q^2.
    x, v = spheres()
    share = (v**2).sum(axis=0) * np.sqrt(1 + (x**2).sum(axis=0)) / 2
    assert kstest(share, "beta", (1.5, 4.5)).pvalue > 1e-3
    assert kstest(v[2] / np.linalg.norm(v, axis=0), "uniform", (-1, 2)).pvalue > 1e-3


def test_plummer_spheres_are_in_equilibrium() -> None:
    # Sums over bodies have the means K = 3 pi / 64 and, at each place, v^2 = (1 + r^2)^(-1/2) / 2 (Plummer 1911).
    x, v = spheres()
    squared, expected = (v**2).sum(axis=0), 0.5 / np.sqrt(1 + (x**2).sum(axis=0))
    scatter = 5 * squared.std() / np.sqrt(len(squared))
    assert 0.5 * squared.mean() == pytest.approx(3 * np.pi / 64, abs=0.5 * scatter)
    assert squared.mean() == pytest.approx(expected.mean(), abs=scatter)


@pytest.mark.skipif(not (FOLDER / "nbody_refs.json").is_file(), reason=f"no reference figures in {FOLDER}")
def test_plummers_figures_are_the_references() -> None:
    reference = json.loads((FOLDER / "nbody_refs.json").read_text())["plummer_Henon_units"]
    scale = reference["scale_a"]
    assert float(lagrangian_radius(0.5)) * scale == pytest.approx(reference["half_mass_radius"])
    assert CROSSING_TIME * scale**1.5 == pytest.approx(reference["crossing_time"])
    _, v = spheres()
    kinetic = 0.5 * (v**2).sum(axis=0) / scale
    assert kinetic.mean() == pytest.approx(reference["K"], abs=5 * kinetic.std() / np.sqrt(len(kinetic)))


def test_a_cluster_in_equilibrium_stays_as_it_is() -> None:
    cluster = StarCluster(times=[0.0, 3.0], num_bodies=64)
    draw = jax.jit(jax.vmap(lambda key: cluster(POINT, key)))
    seen = {name: np.asarray(values) for name, values in draw(jax.random.split(jax.random.key(2), 64)).items()}
    for percent in (30, 50, 70):
        first, last = seen[f"radius_{percent}"].mean(axis=0)
        assert first == pytest.approx(float(lagrangian_radius(percent / 100)), rel=0.04)
        assert last == pytest.approx(first, rel=0.08)  # it fluctuates: 2 % for the mean of 64
    assert seen["velocity_dispersion"].mean(axis=0) == pytest.approx(np.sqrt(np.pi / 32), rel=0.05)
    assert (seen["bound_fraction"].mean(axis=0) > 0.99).all()


def test_units_are_those_of_mass_and_radius() -> None:
    # Twice as large and 8 times as heavy: lengths twice, times as before, speeds twice.
    def observed(mass: float, radius: float, softening: float) -> dict[str, jax.Array]:
        cluster = StarCluster(times=[1.0], num_bodies=16, softening=softening)
        point = POINT | {"mass": jnp.asarray(mass), "scale_radius": jnp.asarray(radius)}
        return jax.jit(lambda key: cluster(point, key))(jax.random.key(4))

    small, large = observed(1.0, 1.0, 0.1), observed(8.0, 2.0, 0.2)
    for name in ("radius_50", "velocity_dispersion"):
        assert np.allclose(large[name], 2 * small[name], rtol=1e-9)
    assert np.allclose(large["bound_fraction"], small["bound_fraction"])


def test_a_hot_cluster_falls_apart_and_a_cold_one_falls_in() -> None:
    cluster, key = StarCluster(times=[0.0, 2.0], num_bodies=32), jax.random.key(0)
    observed = jax.jit(lambda q: cluster(POINT | {"virial_ratio": q}, key))
    hot, cold = observed(2.0), observed(0.0)
    assert hot["radius_50"][1] > 1.5 * hot["radius_50"][0] and hot["bound_fraction"][1] < 0.5
    assert cold["radius_50"][1] < 0.7 * cold["radius_50"][0] and cold["bound_fraction"][0] == 1.0


def test_single_precision_sees_the_same_cluster() -> None:
    drawn, masses = spheres(1), np.full(100, 0.01)
    single, double = (
        follow("leapfrog", *(each.astype(t) for each in drawn), masses.astype(t), 0.1, 1.0, 20)[0][-1] for t in "fd"
    )
    assert single.dtype == jnp.float32 and np.allclose(single, double, rtol=1e-4, atol=1e-4)


def test_options_that_cannot_be_met_are_refused() -> None:
    for wrong, message in (
        ({"step": 0.3}, "multiples"),
        ({"integrator": "euler"}, "leapfrog, forest_ruth"),
        ({"dtype": "int8"}, "float32"),
        ({"percents": [0]}, "between 0 and 100"),
    ):
        with pytest.raises(ValueError, match=message):
            StarCluster(**({"times": [1.0]} | wrong))


@pytest.mark.slow  # its twin, a random simulator with an exact posterior, is in test_scatter.py
def test_a_small_clusters_mass_and_radius_are_inferred(tmp_path: Path) -> None:
    # 24 bodies at two times; the problem of the slow test below, and what it measures, cut down to seconds.
    options = {"times": [0.0, 1.0], "num_bodies": 24, "step": 0.1, "percents": [50], "dtype": "float32"}
    truth = {"mass": 1.3, "scale_radius": 0.8}
    point = POINT | {name: jnp.asarray(value) for name, value in truth.items()}
    seen = jax.jit(lambda key: StarCluster(**options)(point, key))(jax.random.key(1912))
    columns = {"time": options["times"]} | {name: np.asarray(values) for name, values in seen.items()}
    file = tmp_path / "cluster.csv"
    np.savetxt(file, np.transpose(list(columns.values())), delimiter=",", header=",".join(columns), comments="")
    wide = {"dist": "LogNormal", "loc": 0.0, "scale": 0.3}
    problem = {
        "parameters": {"mass": wide, "scale_radius": wide, "virial_ratio": 0.5},
        "simulate": {"simulator": "nbody", "num_simulations": 1000, "options": options},
        "dataset": {"transform": {"radius_50": "log", "velocity_dispersion": "log"}},
        "train": {"options": {"width": 16, "depth": 1}, "ensemble_size": 2, "steps": 400},
        "observation": {"file": str(file)},
        "noise": {
            "radius_50": {"dist": "LogNormal", "scale": 0.02},
            "velocity_dispersion": {"dist": "LogNormal", "scale": 0.02},
            "bound_fraction": {"dist": "Normal", "scale": 0.02},
        },
        "infer": {"sampler": "nuts", "num_warmup": 200, "num_samples": 400, "num_chains": 1},
    }
    posterior = run(problem, store=tmp_path / "store", until="infer").posterior["posterior"]
    for name, value in truth.items():
        logs = np.log(posterior[name].values.ravel())
        # The half-mass radius of 24 bodies tells the scale to a tenth or so, and more than that nobody can know.
        assert 0.06 < logs.std() < 0.22
        assert abs(logs.mean() - np.log(value)) < 3 * logs.std()


@pytest.mark.slow
def test_a_cluster_that_was_held_out_is_recovered_and_others_as_often_as_intervals_say(tmp_path: Path) -> None:
    config = ROOT / "configs" / "nbody.toml"
    result = run(config, store=tmp_path)
    assert result.verdict.passed
    for name, value in {"mass": 1.2, "scale_radius": 0.9, "virial_ratio": 1.0}.items():
        low, high = np.quantile(result.posterior["posterior"][name].values, [0.025, 0.975])
        assert low < value < high
    checked = load_config(config, ["calibrate.replicates=100"])
    assert execute_study(checked, Store(tmp_path), "calibrate").summary["facts"]["passed"]
