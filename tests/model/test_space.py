"""Named parameters and the whitened space in which every prior is a standard normal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer.stages.model.space import Space
from tests import helpers

TABLE = {
    "rate": {"dist": "LogNormal", "loc": -0.5, "scale": 0.4, "unit": "1/s"},
    "start": 3.0,
    "share": {"dist": "Beta", "concentration1": 2.0, "concentration0": 5.0},
    "level": {"dist": "Uniform", "low": -1.0, "high": 1.0},
}


@pytest.fixture
def space() -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": TABLE}).parameters)


def test_free_quantities_are_components_and_fixed_ones_are_not(space: Space) -> None:
    assert space.names == ["rate", "share", "level"] and space.size == 3
    values = space.values(jnp.zeros(3))
    assert list(values) == ["rate", "share", "level", "start"]
    assert float(values["start"]) == 3.0
    assert float(values["rate"]) == pytest.approx(np.exp(-0.5))
    assert float(values["share"]) == pytest.approx(stats.beta(2, 5).median())
    assert float(values["level"]) == pytest.approx(0.0)


def test_many_points_at_once_are_each_of_them(space: Space) -> None:
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)))
    values = space.values(z)
    assert all(value.shape == (4, 5) for value in values.values())
    assert np.allclose(space.theta(z)[2, 3], space.theta(z[2, 3]))


def test_whitening_and_back(space: Space) -> None:
    z = jnp.asarray(np.random.default_rng(1).normal(size=(50, 3)))
    assert np.allclose(space.whiten(space.values(z)), z, atol=1e-7)
    assert np.allclose(space.whiten({"rate": 0.6, "share": 0.2, "level": 0.1}).shape, (3,))


def test_standard_normal_points_have_the_priors_distribution(space: Space) -> None:
    z = jnp.asarray(stats.norm.ppf((np.arange(2000) + 0.5) / 2000))[:, None] * jnp.ones(3)
    theta = np.asarray(space.theta(z))
    exact = [stats.lognorm(0.4, scale=np.exp(-0.5)), stats.beta(2, 5), stats.uniform(-1, 2)]
    for i, prior in enumerate(exact):
        assert stats.kstest(theta[:, i], prior.cdf).statistic < 0.001


def test_it_is_the_same_after_being_kept_as_json(space: Space) -> None:
    import json

    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    z = jnp.asarray([0.3, -1.2, 0.8])
    assert again.names == space.names and again.fixed == space.fixed
    assert np.array_equal(again.theta(z), space.theta(z))
    assert again.priors["rate"].unit == "1/s"
    # The order is that of the columns, whatever a JSON library does with a table's.
    shuffled = space.to_json() | {"priors": dict(sorted(space.to_json()["priors"].items()))}
    assert Space.from_json(shuffled).names == space.names


def test_a_gradient_goes_through_it(space: Space) -> None:
    with jax.numpy_dtype_promotion("strict"):
        slope = jax.jacfwd(space.theta)(jnp.zeros(3))
    assert np.allclose(slope - np.diag(np.diag(slope)), 0.0)
    assert slope[0, 0] == pytest.approx(0.4 * np.exp(-0.5))
    assert slope[2, 2] == pytest.approx(2.0 * stats.norm.pdf(0.0))
