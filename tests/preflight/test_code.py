"""A mistake in one's own code is answered before anything is computed, with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from simfer import FunctionSimulator, Output
from simfer.pipeline import chain, config
from simfer.stages.model.observation import Series
from simfer.stages.model.plugins import resolve
from simfer.stages.preflight.architecture import architecture_mistakes, option_mistakes, unused_mistakes
from simfer.stages.preflight.code import code_mistakes
from simfer.stages.preflight.noise import noise_mistakes
from simfer.stages.settings import CustomNoise, Simulate
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.ensemble import build_simulator
from simfer.stages.simulate.simulators.base import described
from tests import helpers

FUNCTION = """
import random, time
import jax
import jax.numpy as jnp
import numpy as np
from simfer import FunctionSimulator, ODESimulator, Output

X = np.arange(3.0)
SEEN = []

class Right(FunctionSimulator):
    parameters = {{"a": "", "b": ""}}
    def outputs(self):
        {outputs}
    def __call__(self, p):
        y = p["a"] + p["b"] * X
        {body}
"""
OUTPUTS = 'return {"y": Output(("x",), {"x": X})}'
EQUATION = """
import jax.numpy as jnp
import numpy as np
from simfer import ODESimulator

class Decay(ODESimulator):
    parameters = {{"a": "", "b": ""}}
    def initial_state(self, p):
        {state}
    def vector_field(self, t, y, p):
        {rate}
    def observe(self, t, y, p):
        {observe}
"""
PARTS = {"state": 'return {"u": p["a"]}', "rate": 'return {"u": -p["b"] * y["u"]}', "observe": 'return {"y": y["u"]}'}


def mistakes(file: Path, text: str, name: str, **options: Any) -> str:
    file.write_text(text)
    settings = {"simulator": f"{file}:{name}", "num_simulations": 8, "options": options}
    return "\n".join(f"{each.where}: {each.what}" for each in code_mistakes(build_simulator(Simulate(**settings))))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('return {"y": y}', ""),
        ("pass", "simulate.simulator: right.py, line 15: Right.__call__ gives None; is a `return` missing?, exp"),
        ("return y", "gives an array of shape (3,), expected a table of outputs by name"),
        ("return [y]", "gives a list of an array of shape (3,), expected a table"),
        ('return {"y": y, "extra": y}', "gives extra, which outputs() does not name"),
        ('return {"y": None}', "gives None; is a `return` missing? for the output y, expected a number or an array"),
        ('return {"y": "text"}', "gives str text for the output y"),
        ('return {1: y}', "gives an output named 1"),
        ('return {"y": y + np.random.normal()}', "called twice with the same, does two different things"),
        ('return {"y": jnp.where(y > 0, y, np.random.normal(size=3))}', "does two different things"),
        ('return {"y": y + time.perf_counter()}', "does two different things"),
        ('SEEN.append(0); return {"y": y * len(SEEN)}', "does two different things"),
        ('return {"y": jax.lax.fori_loop(0, 2, lambda i, x: x + random.random(), y)}', "does two different things"),
        ('return {"y": y + np.random.default_rng(0).normal(size=3)}', ""),
    ],
)  # fmt: skip
def test_what_a_function_gives(tmp_path: Path, body: str, expected: str) -> None:
    found = mistakes(tmp_path / "right.py", FUNCTION.format(outputs=OUTPUTS, body=body), "Right")
    assert expected in found and bool(expected) == bool(found)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ("pass", "right.py, line 13: Right.outputs gives None; is a `return` missing?, expected a table"),
        ('return ["y"]', "gives a list of str y, expected a table"),
        ('return {"y": X}', "output y: got an array of shape (3,), expected an Output"),
        ('return {"y": Output(("x",), {})}', "output y: it has no coordinates of its axis 'x'"),
        ('return {"y": Output("x", {"x": X})}', "got dims = 'x', expected a tuple of names"),
        ('return {"y": Output(("x",), {"x": ["a", "b"]})}', "got coordinates x that are no numbers"),
        ('return {"y": Output(("x",), {"x": X * np.nan})}', "expected finite numbers, each there once"),
        ('return {"y": Output(("x",), {"x": [0.0, 1.0, 1.0]})}', "expected finite numbers, each there once"),
        ('return {"y": Output(("x",), {"x": X[None]})}', "expected finite numbers, each there once"),
    ],
)
def test_what_outputs_says(tmp_path: Path, outputs: str, expected: str) -> None:
    text = FUNCTION.format(outputs=outputs, body='return {"y": y}')
    assert expected in mistakes(tmp_path / "right.py", text, "Right")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, ""),
        ({"state": "pass"}, "Decay.initial_state gives None; is a `return` missing?, expected the state"),
        ({"state": 'return {"u": "five"}'}, "gives a table of u (str five), expected the state"),
        (
            {"rate": "pass"},
            "Decay.vector_field gives None; is a `return` missing?, expected the state's rate of change",
        ),
        (
            {"rate": 'return -p["b"] * y["u"]'},
            "gives an array of shape (), expected the state's rate of change, as the",
        ),
        ({"rate": 'return {"u": jnp.stack([y["u"]] * 2)}'}, "gives a table of u (an array of shape (2,)), expected"),
        ({"rate": 'return {"u": y["u"] * np.random.uniform()}'}, "Decay.vector_field, called twice with the same"),
        ({"observe": "pass"}, "decay.py, line 12: Decay.observe gives None; is a `return` missing?, expected a table"),
        ({"observe": 'return y["u"]'}, "Decay.observe gives an array of shape (), expected a table of outputs"),
    ],
)
def test_what_the_parts_of_an_equation_give(tmp_path: Path, parts: Mapping[str, str], expected: str) -> None:
    text = EQUATION.format(**(PARTS | parts))
    found = mistakes(tmp_path / "decay.py", text, "Decay", times=[0.0, 1.0])
    assert expected in found and bool(expected) == bool(found)


NOISE = """
import jax.numpy as jnp
import numpyro.distributions as dist

