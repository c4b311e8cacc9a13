"""Priors that depend on other parameters, and joint ones: the map from standard normals, and a posterior."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer.stages.errors import ConfigError
from simfer.stages.model.space import Space
from simfer.stages.preflight.priors import prior_mistakes
from tests import helpers


def space(parameters: dict[str, Any], **more: Any) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters} | more).parameters)


HIERARCHY = {
    "rate": {"dist": "LogNormal", "loc": "center", "scale": "spread"},
    "center": {"dist": "Normal", "loc": 1.0, "scale": 0.5},
    "spread": {"dist": "HalfNormal", "scale": 0.3},
    "share": {"dist": "Uniform", "low": 0.0, "high": "rate / 10"},
    "waiting": {"dist": "Gamma", "concentration": 2.0, "rate": "rate"},
    "level": {"dist": "StudentT", "df": 4.0, "loc": "center + known", "scale": "spread"},
    "known": 2.0,
}
Z = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)))


def test_each_is_drawn_given_those_that_it_names() -> None:
    made = space(HIERARCHY)
    assert made.names == ["rate", "center", "spread", "share", "waiting", "level"]
    values = {name: np.asarray(value) for name, value in made.values(Z).items()}
    u = stats.norm.cdf(np.asarray(Z))
    assert np.allclose(values["center"], 1.0 + 0.5 * Z[:, 1])
    assert np.allclose(values["rate"], np.exp(values["center"] + values["spread"] * Z[:, 0]))
    assert np.allclose(values["share"], u[:, 3] * values["rate"] / 10)
    assert np.allclose(values["waiting"], stats.gamma.ppf(u[:, 4], 2.0, scale=1.0 / values["rate"]), rtol=1e-6)
    expected = stats.t.ppf(u[:, 5], 4.0, values["center"] + 2.0, values["spread"])
    assert np.allclose(values["level"], expected, rtol=1e-6)


def test_whitening_goes_back_and_derivatives_go_through() -> None:
    made = space(HIERARCHY)
    assert np.allclose(made.whiten({name: value for name, value in made.values(Z).items() if name != "known"}), Z)
    assert np.allclose(made.from_scores(made.scores(Z)), made.theta(Z))
    slope = jax.jacfwd(made.theta)(Z[0])
    step = 1e-5 * np.eye(6)
    above, below = np.split(np.asarray(made.theta(jnp.concatenate([Z[0] + step, Z[0] - step]))), 2)
    numerical = ((above - below) / 2e-5).T
    assert np.allclose(slope, numerical, rtol=1e-4, atol=1e-7)


def test_it_is_stored_and_read_back() -> None:
    made = space(HIERARCHY)
    assert np.array_equal(Space.from_json(made.to_json()).theta(Z), made.theta(Z))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"center": {"dist": "Normal", "loc": "rate"}}, "rate, center.* name one another in a circle"),
        ({"rate": {"dist": "Normal", "loc": "rate"}}, r'rate.loc: got "rate", expected a number'),
        ({"rate": {"dist": "Normal", "loc": "centre"}}, r'rate.loc: got "centre".*Did you mean "center"'),
        (
            {"share": {"dist": "Beta", "concentration1": "rate", "concentration0": 2.0}},
            "concentration1 of Beta may not",
        ),
        ({"share": {"dist": "Uniform", "low": 0.0, "high": "rate", "periodic": True}}, "names no other parameter"),
        ({"rate": {"dist": "Normal", "loc": "1 +"}}, "it ends too early"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        space(HIERARCHY | change)


def test_quantiles_that_do_not_increase_are_told() -> None:
    table = helpers.line() | {"parameters": HIERARCHY | {"share": {"dist": "Uniform", "low": 1.0, "high": "rate - 3"}}}
    assert [each.where for each in prior_mistakes(helpers.problem(table))] == ["parameters.share"]
    assert not prior_mistakes(helpers.problem(helpers.line() | {"parameters": HIERARCHY}))


COVARIANCE = [[1.0, 0.9, 0.1], [0.9, 1.5, 0.3], [0.1, 0.3, 0.5]]


@pytest.mark.parametrize("transform", ["none", "log"])
def test_a_joint_prior_has_its_covariance(transform: str) -> None:
    joint = {"names": ["a", "b", "c"], "loc": [1.0, -1.0, 0.5], "covariance": COVARIANCE, "transform": transform}
    made = space({"fixed": 1.0}, priors={"three": joint})
    assert made.names == ["a", "b", "c"]
    # A linear map of standard normals, and so known by its columns.
    theta = made.theta(jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)]))
    theta = np.asarray(jnp.log(theta) if transform == "log" else theta)
    columns = (theta[1:] - theta[0]).T
    assert np.allclose(theta[0], [1.0, -1.0, 0.5]) and np.allclose(columns @ columns.T, COVARIANCE)


def test_a_joint_prior_that_is_none() -> None:
    for change, what in (
        ({"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
        ({"loc": [1.0]}, "expected 2, one for each name"),
        ({"names": ["a", "fixed"]}, "fixed has a place in .parameters. too"),
    ):
        joint = {"names": ["a", "b"], "covariance": [[1.0, 0.9], [0.9, 1.0]]} | change
        with pytest.raises(ConfigError, match=what):
            space({"fixed": 1.0}, priors={"two": joint})


def test_the_posterior_under_a_joint_prior_is_the_exact_one() -> None:
    """Six data of a line, its intercept and slope correlated at 0.9 beforehand; by sums over a grid of z."""
    made = space({"sd": 0.5}, priors={"both": {"names": ["a", "b"], "covariance": [[1.0, 0.9], [0.9, 1.0]]}})
    x, data = np.linspace(0.0, 1.0, 6), np.array([1.3, 1.1, 1.6, 1.2, 1.9, 1.5])
    z = np.stack(np.meshgrid(*[np.linspace(-5, 5, 301)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    theta = np.asarray(made.theta(z))
    log = stats.norm.logpdf(z).sum(axis=1) + stats.norm.logpdf(data, theta[:, :1] + theta[:, 1:] * x, 0.5).sum(axis=1)
    weights = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    mean = weights @ theta
    covariance = np.cov(theta.T, aweights=weights)
    assert mean == pytest.approx([0.9759, 0.8044], abs=1e-3)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.1980, 0.2856], abs=1e-3)
    assert covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance))) == pytest.approx(-0.358, abs=2e-3)
