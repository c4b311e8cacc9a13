"""The density of data of any shape, learned where it is known exactly, and kept on disk."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer import load_emulator
from simfer.stages.emulator.flow import Flow, blank_flow
from simfer.stages.emulator.saved import save_emulator
from simfer.stages.emulator.splines import Splines, spline
from simfer.stages.errors import StageError
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.settings.training import Flow as FlowSettings
from simfer.stages.train import ladder, shape
from simfer.stages.train.density import Beginning, Candidate, Sample, train
from simfer.stages.train.feed import Rows
from simfer.stages.train.ladder import learn
from tests import helpers

SWITCH, SD = 0.8, 0.3


def simulate(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters, and two data that share a switch."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 1))
    return x, x + rng.choice([-SWITCH, SWITCH], size=(num, 1)) + SD * rng.normal(size=(num, 2))


def exact_log_density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    parts = [-0.5 * ((y - x - level) ** 2).sum(axis=1) / SD**2 for level in (-SWITCH, SWITCH)]
    return np.logaddexp(*parts) - np.log(2.0) - np.log(2.0 * np.pi * SD**2)


@cache
def learned() -> Candidate:
    x, y = simulate(2000, 0)
    sizes = FlowSettings(layers=2, width=16, steps=300, learning_rate=1e-2)
    settings = Train(ensemble_size=2, steps=200, flow=sizes)
    found = learn(settings, Sample(x, y, 1 + np.arange(len(x)) % 5), Silent(), "one shape")
    return found[ladder.likeliest(found)]


def test_a_shared_switch_is_learned_and_a_gaussian_is_left_behind() -> None:
    x, y = simulate(2000, 1)
    truth = exact_log_density(x, y).mean()
    candidate = learned()
    found = float(jax.jit(jax.vmap(candidate.flow.log_prob))(jnp.asarray(x), jnp.asarray(y)).mean())
    assert found == pytest.approx(truth, abs=0.06)  # nats: 6 % of a likelihood ratio
    assert candidate.log_density.mean() == pytest.approx(found, abs=0.1)
    of_a_gaussian = -0.5 * np.linalg.slogdet(np.cov((y - x).T))[1] - np.log(2.0 * np.pi) - 1.0
    assert of_a_gaussian < truth - 0.3


def few_rows() -> tuple[Train, Sample]:
    x, y = simulate(400, 0)
    settings = Train(ensemble_size=2, steps=20, flow=FlowSettings(layers=1, width=4, steps=20))
    return settings, Sample(x, y, 1 + np.arange(len(x)) % 5)


def run_away(monkeypatch: pytest.MonkeyPatch, *lost: tuple[str, int]) -> None:
    """Let the loss run away in trainings by name, from a start by number."""
    count: Counter[str] = Counter()

    def trained(begun: Beginning, tried: str, *rest: Any) -> Candidate:
        count[tried] += 1
        if (tried, count[tried]) in lost:
            raise StageError("the training loss was not finite")
        return train(begun, tried, *rest)

    monkeypatch.setattr(ladder, "train", trained)


def test_a_density_that_runs_away_is_left_out_and_its_other_start_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, rows = few_rows()
    run_away(monkeypatch, ("gaussian, one scale", 1), ("gaussian", 1), *(("axes for themselves", i) for i in (1, 2)))
    assert list(learn(settings, rows, Silent(), "axes by parameters")) == ["gaussian", "axes by parameters"]


def test_a_density_that_is_not_a_number_somewhere_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, rows = few_rows()

    def holed(begun: Beginning, tried: str, *rest: Any) -> Candidate:
        candidate = train(begun, tried, *rest)
        log_density = candidate.log_density.copy()
        log_density[0] = np.nan if tried == "gaussian, one scale" else 0.0
        return candidate._replace(log_density=log_density)

    monkeypatch.setattr(ladder, "train", holed)
    assert list(learn(settings, rows, Silent(), "gaussian")) == ["gaussian"]


def test_where_every_density_runs_away_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, rows = few_rows()
    run_away(monkeypatch, ("gaussian, one scale", 1), ("gaussian", 1), ("gaussian", 2))
    with pytest.raises(StageError, match="every density ran away"):
        learn(settings, rows, Silent())


def a_candidate(gain: float) -> Candidate:
    """Return what rows think of a density, the flow itself being of no matter."""
    noise = np.random.default_rng(0 if gain < 0.0 else 1).normal(size=200)
    return Candidate(None, {}, gain + 0.1 * noise, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("following", "one_shape", "vain"), [(-1.0, -1.0, True), (-1.0, 1.0, False), (0.0, -1.0, False)]
)
def test_a_shape_by_parameters_is_in_vain_only_where_both_its_parts_are(
    following: float, one_shape: float, vain: bool
) -> None:
    found = {"axes for themselves": 0.0, "axes by parameters": following, "one shape": one_shape}
    assert ladder._in_vain({name: a_candidate(gain) for name, gain in found.items()}) is vain
    assert not ladder._in_vain({"axes for themselves": a_candidate(0.0)})


def test_a_gaussian_that_is_kept_though_held_out_rows_contradict_it_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    config = cast(Any, SimpleNamespace(train=Train(scatter="auto"), noise={}))
    rows, kept = Rows(np.zeros((4, 1)), np.zeros((4, 1))), a_candidate(0.0)
    monkeypatch.setattr(shape, "_row", lambda *_: {})
    monkeypatch.setattr(shape, "sample", lambda *_: None)
    monkeypatch.setattr(shape, "learn", lambda *_: {"gaussian": kept, "axes for themselves": kept})
    learned = []
    for p in (1e-9, 0.3):
        monkeypatch.setattr(shape, "_gaussian_p", lambda _, p=p: p)
        learned.append(shape.learn_shape(config, cast(Any, None), cast(Any, None), rows, Silent()))
    assert len(learned[0].warnings) == 1 and "do not scatter as a Gaussian" in learned[0].warnings[0]
    assert not learned[1].warnings and learned[1].words.startswith("gaussian: held-out rows do not contradict it")


def test_draws_have_the_density_and_turn_into_standard_normals() -> None:
    flow, x = learned().flow, jnp.array([0.7])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.jit(jax.vmap(lambda key: flow.sample(x, key)))(keys)
    middle = np.asarray(drawn).mean(axis=1) - 0.7
    assert 0.4 < np.mean(middle > 0) < 0.6 and np.mean(np.abs(middle) < 0.3) < 0.08
    normal = np.asarray(jax.jit(jax.vmap(lambda y: flow.normal(x, y)))(drawn))
    assert np.abs(normal.mean(axis=0)).max() < 0.1 and np.abs(np.cov(normal.T) - np.eye(2)).max() < 0.15


def test_a_flow_is_saved_in_format_5_and_gives_the_same_again(tmp_path: Path) -> None:
    plain, shaped = helpers.line_run(until="train").emulator, learned()
    save_emulator(plain, tmp_path)
    assert json.loads((tmp_path / "emulator.json").read_text())["format"] == 4  # as before there were flows
    header = replace(plain.header, flow=shaped.about)
    save_emulator(replace(plain, flow=shaped.flow, header=header), tmp_path)
    assert json.loads((tmp_path / "emulator.json").read_text())["format"] == 5
    again = load_emulator(tmp_path).flow
    x, y = jnp.array([0.3]), jnp.array([0.9, 1.2])
    assert again is not None and again.log_prob(x, y) == shaped.flow.log_prob(x, y)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.usefixtures("strict_dtypes")
def test_a_flow_has_an_inverse_and_its_volume_is_that_of_its_slopes(size: int) -> None:
    made = Splines(size, 2, key=jax.random.key(0), layers=2, width=8, bins=4, reach=3.0)
    leaves, structure = jax.tree.flatten(made)
    rng = np.random.default_rng(0)
    flow = jax.tree.unflatten(structure, [leaf + 0.5 * rng.normal(size=leaf.shape) for leaf in leaves])
    u, x = jnp.asarray(rng.normal(size=size)), jnp.asarray(rng.normal(size=2))
    (n, log), slopes = jax.jit(lambda u: (flow(u, x), jax.jacfwd(lambda u: flow(u, x)[0])(u)))(u)
    assert np.allclose(jax.jit(lambda n: flow.inverse(n, x))(n), u, atol=1e-9)
    assert float(log) == pytest.approx(np.linalg.slogdet(slopes)[1], abs=1e-9)


def test_a_spline_of_zeros_is_the_identity_and_beyond_its_reach_every_one_is() -> None:
    at = jnp.linspace(-4.0, 4.0, 9)
    values, slopes = jax.jit(jax.vmap(lambda x: spline(x, jnp.zeros(11), 3.0)))(at)
    assert np.allclose(values, at) and np.allclose(slopes, 0.0)
    value, slope = jax.jit(lambda x: spline(x, jnp.ones(11), 3.0))(jnp.asarray(3.5))
    assert value == 3.5 and slope == 0.0


def test_an_untrained_flow_has_the_shapes_of_a_trained_one() -> None:
    trained = learned()
    blank: Flow = blank_flow(trained.about)
    assert jax.tree.structure(blank) == jax.tree.structure(trained.flow)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(each)] for each in (blank, trained.flow)]
    assert shapes[0] == shapes[1]
