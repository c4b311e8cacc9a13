"""Rows last gives what `jax.vmap` gives, and keeps the rows last in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.simulate.solve.batching import along_rows

ROWS = 7  # the size of no other axis below
MATRIX = np.random.default_rng(0).normal(size=(6, 6))


@jax.custom_jvp
def doubled(x: Any) -> Any:
    """Return x; its derivative is, by decree, 2."""
    return x * 1.0


doubled.defjvps(lambda tangent, _, x: 2.0 * tangent)


def forces(t: Any, y: Any, p: Any) -> Any:
    """Return the pull of three bodies in a plane upon one another."""
    x, mass = y.reshape(3, 2), jnp.stack([p["a"], p["b"], jnp.asarray(1.0)])
    apart = x[None] - x[:, None]
    square = (apart**2).sum(axis=-1) + 0.01
    return ((mass / (square * jnp.sqrt(square)))[..., None] * apart).sum(axis=1).ravel()


OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "forces": forces,
    "products": lambda t, y, p: (MATRIX @ y, y @ MATRIX, y @ y, jnp.outer(y, y), jnp.einsum("i,ij,j", y, MATRIX, y)),
    "products of two": lambda t, y, p: (y.reshape(3, 2) @ y.reshape(2, 3), jnp.tensordot(MATRIX, MATRIX * t, 2)),
    "pulls": lambda t, y, p: jnp.einsum("ij,ijk->ik", MATRIX[:3, :3] * t, jnp.reshape(MATRIX[:3] * t, (3, 3, 2))),
    "batched product": lambda t, y, p: jnp.einsum("kij,kj->ki", jnp.stack([MATRIX, t * MATRIX]), jnp.stack([y, t * y])),
    "large product": lambda t, y, p: jnp.ones((900, 6)) @ y,
    "scalars": lambda t, y, p: (jnp.clip(MATRIX * t, p["a"], p["b"]), jnp.where(t > 0.0, MATRIX * t, y)),
    "indices": lambda t, y, p: (y[np.array([2, 0])], y.reshape(3, 2)[np.array([2, 0]), 1], y.at[1].set(t), y[::-2]),
    "own indices": lambda t, y, p: (y[y.argmax()], jnp.take(y.reshape(3, 2), y.argmin() % 3, axis=0)),
    "shapes": lambda t, y, p: (jnp.roll(y, 1), jnp.pad(y, 1), jnp.tile(y, (2, 1)), jnp.split(y, 3), jnp.diff(y)),
    "turned": lambda t, y, p: (y.reshape(3, 2).T, jnp.moveaxis(y.reshape(1, 2, 3), 0, 2), jnp.squeeze(y[None])),
    "own constants": lambda t, y, p: (jnp.stack([t, jnp.asarray(1.0)]), jnp.concatenate([y, MATRIX[0]]), jnp.ones(3)),
    "reductions": lambda t, y, p: (y.reshape(3, 2).max(axis=0), jnp.cumsum(y.reshape(3, 2), axis=1), jnp.sort(y)),
    "loops": lambda t, y, p: (jax.lax.fori_loop(0, 3, lambda i, s: s + y[i], t), jax.lax.map(jnp.sin, MATRIX * t)),
    "branches": lambda t, y, p: jax.lax.cond(t > 0.0, lambda: MATRIX @ y, lambda: -y),
    "table": lambda t, y, p: jnp.interp(t, np.linspace(-2.0, 2.0, 6), y),
    "system": lambda t, y, p: jnp.linalg.solve(MATRIX + t * jnp.eye(6), y),
    "own derivative": lambda t, y, p: doubled(y.reshape(3, 2)),
    "within": lambda t, y, p: jax.jacfwd(lambda x: MATRIX @ x**2 * t)(y),
}


@pytest.fixture(scope="module")
def rows() -> Any:
    """Return times, states and parameters of the rows."""
    rng = np.random.default_rng(1)
    times, states, a, b = (jnp.asarray(rng.normal(size=(*own, ROWS))) for own in ((), (6,), (), ()))
    return times, states, {"a": a, "b": b}


def test_every_operation_and_its_derivative_are_those_of_vmap(rows):
    @jax.jit
    def ask(rows):
        def ours(*rows):
            return {name: along_rows(function)(*rows) for name, function in OPERATIONS.items()}

        def vmapped(*rows):
            return {name: jax.vmap(function, -1, -1)(*rows) for name, function in OPERATIONS.items()}

        return tuple(jax.jvp(mapped, rows, rows) for mapped in (ours, vmapped))

    (ours, our_slopes), (expected, slopes) = ask(rows)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for name in OPERATIONS:
        for one, other in zip(jax.tree.leaves(ours[name]), jax.tree.leaves(expected[name]), strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype, name
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12, err_msg=name)
        for one, other in zip(jax.tree.leaves(our_slopes[name]), jax.tree.leaves(slopes[name]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9, err_msg=f"derivative of {name}")


@pytest.mark.parametrize("name", ["forces", "products", "shapes", "turned"])
def test_rows_stay_the_last_axis_of_whatever_is_computed(name, rows):
    made = [eqn.outvars[0].aval.shape for eqn in jax.make_jaxpr(along_rows(OPERATIONS[name]))(*rows).jaxpr.eqns]
    with_rows = [shape for shape in made if ROWS in shape]
    assert len(with_rows) > 3
    assert all(shape[-1] == ROWS for shape in with_rows)


def test_what_has_no_short_axes_is_left_to_vmap(rows):
    def flat(t, y, p):
        return jnp.stack([y[0] * t, jnp.where(y[1] > 0.0, p["a"], y[2])])

    def large(t, y, p):
        return (jnp.ones((100, 100)) * t).sum(axis=1)

    for function in (flat, large):
        ours, vmapped = along_rows(function), jax.vmap(function, -1, -1)
        assert str(jax.make_jaxpr(ours)(*rows)) == str(jax.make_jaxpr(vmapped)(*rows))
