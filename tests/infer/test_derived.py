"""Quantities that a user's function makes of parameters and outputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.errors import StageError
from simfer.stages.infer.derived import arguments_of, derived_draws
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.preflight.data import derived_mistakes
from simfer.stages.settings import Derived
from tests import helpers

CODE = """
import math

def half_life(slope, *, base=2.0):
    return math.log(base) / abs(slope)

def late(y, intercept):
    return float(y[-1] - intercept)

def whole(slope):
    return [slope, slope]

def largest(v, scale):
    return max(v) * scale
"""


SPACE = SimpleNamespace(size=1, fixed={"scale": 2.0})
LAYOUT = Layout({"y": Output(("x",), {"x": np.arange(2.0)})})
PREDICTOR = SimpleNamespace(
    space=SPACE,
    layout=LAYOUT,
    members=lambda z: jnp.zeros((1, 1)) + z,
    natural=lambda flat: {"y": jnp.array([1.0, 3.0]) + flat},
)
TARGET: Any = SimpleNamespace(
    predictor=PREDICTOR, likelihood=SimpleNamespace(noise_space=SPACE), split=lambda z: (z, z, z)
)


def drawn(code: Path, name: str, **named: np.ndarray) -> np.ndarray:
    derived = {"q": Derived(function=f"{code}:{name}")}
    return derived_draws(derived, TARGET, np.zeros((2, 3, 1)), named)["q"]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "more.py").write_text(CODE)
    return tmp_path / "more.py"


def test_a_function_is_called_at_each_draw(code: Path) -> None:
    slope = np.linspace(-1.0, -0.1, 6).reshape(2, 3)
    assert np.allclose(drawn(code, "half_life", slope=slope), np.log(2.0) / -slope)
    assert np.allclose(drawn(code, "late", intercept=slope), 3.0 - slope)
    vector = {"v[0]": slope, "v[1]": -slope}
    assert np.allclose(drawn(code, "largest", **vector), -2.0 * slope)
    with pytest.raises(StageError, match=r"q: whole gives an array of \(2,\), expected a number"):
        drawn(code, "whole", slope=slope)


def test_what_a_function_takes_is_known_before_anything_runs(code: Path) -> None:
    config = helpers.problem(
        helpers.line(derived={"a": f"{code}:half_life", "b": f"{code}:largest", "c": f"{code}:nothing"})
    )
    assert (
        config.derived["a"].function.endswith("more.py:half_life") and config.derived["a"].words == "more.py:half_life"
    )
    found = derived_mistakes(config, LAYOUT)
    assert [(each.where, "names" in each.what) for each in found] == [
        ("derived.b", True), ("derived.b", True), ("derived.c", False)
    ]  # fmt: skip
    assert "defines no nothing" in found[2].what
    assert arguments_of(lambda a, b=1, **more: a) == ["a"]


@pytest.mark.parametrize("table", [{"unit": "m"}, {"formula": "slope", "function": "x.py:f"}])
def test_it_is_a_formula_or_a_function(table: dict[str, str]) -> None:
    with pytest.raises(Exception, match=r"either a formula|no such file"):
        helpers.problem(helpers.line(derived={"a": table}))
