"""Projected data have the likelihood of all data, and cost what components cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.emulator import spread_factor
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import Data, Series
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.prediction import Prediction
from simfer.stages.model.projection import Components, Projection, project
from tests import helpers

RNG = np.random.default_rng(0)
SIZE = 60  # data of each of two outputs
LAYOUT = Layout({name: Output(("t",), {"t": np.arange(float(SIZE))}) for name in ("a", "b")})
COLUMNS, LOCATION = RNG.normal(size=(5, 2 * SIZE)), RNG.normal(size=2 * SIZE)
FACTOR, REST = 0.2 * RNG.normal(size=(4, 2 * SIZE)), 0.01 * RNG.random(2 * SIZE)
FACTOR[-1] = 0.0  # as errors with fewer factors have
COLUMNS[2] = 0.0  # as a component of an output without data is
TRUTH, MEMBERS = RNG.normal(size=5), RNG.normal(size=(4, 5))
Y = np.exp(LOCATION + TRUTH @ COLUMNS + 0.3 * RNG.normal(size=2 * SIZE))
NORMAL = {"dist": "Normal", "scale": 0.3}
MEDIAN = {"dist": "LogNormal", "scale": {"dist": "HalfNormal", "scale": 0.5}}


def likelihood(a: dict[str, Any], b: dict[str, Any], size: int = SIZE, **shared: Any) -> Likelihood:
    checked = helpers.problem(helpers.line() | {"noise": {"a": a, "b": b}, "noise_parameters": shared})
    transform = {name: "log" if noise["dist"] == "LogNormal" else "none" for name, noise in (("a", a), ("b", b))}
    parts = {"a": Y[:SIZE][:size], "b": Y[SIZE:][:size]}
    series = {
        name: Series(values if transform[name] == "log" else np.log(values), np.arange(size))
        for name, values in parts.items()
    }
    return Likelihood(checked.noise, Data(series), LAYOUT, transform, checked.noise_parameters)


def components(at: Any = slice(None)) -> Components:
    return Components(lambda z: TRUTH + 0.5 * z[:5] + 0.1 * MEMBERS, COLUMNS[:, at], LOCATION[at])


def both(made: Likelihood, projection: Projection) -> tuple[Any, Any]:
    """Return the log likelihood by the projection, and that of all data."""

    def values(z: Any) -> Any:
        return made.noise_space.values(z[5:])

    def by_projection(z: Any) -> Any:
        members = components().coefficients(z)
        return projection.log_prob(members, spread_factor(members), lambda: made.variances(values(z)))

    def by_data(z: Any) -> Any:
        members = LOCATION + components().coefficients(z) @ COLUMNS
        factor = jnp.concatenate([jnp.asarray(FACTOR), spread_factor(members)])
        return made.marginal(Prediction(members.mean(axis=0), factor, jnp.asarray(REST)), values(z))

    return by_projection, by_data


def covariance(folder: Path) -> dict[str, Any]:
    a = RNG.normal(size=(SIZE, SIZE))
    np.savetxt(folder / "c.csv", a @ a.T / SIZE + 0.1 * np.eye(SIZE), delimiter=",")
    return {"dist": "MultivariateNormal", "covariance": str(folder / "c.csv")}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (NORMAL, NORMAL | {"scale": 0.1}),
        ("covariance", NORMAL),
        (MEDIAN, NORMAL),
        ({"dist": "Normal", "scale": "0.1 + extra"}, {"dist": "Normal", "scale": "extra"}),
    ],
    ids=["known", "covariance", "log", "inferred"],
)
def test_the_projection_is_exact(a: Any, b: Any, tmp_path: Path) -> None:
    shared = {"extra": {"dist": "HalfNormal", "scale": 0.5}} if "extra" in str(b) else {}
    made = likelihood(covariance(tmp_path) if a == "covariance" else a, b, **shared)
    projection = project(made, components(), FACTOR, REST)
    assert projection is not None
    points = 2.0 * np.random.default_rng(1).normal(size=(20, 5 + made.noise_space.size))
    points[0, :5] = 0.0  # beside prior draws, the truth itself
    found, expected = (
        jax.jit(jax.vmap(jax.value_and_grad(each)))(jnp.asarray(points)) for each in both(made, projection)
    )
    assert np.allclose(found[0], expected[0], rtol=1e-9)
    scale = np.abs(expected[1]).max(axis=1, keepdims=True)
    assert np.abs((found[1] - expected[1]) / scale).max() < 1e-9


def test_where_noise_is_known_no_step_has_numbers_for_all_data() -> None:
    made = likelihood(NORMAL, NORMAL)
    projection = project(made, components(), FACTOR, REST)
    assert projection is not None
    by_projection, by_data = both(made, projection)
    assert _largest(by_projection) < SIZE < 2 * SIZE <= _largest(by_data)


def _largest(function: Any) -> int:
    """Return how long the longest axis is of anything that is computed."""
    equations = jax.make_jaxpr(function)(jnp.zeros(5)).eqns
    return max(max(out.aval.shape, default=0) for equation in equations for out in equation.outvars)


@pytest.mark.parametrize(
    ("a", "size"),
    [
        ({"dist": "StudentT", "df": 3.0, "scale": 0.1}, SIZE),
        ({"dist": "Normal", "scale": "0.1 * abs(a)"}, SIZE),
        (NORMAL, 8),
    ],
    ids=["not Gaussian", "about its output", "few data"],
)
def test_it_is_left_where_it_cannot_be_or_saves_nothing(a: dict[str, Any], size: int) -> None:
    made = likelihood(a, NORMAL, size)
    at = np.concatenate([np.arange(size), SIZE + np.arange(size)])
    assert project(made, components(at), FACTOR[:, at], REST[at]) is None
