"""A prior that cannot be drawn from is refused before anything is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from simfer.stages.model.quantiles import from_normal
from simfer.stages.preflight.priors import prior_mistakes, prior_remarks
from tests import helpers


def found(prior: dict[str, Any]) -> list[str]:
    problem = helpers.problem(helpers.line(parameters={"slope": prior}))
    return [f"{each.where}: {each.what}" for each in prior_mistakes(problem)]


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ({"dist": "Normal", "loc": 1.0, "scale": 1e-300}, "is all but a single point"),
        ({"dist": "LogNormal", "scale": 1e300}, "has quantiles that are no finite numbers"),
        (
            {"dist": "Dagum", "concentration": 1.0, "sharpness": 1e-300, "scale": 1.0},
            "has quantiles that are no finite numbers",
        ),
        ({"dist": "LowerTruncatedPowerLaw", "alpha": -0.5, "low": 1.0}, "cannot be made of these arguments"),
    ],
)
def test_a_prior_that_cannot_be_drawn_from(prior: dict[str, Any], expected: str) -> None:
    [said] = found(prior)
    assert said.startswith("parameters.slope: ") and expected in said


def test_of_the_noise_too() -> None:
    table = helpers.line(noise={"y": {"scale": {"dist": "LogNormal", "scale": 1e300}}})
    assert [each.where for each in prior_mistakes(helpers.problem(table))] == ["noise.y.scale"]


def test_a_laplace_prior_has_a_slope_at_its_median() -> None:
    """The sign of 0, which is 0, stood there for it; sqrt(2 / pi) scales is what it has on both sides."""
    prior = dist.Laplace(1.0, 5.0)
    assert float(from_normal(prior, jnp.asarray(0.0))) == 1.0
    at, near = (float(jax.grad(lambda z: from_normal(prior, z))(z)) for z in (0.0, 1e-6))
    assert at == pytest.approx(near, rel=1e-5) and at == pytest.approx(5.0 * (2.0 / 3.141592653589793) ** 0.5)


def test_what_a_prior_is_by_default_is_said_once() -> None:
    table = helpers.line(parameters={name: {"dist": "Normal", "loc": 2.0} for name in ("slope", "intercept")})
    assert prior_remarks(helpers.problem(table)) == [
        "parameters.intercept, parameters.slope: Normal with NumPyro's defaults, scale = 1.0; write that if it is meant"
    ]
    table = helpers.line(noise={"y": {"scale": {"dist": "LogNormal"}}})
    (said,) = prior_remarks(helpers.problem(table))
    assert said.startswith("noise.y.scale: LogNormal with NumPyro's defaults, loc = 0.0, scale = 1.0;")
    bounded = {"dist": "TruncatedNormal", "loc": 0.0, "scale": 1.0, "low": 0.0}
    assert prior_remarks(helpers.problem(helpers.line(parameters={"slope": bounded}))) == []
