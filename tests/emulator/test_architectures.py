"""Every architecture of the table, by the same tests."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.architectures.base import PROVIDED, Activation, Architecture, ClosedForm, activations
from simfer.stages.emulator.networks import build_networks
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.plugins import resolve
from simfer.stages.preflight import mistakes
from simfer.stages.settings.names import ARCHITECTURES
from tests import helpers

SIZES = (3, 5)
KNOWN = {
    "layout": Layout({"y": Output(("t",), {"t": np.arange(4.0)}), "total": Output()}),
    "families": ("normal", "uniform", "normal"),
    "varies": (True,) * 5,
}


def build(name: str, seed: int = 0, **options: object) -> Architecture:
    asked = {key: value for key, value in KNOWN.items() if key in takes(name)}
    return resolve(name, ARCHITECTURES)(*SIZES, key=jax.random.key(seed), **asked, **options)  # type: ignore[no-any-return]


def takes(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(resolve(name, ARCHITECTURES)).parameters


def those_with(*options: str) -> list[str]:
    return [name for name in ARCHITECTURES if set(options) <= set(takes(name))]


@pytest.mark.parametrize("name", ARCHITECTURES)
class TestEvery:
    def test_it_is_one(self, name: str) -> None:
        made = resolve(name, ARCHITECTURES)
        assert issubclass(made, Architecture) and made.__doc__
        needed = [n for n, p in takes(name).items() if p.default is p.empty]
        assert needed[:3] == ["in_size", "out_size", "key"] and set(needed) <= PROVIDED  # every option has a default

    def test_it_maps_a_point_to_outputs(self, name: str) -> None:
        network = build(name)
        assert jax.eval_shape(network, jnp.zeros(3)).shape == (5,)
        many = jax.jit(jax.vmap(network))(jnp.ones((7, 3)))
        assert many.shape == (7, 5) and np.isfinite(many).all()

    def test_its_weights_follow_from_the_key(self, name: str) -> None:
        x = jnp.asarray([0.3, -0.2, 1.0])
        at = eqx.filter_jit(lambda network, x: network(x))
        assert np.array_equal(at(build(name), x), at(build(name), x))
        assert not np.allclose(at(build(name), x), at(build(name, seed=1), x))

    def test_it_is_smooth(self, name: str) -> None:
        x, step = np.array([0.3, -0.2, 1.0]), 1e-5 * np.eye(3)

        @eqx.filter_jit
        def all_of_it(network: Architecture) -> tuple[jax.Array, ...]:
            bend = jax.jacfwd(jax.jacrev(lambda x: network(x).sum()))(jnp.asarray(x))
            return jax.jacfwd(network)(jnp.asarray(x)), jax.vmap(network)(x + step), jax.vmap(network)(x - step), bend

        slope, up, down, bend = all_of_it(build(name))
        assert np.allclose(slope, ((up - down) / 2e-5).T, atol=1e-6)
        assert np.abs(bend).max() > 0

    def test_an_ensemble_in_float32_stays_in_it(self, name: str) -> None:
        keys = jax.random.split(jax.random.key(0), 4)
        networks = build_networks(name, {}, SIZES, keys, "float32", KNOWN)
        if isinstance(networks, ClosedForm):
            return  # it is one, in float64: tests/test_closed_form.py
        with jax.numpy_dtype_promotion("strict"):
            out = eqx.filter_jit(eqx.filter_vmap(lambda network: network(jnp.ones(3, "float32"))))(networks)
        assert out.shape == (4, 5) and out.dtype == jnp.float32
        assert len(np.unique(np.asarray(out)[:, 0])) == 4


@pytest.mark.parametrize("name", those_with("width", "depth"))
def test_width_and_depth_are_options(name: str) -> None:
    def count(network: Architecture) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))

    small, large = build(name, width=8, depth=1), build(name, width=16, depth=2)
    assert count(small) < count(large) < count(build(name, width=16, depth=4))


@pytest.mark.parametrize("name", those_with("activation"))
def test_an_unknown_activation_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected one of learned, silu"):
        build(name, activation="relu")


def test_cosmopower_activates_as_published() -> None:
    network = build("cosmopower", width=4, depth=1)
    x = np.array([0.3, -0.2, 1.0])
    beta, gamma = np.asarray(network.beta[0]), np.asarray(network.gamma[0])
    first, last = network.layers
    h = np.asarray(first.weight) @ x + np.asarray(first.bias)
    h = (gamma + (1.0 + np.exp(-beta * h)) ** -1 * (1.0 - gamma)) * h  # Spurio Mancini et al. 2022, equation 5
    assert np.allclose(network(jnp.asarray(x)), np.asarray(last.weight) @ h + np.asarray(last.bias), rtol=1e-12)


@pytest.mark.parametrize("learned", [True, False])
def test_waves_are_learned_or_stay_as_drawn(learned: bool) -> None:
    network = build("fourier", learned=learned, num_features=2000, frequency=0.5)
    slope = eqx.filter_grad(lambda network: network(jnp.ones(3)).sum())(network)
    assert bool(np.any(slope.waves)) == learned
    assert np.asarray(network.waves).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("normalize", ["layer", "rms"])
def test_blocks_may_be_normalised(normalize: str) -> None:
    plain, normal = build("residual"), build("residual", normalize=normalize)
    x = jnp.asarray([0.3, -0.2, 1.0])
    assert not plain.norms and len(normal.norms) == len(normal.blocks)

    # What is normalised does not know its size: 1000 x has the blocks of x.
    def added(network: Architecture, x: jax.Array) -> jax.Array:
        h = network.norms[0](1e3 * network.first.weight @ x) if network.norms else 1e3 * network.first.weight @ x
        (inner, outer), (before, between) = network.blocks[0], network.activations[:2]
        return outer(between(inner(before(h))))

    assert np.allclose(added(normal, x), added(normal, 10.0 * x), atol=1e-3)
    assert not np.allclose(added(plain, x), added(plain, 10.0 * x), atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "option", "value", "words"),
    [
        ("mlp", "width", "64", 'got "64", expected a whole number'),
        ("mlp", "width", 64.5, "got 64.5, expected a whole number"),
        ("mlp", "depth", 0, "got 0, expected greater than 0"),
        ("residual", "depth", True, "got true, expected a whole number"),
        (
            "residual",
            "activation",
            "sliu",
            "got \"sliu\", expected 'learned', 'silu', 'gelu', 'softplus' or 'tanh'. Did you mean \"silu\"?",
        ),
        ("residual", "normalize", "batch", "got \"batch\", expected 'none', 'layer' or 'rms'."),
        ("fourier", "frequency", -1.0, "got -1.0, expected greater than 0"),
        ("fourier", "learned", "yes", 'got "yes", expected true or false'),
        ("deeponet", "waves", -1, "got -1, expected greater than or equal to 0"),
    ],
)
def test_an_option_of_a_wrong_kind_or_value_is_refused(
    architecture: str, option: str, value: object, words: str
) -> None:
    table = helpers.line(train={"architecture": architecture, "options": {option: value}})
    found = {each.where: each.what for each in mistakes(helpers.problem(table))}
    assert words in found[f"train.options.{option}"]


def test_an_option_for_any_network_is_held_against_the_one_named() -> None:
    found = mistakes(helpers.problem(helpers.line(train={"options": {}, "activation": "relu"})))
    assert [each.where for each in found] == ["train.activation"]
    (found,) = mistakes(helpers.problem(helpers.line(train={"architecture": "cosmopower", "activation": "relu"})))
    assert found.where == "train.activation" and "cosmopower has no such setting" in found.what


def test_ones_own_class_needs_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    table = helpers.line(train={"architecture": f"{tmp_path / 'own.py'}:Own"})
    table["train"]["options"] = {"width": 2.5, "kind": "b"}
    assert not mistakes(helpers.problem(table))
    table["train"]["options"] = {"kind": "c"}
    found = {each.where: each.what for each in mistakes(helpers.problem(table))}
    assert "expected 'a' or 'b'" in found["train.options.kind"]


OWN = """
from typing import Literal
from simfer.stages.emulator.architectures.base import Architecture

