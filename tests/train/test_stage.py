"""Networks learn, stop in time, say when they cannot, and know their own error."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.emulator import predict, unexplained
from simfer.stages.emulator.networks import build_networks
from simfer.stages.errors import StageError
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.train import phases
from simfer.stages.train.assemble import blocks
from simfer.stages.train.descent import History, Trace, descend, descend_slower
from simfer.stages.train.feed import Rows, stack, whole
from simfer.stages.train.fitting import fit
from simfer.stages.train.losses import loss_of
from tests import helpers

SMALL = {"architecture": "mlp", "options": {"width": 16, "depth": 1}, "ensemble_size": 2, "dtype": "float64"}


def curve(num: int = 240, noise: float = 0.0) -> tuple[Rows, np.ndarray]:
    """Return rows of a smooth function of two variables, and the fold of each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 2))
    y = np.stack([np.sin(x[:, 0]) + x[:, 1], np.tanh(x[:, 0] * x[:, 1])], axis=1)
    y = (y - y.mean(axis=0)) / y.std(axis=0) + noise * rng.normal(size=y.shape)
    return Rows(jnp.asarray(x), jnp.asarray(y)), 1 + np.arange(num) % 5


def trained(rows: Rows, fold: np.ndarray, **settings: Any) -> tuple[Any, Any]:
    checked = Train(**(SMALL | settings))
    fitted = fit(checked, rows, fold, {}, Silent())
    return fitted.networks, fitted.history


def test_a_known_function_is_learned() -> None:
    rows, fold = curve()
    _, history = trained(rows, fold, steps=800, learning_rate=1e-2)
    assert history.validation.min(axis=0).max() < 0.03
    assert history.train[0].min() > 0.2  # there was something to learn
    assert history.steps[-1] == 800


def test_a_newton_finish_goes_on_where_the_optimizer_ended() -> None:
    rows, fold = curve()
    _, without = trained(rows, fold, steps=300)
    _, with_it = trained(rows, fold, steps=300, finish_steps=100)
    assert with_it.steps[-1] == 400
    assert np.allclose(with_it.validation[: len(without.validation)], without.validation)
    assert with_it.train[-1].max() < 0.5 * without.train[-1].max()


def test_the_weights_kept_are_those_of_the_best_look() -> None:
    rows, fold = curve(60, noise=0.5)  # little and noisy: it overfits
    networks, history = trained(rows, fold, steps=1500, learning_rate=1e-2, schedule="constant", patience=10_000)
    weights, static = eqx.partition(networks, eqx.is_inexact_array)
    at = stack(fold == m for m in (1, 2))
    kept = jax.vmap(lambda w, i: loss_of()(eqx.combine(w, static), Rows(rows.x[i], rows.y[i]), True))(weights, at)
    assert np.allclose(kept, history.validation.min(axis=0))
    assert (history.validation[-1] > 1.2 * np.asarray(kept)).all()
    assert np.array_equal(history.best, history.steps[history.validation.argmin(axis=0)])


def test_training_stops_when_it_no_longer_helps() -> None:
    rows, fold = curve(60, noise=0.5)
    _, history = trained(rows, fold, steps=5000, learning_rate=1e-2, schedule="constant", patience=300)
    assert history.steps[-1] < 5000
    assert history.steps[-1] - history.best.max() == pytest.approx(300, abs=100)


def test_a_loss_that_turns_nan_stops_and_says_when_and_what_to_try() -> None:
    rows, fold = curve()
    with pytest.raises(StageError, match=r"not finite at step \d+. Try a smaller train.learning_rate"):
        trained(rows, fold, steps=500, learning_rate=1e200, optimizer="sgd", schedule="constant")


def test_a_likelihood_that_runs_away_is_trained_at_a_lower_rate() -> None:
    rates: list[float] = []

    def attempt(settings: Train) -> tuple[str, object]:
        rates.append(settings.learning_rate)
        if len(rates) < 3:
            raise StageError("not finite")
        return "trained", None

    def never(settings: Train) -> tuple[object, History]:
        raise StageError("not finite")

    settings = Train(learning_rate=0.02)
    assert descend_slower(settings, attempt)[0] == "trained"  # type: ignore[arg-type]
    assert rates == pytest.approx([0.02, 0.006, 0.002])
    with pytest.raises(StageError, match="not finite"):
        descend_slower(settings, never)