number = 3.0

def right(y, s):
    return dist.Normal(y, s)

def forgotten(y, s):
    dist.Normal(y, s)

def three(y, s):
    return dist.Normal(y[:3], s)

def scalar(y, s):
    return dist.Normal(y.sum(), s)

def no_distribution(y, s):
    return y + s

def joint(y, s):
    return dist.Normal(y, s).to_event(1)

def censored(y, s):
    return dist.LeftCensoredDistribution(dist.Normal(y, s), censored=jnp.zeros(len(y)))

class Odd(dist.Distribution):
    support = dist.constraints.real_vector

def odd(y, s):
    return Odd(event_shape=y.shape)
"""


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("right", {"s": 1.0}, ""),
        ("right", {"s": {"dist": "HalfNormal"}}, ""),
        ("joint", {"s": 1.0}, ""),
        ("censored", {"s": 1.0}, ""),  # it has no mean, of which the information takes the place
        ("right", {}, "noise.y.s: missing: right takes it; give it a number or a prior"),
        ("right", {"s": 1.0, "r": 2.0}, "noise.y.r: unknown; expected one of s"),
        ("number", {}, "noise.y.dist: got 3.0, expected a function"),
        ("nowhere", {}, "noise.y.dist: noise.py defines no nowhere"),
        (
            "forgotten",
            {"s": 1.0},
            "forgotten gives NoneType, expected a NumPyro distribution, such as Normal(y, 1.0); is",
        ),
        ("no_distribution", {"s": 1.0}, "expected a NumPyro distribution"),
        ("three", {"s": 1.0}, "three gives a distribution of shape (3,), expected (5,), as the output"),
        ("scalar", {"s": 1.0}, "scalar gives a distribution of shape (), expected (5,)"),
        ("odd", {"s": 1.0}, "odd: its distribution does not give log_prob (NotImplementedError"),
    ],
)
def test_what_a_noise_function_gives(tmp_path: Path, name: str, given: dict[str, Any], expected: str) -> None:
    (tmp_path / "noise.py").write_text(NOISE)
    noise = CustomNoise.model_validate({"dist": f"{tmp_path / 'noise.py'}:{name}", **given})
    found = "\n".join(
        f"{each.where}: {each.what}" for each in noise_mistakes("y", noise, Series(np.arange(5.0), np.arange(5)))
    )
    assert expected in found and bool(expected) == bool(found)


NETWORKS = """
import equinox as eqx
import jax.numpy as jnp
from simfer import Architecture

class Right(Architecture):
    layer: eqx.nn.Linear
    def __init__(self, in_size, out_size, *, key):
        self.layer = eqx.nn.Linear(in_size, out_size, key=key)
    def __call__(self, z):
        return self.layer(z)