class Own(Architecture):
    out_size: int

    def __init__(self, in_size, out_size, *, key, layout, width=3, kind: Literal["a", "b"] = "a"):
        assert layout.size == out_size
        self.out_size = out_size

    def __call__(self, z):
        return z[:1].repeat(self.out_size)
"""


def test_every_unit_learns_the_shape_of_its_activation() -> None:
    network = build("residual", width=4, depth=1)
    x = jnp.asarray([0.3, -0.2, 1.0])
    h = network.first.weight @ x + network.first.bias
    before, between, last = network.activations
    assert np.allclose(before(h), h / (1.0 + np.exp(-h / 2.0)), rtol=1e-12)
    inner, outer = network.blocks[0]
    added = h + outer(between(inner(before(h))))
    assert np.allclose(network(x), network.last(last(added)), rtol=1e-12)
    slope = eqx.filter_grad(lambda network: (network(x) ** 2).sum())(network)
    for each in slope.activations:
        assert np.all(each.beta != 0.0) and np.all(each.gamma != 0.0)
        assert len(set(np.asarray(each.gamma).tolist())) == 4  # each unit for itself


def test_activations_are_smooth() -> None:
    for name in get_args(Activation):
        [activate] = activations(name, 1, 1)
        bend = jax.grad(jax.grad(lambda x: activate(x[None])[0]))  # noqa: B023
        assert abs(float(bend(jnp.asarray(1e-6))) - float(bend(jnp.asarray(-1e-6)))) < 1e-3
