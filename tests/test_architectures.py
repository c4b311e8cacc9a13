"""Every architecture of the table, by the same tests."""

from __future__ import annotations

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stages.architectures import ARCHITECTURES
from stages.architectures.base import ACTIVATIONS, Architecture, ClosedForm, activation
from stages.emulator import build_networks
from stages.plugins import resolve

SIZES = (3, 5)


def build(name: str, seed: int = 0, **options: object) -> Architecture:
    return resolve(name, ARCHITECTURES)(*SIZES, key=jax.random.key(seed), **options)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ARCHITECTURES)
class TestEvery:
    def test_it_is_one(self, name: str) -> None:
        made = resolve(name, ARCHITECTURES)
        assert issubclass(made, Architecture) and made.__doc__
        needed = [n for n, p in inspect.signature(made).parameters.items() if p.default is p.empty]
        assert needed == ["in_size", "out_size", "key"]  # every option has a default

    def test_it_maps_a_point_to_outputs(self, name: str) -> None:
        network = build(name)
        assert network(jnp.zeros(3)).shape == (5,)
        many = jax.jit(jax.vmap(network))(jnp.ones((7, 3)))
        assert many.shape == (7, 5) and np.isfinite(many).all()

    def test_its_weights_follow_from_the_key(self, name: str) -> None:
        x = jnp.asarray([0.3, -0.2, 1.0])
        assert np.array_equal(build(name)(x), build(name)(x))
        assert not np.allclose(build(name)(x), build(name, seed=1)(x))

    def test_it_is_smooth(self, name: str) -> None:
        network, x = build(name), jnp.asarray([0.3, -0.2, 1.0])
        slope = jax.jacfwd(network)(x)
        step = 1e-5 * jnp.eye(3)
        numeric = [(network(x + e) - network(x - e)) / 2e-5 for e in step]
        assert np.allclose(slope, jnp.stack(numeric, axis=1), atol=1e-6)
        assert np.abs(jax.jacfwd(jax.jacrev(lambda x: network(x).sum()))(x)).max() > 0  # a second derivative

    def test_an_ensemble_in_float32_stays_in_it(self, name: str) -> None:
        keys = jax.random.split(jax.random.key(0), 4)
        networks = build_networks(name, {}, SIZES, keys, "float32")
        if isinstance(networks, ClosedForm):
            return  # it is one, in float64: tests/test_closed_form.py
        with jax.numpy_dtype_promotion("strict"):
            out = eqx.filter_vmap(lambda network: network(jnp.ones(3, "float32")))(networks)
        assert out.shape == (4, 5) and out.dtype == jnp.float32
        assert len(np.unique(np.asarray(out)[:, 0])) == 4

    def test_width_and_depth_are_options(self, name: str) -> None:
        def count(network: Architecture) -> int:
            return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))

        if not {"width", "depth"} <= set(inspect.signature(resolve(name, ARCHITECTURES)).parameters):
            return
        small, large = build(name, width=8, depth=1), build(name, width=16, depth=2)
        assert count(small) < count(large) < count(build(name, width=16, depth=4))

    def test_an_unknown_activation_is_refused(self, name: str) -> None:
        if "activation" not in inspect.signature(resolve(name, ARCHITECTURES)).parameters:
            return
        with pytest.raises(ValueError, match="expected one of silu"):
            build(name, activation="relu")


def test_activations_are_smooth() -> None:
    for name in ACTIVATIONS:
        bend = jax.grad(jax.grad(activation(name)))
        assert abs(float(bend(jnp.asarray(1e-6))) - float(bend(jnp.asarray(-1e-6)))) < 1e-3
