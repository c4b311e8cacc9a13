"""Any of Optax's optimizers by its name, and a clear word before anything runs where one cannot be made."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from simfer.stages.settings import Train
from simfer.stages.train.optimizers import known, mistakes, optimizer
from simfer.stages.train.phases import _averaged

WORKING: dict[str, dict[str, Any]] = {
    "muon": {"beta": 0.9},
    "adam": {"b1": 0.8},
    "adamw": {"weight_decay": 1e-4},
    "lion": {},
    "nadam": {},
    "sgd": {"momentum": 0.9, "nesterov": True},
    "rmsprop": {},
    "radam": {},
    "adabelief": {},
}


@pytest.mark.parametrize("name", WORKING)
def test_a_step_goes_downhill(name: str) -> None:
    settings = Train(optimizer=name, optimizer_options=WORKING[name], schedule="constant")
    assert mistakes(settings) == []
    made, w = optimizer(settings.descending(0)), jnp.asarray([1.0, -2.0])
    updates, _ = made.update(2.0 * w, made.init(w), w)
    assert (np.sign(updates) == [-1.0, 1.0]).all()


def test_an_argument_reaches_the_optimizer() -> None:
    w, slope = jnp.zeros(1), jnp.ones(1)
    lengths = []
    for momentum in (0.0, 0.9):
        made = optimizer(
            Train(optimizer="sgd", optimizer_options={"momentum": momentum}, schedule="constant").descending(0)
        )
        state = made.init(w)
        _, state = made.update(slope, state, w)
        lengths.append(float(made.update(slope, state, w)[0][0]))
    assert lengths[1] == pytest.approx(1.9 * lengths[0])


@pytest.mark.parametrize(
    ("settings", "where", "what"),
    [
        ({"optimizer": "adamm"}, "train.optimizer", 'Did you mean "adam"?'),
        ({"optimizer": "lbfgs"}, "train.optimizer", "train.finish_steps"),
        ({"optimizer": "softmax_cross_entropy"}, "train.optimizer", "no optimizer"),
        ({"optimizer": "muon", "optimizer_options": {"btea": 0.9}}, "train.optimizer_options.btea", '"beta"?'),
        ({"optimizer_options": {"b1": 0.9}}, "train.optimizer_options", "no train.optimizer whose arguments"),
        (
            {"optimizer": "adam", "optimizer_options": {"learning_rate": 0.9}},
            "train.optimizer_options.learning_rate",
            "train.learning_rate",
        ),
        (
            {"optimizer": "adam", "optimizer_options": {"b1": "much"}},
            "train.optimizer_options",
            "cannot be made with {'b1': 'much'}",
        ),
    ],
)
def test_a_wrong_name_or_argument_is_told_with_its_place(settings: dict[str, Any], where: str, what: str) -> None:
    (found,) = mistakes(Train(**settings))
    assert found.where == where
    assert what in found.what


def test_matrices_are_moved_by_all_of_their_directions_alike() -> None:
    """Muon (Jordan et al. 2024): of a slope whose singular values differ by 50 an update has nearly equal ones."""
    w, slope = jnp.zeros((2, 2)), jnp.diag(jnp.asarray([1.0, 0.02]))
    lengths = []
    for name in ("sgd", "muon"):
        made = optimizer(Train(optimizer=name, schedule="constant").descending(0))
        updates, _ = made.update(slope, made.init(w), w)
        lengths.append(np.linalg.svd(updates, compute_uv=False))
    assert lengths[0][0] / lengths[0][1] == pytest.approx(50.0, rel=1e-3)
    assert lengths[1][0] / lengths[1][1] < 5.0


def test_what_is_left_out_is_chosen_by_the_rows() -> None:
    def chosen(rows: int, random: bool = False, **given: Any) -> tuple[Any, ...]:
        settings = Train(**given).descending(rows, random)
        return settings.optimizer, settings.learning_rate, settings.batch_size

    assert chosen(1000) == ("muon", 2e-2, 64)
    assert chosen(50) == chosen(1000, random=True) == ("adam", 1e-2, 256)  # few rows, or noisy ones
    assert chosen(1000, learning_rate=1e-3) == ("adam", 1e-3, 256)  # a rate alone was Adam's before there was another
    assert chosen(50, optimizer="muon", batch_size=32) == ("muon", 2e-2, 32)
    assert Train().descending(1000).descending(50) == Train().descending(1000)


def test_what_is_offered_are_optimizers() -> None:
    assert set(WORKING) <= set(known())
    assert not {"scale_by_adam", "chain", "lbfgs"} & set(known())


def test_weights_that_swing_about_their_goal_are_kept_as_their_average() -> None:
    def swing(weights: Array, state: tuple[()], own: None, count: None, i: Array, loss_at: None) -> Any:
        return jnp.where(i % 2 == 0, 1.0, 3.0), state, weights

    begin, go_on = _averaged(0.98, lambda weights, *_: (), swing)
    start = jnp.full((), 50.0)

    def step(carry: Any, i: Array) -> Any:
        weights, state, _ = go_on(*carry, None, None, i, None)
        return (weights, state), weights

    (_, (moving, _)), kept = jax.lax.scan(step, (start, begin(start, None, None, None)), jnp.arange(400))
    assert abs(float(moving) - 2.0) == 1.0
    assert np.abs(np.asarray(kept[50:]) - 2.0).max() < 0.1  # where it began is forgotten
    assert _averaged(0.0, begin, go_on) == (begin, go_on)
