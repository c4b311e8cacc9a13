"""The likelihood with the emulator's error in it, against integrals done another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer.stages.infer.target import split_covariance
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.near_data import near_data
from simfer.stages.model.observation import Data, Series
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.prediction import Prediction
from tests import helpers

RNG = np.random.default_rng(0)
LAYOUT = Layout({name: Output(("t",), {"t": np.arange(4.0)}) for name in ("a", "b")})
A, B = np.array([1.2, 0.7, 2.0]), np.array([3.0, 4.5])
DATA = Data({"a": Series(A, np.array([0, 1, 3])), "b": Series(B, np.array([2, 0]))})
FACTOR = RNG.normal(size=(2, 5)) * 0.2  # an error that both outputs share
REST = np.array([0.01, 0.02, 0.03, 0.02, 0.01])
MEAN = np.array([0.9, 0.8, 1.5, 1.3, 1.4])


def likelihood(a: dict[str, Any], b: dict[str, Any], transform: dict[str, str] | None = None) -> Likelihood:
    checked = helpers.problem(helpers.line() | {"noise": {"a": a, "b": b}})
    return Likelihood(checked.noise, DATA, LAYOUT, {"a": "none", "b": "none"} | (transform or {}))


def prediction(mean: np.ndarray = MEAN) -> Prediction:
    return Prediction(jnp.asarray(mean), jnp.asarray(FACTOR), jnp.asarray(REST))


NORMAL = {"dist": "Normal", "scale": 0.3}
MEDIAN = {"dist": "LogNormal", "scale": 0.2}


def error_covariance() -> np.ndarray:
    return FACTOR.T @ FACTOR + np.diag(REST)


def test_data_lie_in_the_flat_vector_where_the_layout_has_them() -> None:
    both = likelihood(NORMAL, NORMAL)
    assert both.index.tolist() == [0, 1, 3, 6, 4]
    assert [b.name for b in both.blocks] == ["a", "b"] and both.is_gaussian


def test_a_gaussian_with_the_error_is_the_dense_gaussian() -> None:
    got = likelihood(NORMAL, NORMAL | {"scale": 0.5}).marginal(prediction(), {"a_scale": 0.3, "b_scale": 0.5})
    noise = np.diag([0.09] * 3 + [0.25] * 2)
    assert float(got) == pytest.approx(stats.multivariate_normal.logpdf(DATA.values, MEAN, noise + error_covariance()))


def test_a_log_normal_is_one_in_the_logarithm_with_its_jacobian() -> None:
    got = likelihood(NORMAL, MEDIAN, {"b": "log"}).marginal(prediction(), {"a_scale": 0.3, "b_scale": 0.2})
    seen = np.concatenate([A, np.log(B)])
    covariance = np.diag([0.09] * 3 + [0.04] * 2) + error_covariance()
    expected = stats.multivariate_normal.logpdf(seen, MEAN, covariance) - np.log(B).sum()
    assert float(got) == pytest.approx(expected)


def test_a_covariance_from_a_file_adds_to_the_errors(tmp_path: Path) -> None:
    covariance = np.array([[0.09, 0.03, 0.0], [0.03, 0.08, 0.02], [0.0, 0.02, 0.1]])
    np.savetxt(tmp_path / "c.csv", covariance, delimiter=",")
    joint = {"dist": "MultivariateNormal", "covariance": str(tmp_path / "c.csv")}
    got = likelihood(joint, NORMAL).marginal(prediction(), {"b_scale": 0.3})
    noise = np.zeros((5, 5))
    noise[:3, :3], noise[3:, 3:] = covariance, 0.09 * np.eye(2)
    assert float(got) == pytest.approx(stats.multivariate_normal.logpdf(DATA.values, MEAN, noise + error_covariance()))


def test_without_an_error_marginal_and_exact_agree() -> None:
    both, values = likelihood(NORMAL, MEDIAN, {"b": "log"}), {"a_scale": 0.3, "b_scale": 0.2}
    none = Prediction(jnp.asarray(MEAN), jnp.zeros((1, 5)), jnp.zeros(5))
    exact = both.exact(jnp.asarray(MEAN), values)
    assert float(both.marginal(none, values)) == pytest.approx(float(exact))
    by_hand = stats.norm.logpdf(A, MEAN[:3], 0.3).sum()
    by_hand += stats.lognorm.logpdf(B, 0.2, scale=np.exp(MEAN[3:])).sum()
    assert float(exact) == pytest.approx(by_hand)


def test_the_marginal_is_the_mean_of_the_exact_over_the_error() -> None:
    both, values = likelihood(NORMAL, MEDIAN, {"b": "log"}), {"a_scale": 0.3, "b_scale": 0.2}
    draws = np.random.default_rng(1).multivariate_normal(MEAN, error_covariance(), size=40000)
    exact = np.asarray(jax.jit(jax.vmap(lambda mean: both.exact(mean, values)))(jnp.asarray(draws)))
    assert float(both.marginal(prediction(), values)) == pytest.approx(np.log(np.exp(exact).mean()), abs=0.05)


def test_an_error_that_outputs_share_is_not_the_same_as_two_of_their_own() -> None:
    both, values = likelihood(NORMAL, NORMAL), {"a_scale": 0.3, "b_scale": 0.3}
    apart = Prediction(jnp.asarray(MEAN), jnp.zeros((1, 5)), jnp.asarray(REST + (FACTOR**2).sum(axis=0)))
    assert abs(float(both.marginal(prediction(), values)) - float(both.marginal(apart, values))) > 0.05


def test_a_family_that_is_not_gaussian_there_is_told_apart() -> None:
    assert not likelihood(NORMAL, MEDIAN).is_gaussian  # in the logarithm, but the output is not
    assert not likelihood({"dist": "StudentT", "df": 3.0, "scale": 0.1}, NORMAL).is_gaussian
    assert likelihood(MEDIAN, MEDIAN, {"a": "log", "b": "log"}).is_gaussian


def test_priors_of_the_noise_make_its_space() -> None:
    inferred = likelihood(NORMAL | {"scale": {"dist": "HalfNormal", "scale": 1.0}}, NORMAL)
    assert inferred.noise_space.names == ["a_scale"] and inferred.noise_space.fixed == {"b_scale": 0.3}


def test_pointwise_terms_are_each_datums_own() -> None:
    both, values = likelihood(NORMAL, MEDIAN, {"b": "log"}), {"a_scale": 0.3, "b_scale": 0.2}
    variance = np.diag(error_covariance())
    terms = both.pointwise(jnp.asarray(MEAN), jnp.asarray(variance), values)
    sd = np.sqrt(0.09 + variance[:3])
    assert np.allclose(terms["a"], stats.norm.logpdf(A, MEAN[:3], sd))
    sd = np.sqrt(0.04 + variance[3:])
    assert np.allclose(terms["b"], stats.lognorm.logpdf(B, sd, scale=np.exp(MEAN[3:])))


def test_the_noises_variance_is_to_first_order_in_the_transformed_scale() -> None:
    values = {"a_scale": 0.3, "b_scale": 0.2}
    gaussian = likelihood(NORMAL, MEDIAN, {"b": "log"})
    assert np.allclose(gaussian.noise_variance(jnp.asarray(MEAN), values), [0.09] * 3 + [0.04] * 2)
    # A Poisson's variance is its mean y; in log y that is y / y^2.
    counts = likelihood(NORMAL, {"dist": "Poisson"}, {"b": "log"})
    assert np.allclose(counts.noise_variance(jnp.asarray(MEAN), values)[3:], np.exp(-MEAN[3:]))


def test_the_variance_of_correlated_noise_is_a_datums_given_the_others(tmp_path: Path) -> None:
    covariance = np.array([[0.09, 0.03, 0.0], [0.03, 0.08, 0.02], [0.0, 0.02, 0.1]])
    np.savetxt(tmp_path / "c.csv", covariance, delimiter=",")
    joint = {"dist": "MultivariateNormal", "covariance": str(tmp_path / "c.csv")}
    given = [
        covariance[i, i] - covariance[i, o] @ np.linalg.solve(covariance[np.ix_(o, o)], covariance[o, i])
        for i, o in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1]))
    ]
    got = likelihood(joint, NORMAL).noise_variance(jnp.asarray(MEAN), {"b_scale": 0.3})
    assert np.allclose(got, [*given, 0.09, 0.09])
    wide = likelihood(joint | {"offset_scale": 1e3}, NORMAL).noise_variance(jnp.asarray(MEAN), {"b_scale": 0.3})
    assert (np.asarray(wide[:3]) < 4 * np.array(given)).all()  # not the offset's own million


def test_replicated_data_have_the_observed_offset_where_that_is_asked_for(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "c.csv", 0.01 * np.eye(3), delimiter=",")
    joint = {"dist": "MultivariateNormal", "covariance": str(tmp_path / "c.csv"), "offset_scale": 5.0}
    both, values = likelihood(joint, NORMAL), {"b_scale": 0.3}
    mean, keys = jnp.asarray(MEAN - 2.0), jax.random.split(jax.random.key(0), 4000)
    offset = both.offsets(mean, values)
    assert float(offset["a"]) == pytest.approx((A - MEAN[:3] + 2.0).mean(), rel=1e-3) and float(offset["b"]) == 0.0

    def drawn(observed: bool) -> np.ndarray:
        draw = lambda key: both.replicate(key, None, mean, values, observed_offset=observed)["a"]  # noqa: E731
        return np.asarray(jax.jit(lambda keys: jax.lax.map(draw, keys))(keys))

    assert np.allclose(drawn(True).mean(axis=0), MEAN[:3] - 2.0 + float(offset["a"]), atol=0.01)
    assert np.allclose(drawn(True).var(axis=0), 0.01 + 0.01 / 3, rtol=0.1)
    assert np.allclose(drawn(False).var(axis=0), 25.01, rtol=0.1)


def test_replicated_data_scatter_by_noise_and_error() -> None:
    both, values = likelihood(NORMAL, NORMAL), {"a_scale": 0.3, "b_scale": 0.3}
    keys = jax.random.split(jax.random.key(0), 20000)
    draw = lambda key: both.replicate(key, prediction(), jnp.asarray(MEAN), values)  # noqa: E731
    drawn = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    flat = np.concatenate([drawn["a"], drawn["b"]], axis=1)
    assert np.allclose(flat.mean(axis=0), MEAN, atol=0.02)
    assert np.allclose(np.cov(flat.T), 0.09 * np.eye(5) + error_covariance(), atol=0.012)


def test_a_covariance_is_split_into_factors_with_its_variances_kept() -> None:
    residuals = RNG.normal(size=(40, 2)) @ RNG.normal(size=(2, 30)) + 0.01 * RNG.normal(size=(40, 30))
    weights = RNG.uniform(size=40)
    covariance = (residuals * weights[:, None]).T @ residuals
    factor, rest = split_covariance(residuals, weights)
    assert len(factor) <= 8 and (rest >= 0).all()
    rebuilt = factor.T @ factor + np.diag(rest)
    assert np.allclose(np.diag(rebuilt), np.diag(covariance))
    assert np.abs(rebuilt - covariance).max() < 0.05 * np.abs(covariance).max()
    none, zero = split_covariance(np.zeros((7, 5)), np.full(7, 1 / 7))
    assert np.all(none == 0.0) and np.all(zero == 0.0)


def test_a_covariance_of_more_data_than_rows_is_split_the_same_way() -> None:
    residuals, weights = RNG.normal(size=(12, 40)) * 3.0 ** -np.arange(12.0)[:, None], RNG.uniform(size=12)
    wide, rest = split_covariance(residuals, weights)
    # Rows without weight change no covariance, but there are then more rows than data.
    tall, other = split_covariance(np.pad(residuals, ((0, 40), (0, 0))), np.pad(weights, (0, 40)))
    assert len(wide) == len(tall)
    assert np.allclose(wide.T @ wide, tall.T @ tall) and np.allclose(rest, other)


def test_rows_near_the_data_weigh_most() -> None:
    both = likelihood(NORMAL, NORMAL)
    y = np.random.default_rng(2).normal(size=(400, 8)) * 3.0
    weights = near_data(both, y)
    distance = ((y[:, both.index] - DATA.values) ** 2).sum(axis=1)
    assert weights.sum() == pytest.approx(1.0) and (weights >= 0).all()
    assert np.array_equal(np.argsort(-weights, kind="stable")[:20], np.argsort(distance, kind="stable")[:20])
    assert 1.0 / (weights**2).sum() >= 40  # enough of them for a covariance
    same = near_data(both, np.tile(y[:1], (30, 1)))
    assert np.allclose(same, 1 / 30)


def test_of_few_rows_those_far_from_the_data_say_nothing() -> None:
    both, rng = likelihood(NORMAL, NORMAL), np.random.default_rng(3)
    y = rng.normal(size=(53, 8))  # as after a first round: 25 draws of a check, and what the prior gave
    y[:, both.index] = DATA.values + np.where(np.arange(53) < 25, 1.0, 100.0)[:, None] * rng.normal(size=(53, 5))
    weights = near_data(both, y)
    assert weights[25:].sum() < 1e-3 and 1.0 / (weights**2).sum() >= 20
