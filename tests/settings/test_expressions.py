"""The language of formulas: what it comes to, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.settings.expressions import parse

Y = np.array([1.0, -2.0, 4.0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 ** 2 / 2 - 4", 6.0),
        ("-2 ** 2", -4.0),
        ("2 ** -1", 0.5),
        ("2 ^ 3 ^ 2", 512.0),
        ("8 / 4 / 2", 1.0),
        ("2 * -3", -6.0),
        ("(1 + 2) * 3", 9.0),
        ("1e-3 + .5 + 2.", 2.501),
        ("k.on * β + lambda", 2.0 * 3.0 + 5.0),
        ("`Growth rate [1/h]` * effect[1]", 7.0 * 11.0),
        ("max(1, k.on, β)", 3.0),
        ("max(y)", 4.0),
        ("last(y) - first(y)", 3.0),
        ("sum(abs(y))", 7.0),
        ("mean(y)", 1.0),
        ("sqrt(exp(log(9)))", 3.0),
    ],
)
def test_what_a_formula_comes_to(text: str, expected: float) -> None:
    values = {"k.on": 2.0, "β": 3.0, "lambda": 5.0, "Growth rate [1/h]": 7.0, "effect[1]": 11.0, "y": Y}
    assert parse(text)(values, np) == pytest.approx(expected)
    assert float(parse(text)(values, jnp)) == pytest.approx(expected)


def test_its_names_and_its_derivative() -> None:
    formula = parse("a * b / (a + 2)")
    assert formula.names == ("a", "b")
    assert float(jax.grad(lambda a: formula({"a": a, "b": 3.0}, jnp))(1.0)) == pytest.approx(3.0 * 2.0 / 9.0)
    assert np.allclose(parse("0.05 * abs(y) + c")({"y": Y, "c": 0.1}, np), 0.05 * np.abs(Y) + 0.1)


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "(1", "a b", "1..2", "__import__('os')", "a.b()", "a; b", "open(a)", "[1]", "f(", "log(1, 2)", "a = 1"]
    + ["(" * 60 + "1" + ")" * 60, "-" * 100 + "1", "9" * 30_000],
)
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError, match="got"):
        parse(text)