def test_a_loss_that_runs_away_long_after_its_best_ends_training_and_no_more() -> None:
    weights, lost = {"w": jnp.zeros((2, 1))}, np.array([0.1, np.nan])
    trace = Trace(weights, patience=2000)
    trace.look({"w": jnp.ones((2, 1))}, 100, np.ones(2), np.ones(2))
    for _ in range(2):
        trace.look({"w": 2.0 * jnp.ones((2, 1))}, 100, np.zeros(2), 2.0 * np.ones(2))
    with pytest.raises(StageError, match="not finite"):  # a lower rate may find something better yet
        deepcopy(trace).look(weights, 100, lost, lost)
    trace.look({"w": 2.0 * jnp.ones((2, 1))}, 100, np.zeros(2), 2.0 * np.ones(2))
    assert not trace.is_stale()
    trace.look({"w": jnp.full((2, 1), jnp.nan)}, 100, lost, lost)
    assert trace.is_stale() and (trace.best["w"] == 1.0).all()
    assert np.isfinite(trace.history(2).validation).all()
    trace.begin_phase(weights, 100)
    assert not trace.is_stale()


def test_a_loss_that_turns_nan_for_one_member_stops_too() -> None:
    rows, fold = curve()
    x = np.array(rows.x)
    x[fold == 2] = np.nan  # the first member trains on these rows, the second does not, but is stopped by them
    with pytest.raises(StageError, match="not finite at step"):
        trained(Rows(jnp.asarray(x), rows.y), fold, steps=200)


def test_one_member_that_turns_nan_does_not_slip_into_the_ensemble() -> None:
    trace = Trace({"w": jnp.zeros((2, 1))}, patience=100)
    trace.begin_phase(trace.best, 100)
    with pytest.raises(StageError, match="not finite at step 100"):
        trace.look({"w": jnp.ones((2, 1))}, 100, np.array([np.nan, 0.5]), np.array([np.nan, 0.4]))


def test_a_finish_that_turns_nan_leaves_the_best_weights() -> None:
    trace = Trace({"w": jnp.zeros((2, 1))}, patience=100)
    trace.begin_phase(trace.best, 100)
    trace.look({"w": jnp.ones((2, 1))}, 100, np.array([0.5, 0.5]), np.array([0.4, 0.4]))
    trace.begin_phase(trace.best, 100)
    trace.look({"w": jnp.full((2, 1), np.nan)}, 100, np.array([np.nan, np.nan]), np.array([np.nan, np.nan]))
    assert np.array_equal(trace.best["w"], np.ones((2, 1)))


def test_rows_that_stop_nothing_say_so() -> None:
    rows, fold = curve(60)
    spoilt = Rows(rows.x, rows.y.at[0].set(1e30))  # in the first member's fold; its square is no float32
    with pytest.raises(StageError, match=r"rows that stop a training was never finite.*what float32 holds"):
        trained(spoilt, fold, steps=200, dtype="float32", ensemble_size=1)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    rows, fold = curve()
    one, again, other = (trained(rows, fold, steps=100, seed=seed)[0] for seed in (0, 0, 1))
    leaves = [jax.tree.leaves(eqx.filter(n, eqx.is_array)) for n in (one, again, other)]
    assert all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[1], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))
    assert all(not np.array_equal(leaf[0], leaf[1]) for leaf in leaves[0])  # members start apart


def test_a_member_never_trains_on_its_own_fold() -> None:
    rows, fold = curve()
    poisoned = Rows(rows.x, jnp.where(jnp.asarray(fold == 1)[:, None], 1e6, rows.y))
    _, clean = trained(rows, fold, steps=100)
    _, spoiled = trained(poisoned, fold, steps=100)
    assert np.allclose(clean.train[:, 0], spoiled.train[:, 0])  # the first member's fold is 1
    assert not np.allclose(clean.train[:, 1], spoiled.train[:, 1])


@pytest.mark.parametrize("schedule", [pytest.param("constant", marks=pytest.mark.slow), "exponential"])
def test_schedules_and_optimizers(schedule: str) -> None:
    rows, fold = curve()
    settings = {"schedule": schedule, "optimizer": "adamw", "optimizer_options": {"weight_decay": 1e-6}}
    _, history = trained(rows, fold, steps=200, learning_rate=1e-2, **settings)
    assert (history.validation[-1] < 0.7 * history.validation[0]).all() or history.validation[-1].max() < 0.3


