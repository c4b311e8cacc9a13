"""Errors are measured in what the settings say, and a few wild rows do not spoil them."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.pipeline import chain
from simfer.stages.errors import StageError
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit
from simfer.stages.train.losses import loss_of, whitening
from tests import helpers
from tests.train.test_stage import SMALL, curve

RNG = np.random.default_rng(0)


def rows(error: np.ndarray) -> Rows:
    return Rows(jnp.zeros((len(error), 1)), jnp.asarray(error))


def nothing(x: jax.Array) -> jax.Array:
    return jnp.zeros(3)


def test_whitened_errors_are_chi_squared_under_the_covariance() -> None:
    mix = np.array([[1.0, 0, 0], [0.9, 0.3, 0], [0.5, -0.5, 2.0]])
    targets = RNG.normal(size=(4000, 3)) @ mix.T
    error = RNG.normal(size=(5, 3))
    covariance = np.cov(targets.T)
    ridge = 0.01 * np.trace(covariance) / 3 * np.eye(3)
    expected = np.mean(np.einsum("ni,ij,nj->n", error, np.linalg.inv(covariance + ridge), error)) / 3
    found = loss_of(whitening(targets))(nothing, rows(error))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    constant = whitening(np.insert(targets, 1, 7.0, axis=1))
    assert not constant[:, 1].any() and constant.shape == (3, 4)
    with pytest.raises(StageError, match=r"dataset\.pca"):
        whitening(RNG.normal(size=(2, 3000)))


def test_errors_are_counted_in_sigma() -> None:
    error = RNG.normal(size=(50, 3))
    found = loss_of(np.array([1.0, 10.0, 0.5]))(nothing, rows(error))
    assert float(found) == pytest.approx(np.mean((error * [1.0, 10.0, 0.5]) ** 2))


def test_a_robust_loss_is_the_plain_one_without_wild_rows_and_caps_their_pull() -> None:
    error = RNG.normal(size=(200, 3))
    robust, plain = partial(loss_of(), robust=True), loss_of()
    assert float(robust(nothing, rows(error))) == pytest.approx(float(plain(nothing, rows(error))), rel=0.02)

    def pull(loss: object, size: float) -> float:
        wild = np.concatenate([error, np.full((2, 3), size)])
        slope = jax.grad(lambda w: loss(lambda x: w * jnp.ones(3), rows(wild)))(0.0)  # type: ignore[operator]
        return abs(float(slope))

    assert pull(plain, 1e3) > 0.9 * 2 * 1e3 * 2 / 202
    assert pull(robust, 1e3) < 0.5
    assert pull(robust, 1e6) == pytest.approx(pull(robust, 1e3), rel=0.05)


def test_the_noise_is_in_the_key_only_where_the_loss_is_in_its_units() -> None:
    def key(loss: str, scale: float) -> str:
        table = helpers.line(train={"loss": loss}, noise={"y": {"dist": "Normal", "scale": scale}})
        return {step.stage: step.fingerprint for step in helpers.plan(helpers.problem(table))}["train"]

    assert key("scaled", 0.5) == key("scaled", 0.7)
    assert key("chi_squared", 0.5) != key("chi_squared", 0.7)
    assert key("chi_squared", 0.5) != key("scaled", 0.5)


def test_noise_that_is_not_known_is_refused() -> None:
    unknown = {"dist": "Normal", "scale": {"dist": "HalfNormal", "scale": 1.0}}
    table = helpers.line(train={"loss": "chi_squared"}, noise={"y": unknown})
    (found,) = chain.mistakes(helpers.problem(table))
    assert found.where == "train.loss" and "its scale a number" in found.what
    assert chain.mistakes(helpers.problem(helpers.line(train={"loss": "chi_squared"}))) == []


def error_beside(wild: np.ndarray, robust: bool = False, spoilt: bool = True) -> float:
    """Return the error of one member, trained on 400 rows, on all that are not wild."""
    held, fold = curve(400)
    y = np.array(held.y)
    y[wild] += spoilt * 1e3 * np.random.default_rng(1).normal(size=(len(wild), 2))
    settings = Train(**(SMALL | {"steps": 600, "learning_rate": 1e-2, "robust": robust, "ensemble_size": 1}))
    networks = fit(settings, Rows(held.x, jnp.asarray(y)), fold, {}, Silent()).networks
    weights, static = eqx.partition(networks, eqx.is_inexact_array)
    network = eqx.combine(jax.tree.map(lambda leaf: leaf[0], weights), static)
    return float(jnp.sqrt(loss_of()(network, held.pick(np.setdiff1d(np.arange(400), wild)))))


def test_a_robust_loss_is_finite_where_half_the_rows_are_exact() -> None:
    error = np.zeros((200, 3), np.float32)
    error[:90] = 2.1
    found = float(loss_of()(nothing, Rows(jnp.zeros((200, 1)), jnp.asarray(error)), True))
    assert 0.0 < found < 2.1**2
    assert float(loss_of()(nothing, Rows(jnp.zeros((9, 1)), jnp.zeros((9, 3))), True)) == 0.0


def test_a_percent_of_wild_rows_costs_little() -> None:
    trained_on = np.arange(1, 400, 100)
    clean = error_beside(trained_on, spoilt=False)
    assert error_beside(trained_on, robust=True) < 2.0 * clean
    assert error_beside(trained_on) > 3.0 * clean


def test_a_wild_row_among_those_that_training_is_stopped_by_costs_nothing() -> None:
    unseen = np.array([0])
    assert error_beside(unseen) < 1.05 * error_beside(unseen, spoilt=False)
