"""Coordinates are brought to unit size, and curves through saved values are SciPy's cubic splines."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from simfer.stages.emulator.coordinates import grid, interpolate, make_axis


def test_a_coordinate_that_spans_decades_is_taken_in_its_logarithm() -> None:
    assert make_axis(np.geomspace(1e-4, 1e5, 10)).logarithmic
    for values in (np.linspace(1900, 1920, 21), [0.1, 10.0, 20.0, 30.0], [0.0, 1e-4, 1.0, 1e4], [-1.0, 2.0], [5.0]):
        assert not make_axis(values).logarithmic
    for values in (np.geomspace(1e-4, 1e5, 10), np.linspace(1900, 1920, 21)):
        u = make_axis(values).standard(jnp.asarray(values))
        assert abs(u.mean()) < 1e-12 and u.std() == pytest.approx(1.0)


@pytest.mark.parametrize("values", [["low", "high"], [1.0, 2.0, 1.0], [0.0, np.nan]])
def test_coordinates_between_which_nothing_lies_are_refused(values: list[object]) -> None:
    with pytest.raises(ValueError, match="expected finite numbers of which no two are equal"):
        make_axis(values)


@pytest.mark.parametrize("num", [2, 3, 4, 9])
@pytest.mark.parametrize("turned", [False, True])
def test_one_dimension_is_scipys_spline(num: int, turned: bool) -> None:
    x = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, num))
    y, asked = np.sin(x), np.linspace(x[0], x[-1], 23)
    saved = slice(None, None, -1 if turned else 1)
    axis = make_axis(x[saved])
    found = interpolate(jnp.asarray(y[saved]), {"x": axis}, {"x": jnp.asarray(asked)})
    scale = np.log if axis.logarithmic else np.asarray
    assert np.allclose(found, CubicSpline(scale(x), y)(scale(asked)), atol=1e-12)


def test_dimensions_are_taken_one_after_the_other_and_a_single_value_is_constant() -> None:
    t, x = np.linspace(0, 1, 5), np.linspace(0, 2, 6)
    values = jnp.asarray((t[:, None] ** 3 - t[:, None]) * x**2)[:, :, None]  # a product of cubics: its spline is exact
    axes = {"t": make_axis(t), "x": make_axis(x), "one": make_axis([7.0])}
    at = {"x": jnp.asarray([0.3, 1.9]), "one": jnp.asarray([7.0, 7.0, 7.0])}
    found = interpolate(values, axes, at)
    assert found.shape == (5, 2, 3)
    assert np.allclose(found[:, :, 1], (t[:, None] ** 3 - t[:, None]) * np.array([0.3, 1.9]) ** 2, atol=1e-12)
    slope = jax.grad(lambda s: interpolate(values, axes, {"t": s[None]})[0, 3, 0])(jnp.asarray(0.37))
    assert slope == pytest.approx((3 * 0.37**2 - 1) * x[3] ** 2, rel=1e-9)


def test_a_grid_runs_through_its_last_dimension_first() -> None:
    assert np.array_equal(
        grid([np.array([1, 2]), np.array([5, 6, 7])]), [[1, 5], [1, 6], [1, 7], [2, 5], [2, 6], [2, 7]]
    )
    assert grid([]).shape == (1, 0)
