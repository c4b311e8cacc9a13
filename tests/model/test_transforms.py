"""Transforms, their inverses and slopes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.model.transforms import TRANSFORMS

VALUES = np.array([1e-3, 0.2, 1.0, 7.5, 4e4])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_there_and_back(name: str) -> None:
    pair = TRANSFORMS[name]  # type: ignore[index]
    forward = pair.forward(VALUES, 1e-10)
    assert isinstance(forward, np.ndarray)  # NumPy in, NumPy out: a dataset needs no device
    assert np.allclose(pair.inverse(jnp.asarray(forward)), VALUES)
    assert np.allclose(pair.forward(jnp.asarray(VALUES), 1e-10), forward)
    with jax.numpy_dtype_promotion("strict"):
        slope = jax.vmap(jax.grad(pair.inverse))(jnp.asarray(forward))
        assert np.allclose(pair.slope(jnp.asarray(forward)), slope)


@pytest.mark.parametrize("name", ["log", "sqrt"])
def test_nothing_below_the_floor_is_seen(name: str) -> None:
    pair = TRANSFORMS[name]  # type: ignore[index]
    low = pair.forward(np.array([-3.0, 0.0, 1e-9]), 1e-6)
    assert np.isfinite(low).all() and np.allclose(low, low[0])


@pytest.mark.parametrize("name", ["none", "asinh"])
def test_negative_values_are_fine_where_they_can_be(name: str) -> None:
    pair = TRANSFORMS[name]  # type: ignore[index]
    assert np.allclose(pair.inverse(jnp.asarray(pair.forward(-VALUES, 1e-10))), -VALUES)
