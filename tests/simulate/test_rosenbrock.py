"""Rodas5P has the order it claims, on equations that depend on time, stiff ones among them."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from simfer.stages.settings import Solver
from simfer.stages.simulate.solve.rosenbrock import Rodas5P, factorize
from simfer.stages.simulate.solve.solvers import build_solver


def solve(vector_field, y0, stop, ts, controller, dt0=None):  # type: ignore[no-untyped-def]
    return diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field), Rodas5P(), 0.0, stop, dt0, y0,
        saveat=diffrax.SaveAt(ts=jnp.asarray(ts)), stepsize_controller=controller, max_steps=10_000,
    )  # fmt: skip


def test_it_converges_with_order_five_and_its_interpolation_with_four() -> None:
    def field(t, y, _):  # type: ignore[no-untyped-def]
        return {"x": -y["x"] * jnp.cos(t) + y["v"] ** 2, "v": jnp.sin(2.0 * t) - y["v"] * y["x"]}

    y0 = {"x": jnp.asarray(1.0), "v": jnp.asarray(0.5)}
    exact = solve_ivp(
        lambda t, y: [-y[0] * np.cos(t) + y[1] ** 2, np.sin(2 * t) - y[0] * y[1]],
        (0, 2), [1.0, 0.5], "DOP853", [0.93, 2.0], rtol=1e-13, atol=1e-13,
    ).y  # fmt: skip
    errors = []
    for steps in (20, 40):
        ys = solve(field, y0, 2.0, [0.93, 2.0], diffrax.ConstantStepSize(), 2.0 / steps).ys
        errors.append(np.abs(np.stack([ys["x"], ys["v"]]) - exact).max(axis=0))
    within, end = np.log2(errors[0] / errors[1])
    assert end > 4.7 and within > 3.7


def test_robertsons_kinetics_end_as_published() -> None:
    def field(t, y, _):  # type: ignore[no-untyped-def]
        first, second, third = 0.04 * y[0], 3e7 * y[1] ** 2, 1e4 * y[1] * y[2]
        return jnp.stack([third - first, first - third - second, second])

    controller = diffrax.PIDController(rtol=1e-8, atol=1e-13)
    solution = solve(field, jnp.array([1.0, 0.0, 0.0]), 1e11, [40.0, 1e11], controller)
    # At t = 40 those of the CVODE example; at 1e11 those of Hairer & Wanner's test set, problem ROBER.
    assert np.allclose(solution.ys[0], [0.7158271, 9.185535e-6, 0.2841637], rtol=2e-6)
    assert np.allclose(solution.ys[1], [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050], rtol=1e-4)
    assert solution.stats["num_steps"] < 1000


@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_linear_systems_are_solved_pivoting_where_they_must(size: int) -> None:
    rng = np.random.default_rng(size)
    matrices = rng.normal(size=(20, size, size))
    if size > 1:
        matrices[::2, 0, 0] = 0.0  # cannot be eliminated as it stands
    right = rng.normal(size=(20, size))
    solved = jax.vmap(lambda a, b: factorize(a)(b))(matrices, right)
    assert np.allclose(solved, np.linalg.solve(matrices, right[..., None])[..., 0], rtol=1e-9, atol=1e-9)


def test_a_config_names_it_like_any_other() -> None:
    assert isinstance(build_solver(Solver(solver="Rodas5P")), Rodas5P)