def test_several_devices_give_what_one_does() -> None:
    devices = jax.local_devices()
    if len(devices) < 2:
        pytest.skip("one device; XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two of a CPU")
    rows, fold = curve()
    odd = SMALL | {"steps": 100, "finish_steps": 20, "ensemble_size": 3}  # not a multiple of two
    settings = Train(**odd).descending(64)
    feed, keys = whole(rows, fold, [1, 2, 3]), jax.random.split(jax.random.key(0), 3)
    networks = build_networks("mlp", SMALL["options"], rows.sizes, keys, "float64")
    (one, first), (other, second) = (
        descend(settings, networks, loss_of(), feed, keys, Silent(), "train", None, given)
        for given in (devices[:1], devices[:2])
    )
    assert np.allclose(first.train, second.train, rtol=1e-6) and first.train.shape[1] == 3
    for a, b in zip(*(jax.tree.leaves(eqx.filter(n, eqx.is_array)) for n in (one, other)), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("cores", [2, 3, 8])
def test_members_shared_out_among_cores_are_what_they_are_on_one(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, fold = curve()
    settings = Train(**(SMALL | {"steps": 100, "finish_steps": 20, "ensemble_size": 7})).descending(64)
    feed, keys = whole(rows, fold, [1, 2, 3, 1, 2, 3, 1]), jax.random.split(jax.random.key(0), 7)
    networks = build_networks("mlp", SMALL["options"], rows.sizes, keys, "float64")
    found = []
    for number in (1, cores):
        monkeypatch.setattr(phases, "num_programs", lambda number=number: number)
        found.append(descend(settings, networks, loss_of(), feed, keys, Silent(), "train"))
    (one, first), (other, second) = found
    assert np.allclose(first.train, second.train, rtol=1e-6) and second.train.shape[1] == 7
    for a, b in zip(*(jax.tree.leaves(eqx.filter(n, eqx.is_array)) for n in (one, other)), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_float32_networks_stay_float32() -> None:
    rows, fold = curve()
    narrow = Rows(rows.x.astype("float32"), rows.y.astype("float32"))
    networks, _ = trained(narrow, fold, steps=20, dtype="float32")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(eqx.filter(networks, eqx.is_inexact_array))} == {"float32"}


def test_what_the_members_spread_explains_is_not_counted_twice() -> None:
    residuals = np.array([[-10.0, 1.0], [-12.0, 1.0], [-20.0, 1.0]])
    spread = np.array([[50.0, 0.0], [72.0, 0.0], [200.0, 0.0]])
    even = np.full(3, 1 / 3)
    expected = [1.0 - spread[:, 0].mean() / np.mean(residuals[:, 0] ** 2), 1.0]
    assert np.allclose(unexplained(residuals, spread, even), expected)
    first = np.array([1.0, 0.0, 0.0])  # the weights say which rows count
    assert unexplained(residuals, spread, first)[0] == pytest.approx(1.0 - 50.0 / 100.0)
    assert unexplained(0.1 * residuals, spread, even)[0] == 0.0  # spread enough and to spare
    assert unexplained(residuals, 0.0 * spread, even) == pytest.approx(1.0)  # one member has no spread


def test_residuals_are_those_of_members_that_never_saw_the_row() -> None:
    result = helpers.line_run(until="train")
    data, emulator = result.dataset, result.emulator
    fold = data["fold"].values
    used = np.isin(fold, [1, 2])  # two members, held out from the first two folds
    members = predict(emulator, data["z"].values[used])
    own = np.where(fold[used] == 1, 0, 1)
    expected = data["y"].values[used] - members[np.arange(used.sum()), own]
    assert emulator.residuals.shape == (used.sum(), 9)
    assert np.allclose(emulator.residuals, expected, atol=1e-12)
    assert np.allclose(emulator.training_z, data["z"].values[used])


@pytest.mark.parametrize(("outputs", "first"), [(8192, 256), (20_000, 128), (100_000, 64)])
def test_of_large_outputs_few_predictions_are_held_at_a_time(outputs: int, first: int) -> None:
    emulator: Any = SimpleNamespace(num_members=5, layout=SimpleNamespace(size=outputs))
    parts = blocks(np.arange(300), emulator, 2**32)
    assert len(parts[0]) == first and np.array_equal(np.concatenate(parts), np.arange(300))
    assert first * 5 * outputs * 8 < 2**28  # with all their copies, a gigabyte


def test_the_error_that_an_emulator_claims_is_the_error_that_it_makes() -> None:
    # Trained briefly; over the prior, the claimed variance should match the squared error on rows it never saw.
    brief = ("train.steps=150", "train.finish_steps=0", "train.ensemble_size=5", "train.dtype=float32")
    emulator = helpers.line_run(*brief, until="train").emulator
    rng = np.random.default_rng(0)
    theta = {name: jnp.asarray(m + s * rng.normal(size=2000)) for name, (m, s) in helpers.PRIOR.items()}
    truth = np.asarray(theta["intercept"])[:, None] + np.asarray(theta["slope"])[:, None] * helpers.X
    error = np.asarray(jax.jit(jax.vmap(emulator))(theta)["y"]) - truth
    claimed = np.asarray(jax.jit(jax.vmap(emulator.error))(theta)["y"])
    ratio = np.sqrt(np.mean(error**2) / np.mean(claimed**2))
    assert 0.4 < ratio < 1.5, ratio


def test_a_stage_leaves_history_pictures_and_the_error_in_the_datas_units(tmp_path: Path) -> None:
    result = helpers.line_run(until="train")
    folder, summary = result.folders["train"], result.summaries["train"]
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    assert table.dtype.names == ("step", "train_0", "train_1", "validation_0", "validation_1")
    row = summary["tables"]["held-out error"][0]
    assert row["output"] == "y" and row["error_rms"] < 0.05 * row["spread"]
    assert row["unexplained_variance"] < 1e-3
    assert summary["facts"]["members"] == 2