class Single(Right):
    def __call__(self, z):
        return self.layer(z)[:1]

class Few(Right):
    def __call__(self, z):
        return self.layer(z)[:3]

class Scalar(Right):
    def __call__(self, z):
        return self.layer(z).sum()

class Forgotten(Right):
    def __call__(self, z):
        self.layer(z)
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Right", ""),
        ("Single", "Single gives an array of shape (1,) where out_size = 2, expected shape (2,)"),
        ("Few", "Few gives an array of shape (3,) where out_size = 96, expected shape (96,)"),
        ("Scalar", "Scalar gives an array of shape () where out_size = 2"),
        ("Forgotten", "Forgotten gives NoneType where out_size = 2, expected shape (2,); is a `return` missing?"),
    ],
)
def test_what_a_network_gives(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    problem = helpers.problem(helpers.line(train={"architecture": f"{tmp_path / 'nets.py'}:{name}", "options": None}))
    found = [each.what for each in architecture_mistakes(problem, "train.architecture")]
    assert [expected in what for what in found] == [True] * bool(expected)


@pytest.mark.parametrize(
    ("options", "where"),
    [({"population": [763.0]}, "population"), ({"start": "x"}, "start"), ({"infected_0": True}, "infected_0")],
)
def test_options_of_the_wrong_type_are_named(options: dict[str, Any], where: str) -> None:
    table = helpers.line(
        parameters={name: {"dist": "LogNormal"} for name in ("beta", "gamma")} | {"intercept": None, "slope": None},
        simulate={"simulator": "sir", "options": {"x": None, "times": [0.0, 1.0]} | options},
    )
    [mistake] = [each for each in chain.mistakes(helpers.problem(table)) if each.where.startswith("simulate")]
    assert mistake.where == f"simulate.options.{where}" and mistake.what.startswith("got ")


def test_settings_of_layers_that_no_architecture_has_are_refused() -> None:
    table, deep = helpers.line(train={"options": {"width": None, "depth": None}}), "train.depth=3"
    (mistake,) = unused_mistakes(helpers.problem(table, "train.architecture=gaussian_process", deep))
    assert mistake.where == "train.depth" and "gaussian_process has no such setting" in mistake.what
    assert unused_mistakes(helpers.problem(table, "train.architecture=mlp", deep)) == []
    among = "train.candidates=['gaussian_process', 'mlp']"
    assert unused_mistakes(helpers.problem(table, "train.architecture=auto", among, deep)) == []


def test_units_of_a_function_are_those_of_its_outputs() -> None:
    class Line(FunctionSimulator):
        parameters: ClassVar[dict[str, str]] = {"a": ""}
        units: ClassVar[dict[str, str]] = {"y": "cm", "x": "s"}

        def outputs(self):
            return {"y": Output(("x",), {"x": np.arange(2.0)}), "w": Output((), {}, "kg")}

        def __call__(self, p):
            return {"y": p["a"] * np.arange(2.0), "w": p["a"]}

    assert {name: output.unit for name, output in described(Line()).items()} == {"y": "cm", "w": "kg"}


def test_a_list_may_be_given_for_a_tuple() -> None:
    simulate = config.load(helpers.ROOT / "configs" / "nbody.toml").simulate
    places = dict.fromkeys(simulate.options, "there")
    assert "percents" in places
    assert option_mistakes(resolve(simulate.simulator, SIMULATORS), simulate.options, places) == []


def test_a_simulator_without_slopes_cannot_be_the_likelihood(tmp_path: Path) -> None:
    """It was found out after all was simulated and trained."""
    body = 'return {"y": jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct((3,), float), y)}'
    (tmp_path / "right.py").write_text(FUNCTION.format(outputs=OUTPUTS, body=body))
    (tmp_path / "data.csv").write_text("x,y\n0,1.0\n1,2.0\n")
    table = helpers.line(
        parameters={"a": {"dist": "Normal"}, "b": {"dist": "Normal"}, "intercept": None, "slope": None},
        simulate={"simulator": f"{tmp_path / 'right.py'}:Right", "options": None},
        observation={"file": str(tmp_path / "data.csv")},
        infer={"likelihood": "simulator"},
    )
    [mistake] = chain.mistakes(helpers.problem(table))
    assert mistake.where == "infer.likelihood" and "JAX cannot differentiate" in mistake.what
