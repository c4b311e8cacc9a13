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


def around(low: float = 1.0, high: float = 3.0) -> Space:
    phase = {"dist": "Uniform", "low": low, "high": high, "periodic": True}
    table = {"rate": TABLE["rate"], "phase": phase, "level": TABLE["level"]}
    return Space(helpers.problem(helpers.line() | {"parameters": table}).parameters)


def test_a_periodic_quantity_has_two_components_and_is_flat_under_the_prior() -> None:
    space = around()
    assert space.size == 4 and space.names == ["rate", "phase", "level"] and space.periodic == ["phase"]
    assert space.places == {"rate": slice(0, 1), "phase": slice(1, 3), "level": slice(3, 4)}
    theta = np.asarray(space.theta(np.random.default_rng(0).normal(size=(20_000, 4))))
    assert stats.kstest(theta[:, 1], stats.uniform(1.0, 2.0).cdf).pvalue > 0.01


def test_a_periodic_quantity_has_no_seam() -> None:
    space = around()
    below, above = (space.whiten({"rate": 0.5, "phase": 3.0 + step, "level": 0.0}) for step in (-1e-6, 1e-6))
    assert np.allclose(below, above, atol=1e-5)
    assert np.allclose(space.inputs(below), space.inputs(above), atol=1e-5)
    assert float(space.values(above)["phase"]) == pytest.approx(1.0 + 1e-6)
    assert float(space.values(below)["phase"]) == pytest.approx(3.0 - 1e-6)


def test_only_the_direction_of_a_periodic_quantitys_components_counts() -> None:
    space, z = around(), jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
    longer = z.at[:, 1:3].multiply(3.0)
    assert np.allclose(space.theta(longer), space.theta(z))
    assert np.allclose(space.inputs(longer), space.inputs(z))
    inputs = np.asarray(space.inputs(jnp.asarray(np.random.default_rng(3).normal(size=(20_000, 4)))))
    assert np.allclose(inputs.std(axis=0), 1.0, atol=0.02) and np.allclose(inputs.mean(axis=0), 0.0, atol=0.03)
    assert np.isfinite(jax.jacobian(space.inputs)(jnp.zeros(4))).all()


def test_the_ring_is_a_density_and_leaves_directions_alone() -> None:
    space, normal = around(), jnp.asarray(np.random.default_rng(5).normal(size=(400_000, 4)))
    weight = np.exp(np.asarray(jax.vmap(space.log_ring)(normal)))
    assert weight.mean() == pytest.approx(1.0, abs=0.02)
    assert np.average(np.asarray(space.theta(normal))[:, 1], weights=weight) == pytest.approx(2.0, abs=0.01)
    assert float(Space({}).log_ring(jnp.zeros(0))) == 0.0


def test_scores_are_standard_normal_and_lead_back() -> None:
    space, z = around(), jnp.asarray(np.random.default_rng(4).normal(size=(50, 4)))
    scores = space.scores(z)
    assert scores.shape == (50, 3)
    assert np.allclose(scores[:, 0], z[:, 0]) and np.allclose(scores[:, 2], z[:, 3])
    assert np.allclose(space.from_scores(scores), space.theta(z))


def test_a_space_of_before_is_kept_as_it_was(space: Space) -> None:
    assert set(space.to_json()["priors"]["rate"]) == {"dist", "unit", "label", "loc", "scale"}
    assert Space.from_json(around().to_json()).periodic == ["phase"]


def test_the_class_s_units_are_those_of_priors_that_say_none(space: Space) -> None:
    told = space.with_units({"rate": "1/h", "share": "%", "start": "m"})
    assert {name: each.unit for name, each in told.priors.items()} == {"rate": "1/s", "share": "%", "level": ""}
    assert told.fixed == space.fixed and told.names == space.names
