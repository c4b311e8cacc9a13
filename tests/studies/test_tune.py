"""The search for settings: it finds what is better, goes on where it was, and gives what can be pasted."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import simfer.stages.studies.tune
from simfer.pipeline import chain, studies
from simfer.pipeline.build import Outcome
from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES
from simfer.stages.errors import SimferError
from simfer.stages.settings import Train
from simfer.stages.studies.search_space import changed, in_toml, space
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import Fitted
from simfer.stages.train.scaling import Prepared
from tests import helpers
from tests.helpers import NEAREST, STRAIGHT

POOR = {"architecture": STRAIGHT, "options": {"strength": 0.3}}


def tune(store: Path, trials: int, train: Mapping[str, Any] = POOR) -> Outcome:
    table = helpers.line(train={"options": None, **train}, tune={"trials": trials})
    table["train"]["options"] = train.get("options", {})
    return execute_study(helpers.problem(table), Store(store), "tune")


def trials(outcome: Outcome) -> list[tuple[dict[str, Any], float | None]]:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(outcome.folder / simfer.stages.studies.tune.STUDY))
    )
    study = optuna.load_study(study_name="tune", storage=storage)
    return [(trial.params, trial.value) for trial in simfer.stages.studies.tune.done(study)]


def test_a_setting_that_is_poor_is_bettered_and_the_settings_can_be_pasted(tmp_path: Path) -> None:
    outcome = tune(tmp_path, 15)
    facts = outcome.summary["facts"]
    assert facts["trials"] == 15
    assert facts["smallest_loss"] < 0.2 * facts["loss_as_configured"]
    pasted = tomllib.loads(outcome.summary["to_paste"])["train"]
    assert pasted["architecture"] == STRAIGHT
    assert pasted["options"]["strength"] < 0.1 and pasted["options"]["slanted"] is True
    helpers.problem(helpers.merged(helpers.line(train={"options": None}), {"train": pasted}))
    assert (outcome.folder / "tuning.png").stat().st_size > 5000
    failed = [warning for warning in outcome.summary["warnings"] if "expected at most 1" in warning]
    assert bool(failed) == bool(facts["failed"])


def test_a_search_that_is_killed_or_extended_ends_as_one_that_ran_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials(tune(tmp_path / "whole", 6))
    assert trials(tune(tmp_path / "parts", 2)) == whole[:2]
    assert tune(tmp_path / "parts", 1).cached  # fewer are there already
    true_loss, calls = simfer.stages.studies.tune._loss, []

    def killed_in_the_second(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true_loss(*arguments)

    monkeypatch.setattr(simfer.stages.studies.tune, "_loss", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", 6)
    monkeypatch.undo()
    extended = tune(tmp_path / "parts", 6)
    assert not extended.cached and trials(extended) == whole
    assert tune(tmp_path / "parts", 6).cached


def test_a_training_is_watched_and_its_settings_are_tried_first(tmp_path: Path) -> None:
    quick = {"architecture": "mlp", "options": {"width": 8}, "depth": 1, "steps": 200, "finish_steps": 0}
    outcome = tune(tmp_path, 2, quick)
    (first, loss), (second, _) = trials(outcome)
    expected = {"width": 8, "depth": 1, "activation": "silu", "learning_rate": 2e-2, "batch_size": 64}
    assert first == expected and second != expected
    assert outcome.summary["facts"]["loss_as_configured"] == loss
    pasted = tomllib.loads(outcome.summary["to_paste"])["train"]
    descent = {"optimizer", "learning_rate", "batch_size"}
    assert set(pasted) == {"architecture", "options", "depth", "activation"} | descent
    assert set(pasted["options"]) == {"width"}  # where the config has it


def test_a_trial_that_is_worse_than_others_were_by_then_is_cut_short() -> None:
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=150))
    good = study.ask()
    for look in range(3):
        good.report(0.1, 100 * (look + 1))
    study.tell(good, 0.1)
    watch = simfer.stages.studies.tune._Watch(study.ask())
    with watch.task("train", 300) as task:
        task.advance(100, train=5.0, validation=5.0)  # too early to say
        task.advance(50)
        with pytest.raises(optuna.TrialPruned):
            task.advance(50, train=5.0, validation=5.0)


def test_the_space_is_read_off_the_constructor() -> None:
    found = space(Train(architecture="residual", width=40, learning_rate=1e-3))
    assert found["width"] == IntDistribution(10, 160, log=True)
    assert found["depth"] == IntDistribution(1, 4)
    assert found["learning_rate"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert isinstance(found["activation"], CategoricalDistribution) and "silu" in found["activation"].choices
    assert set(space(Train(architecture="gaussian_process"))).isdisjoint({"max_rows"})
    assert space(Train(architecture="polynomial")) == {}  # its degree is chosen as it is fitted
    assert set(space(Train(architecture=STRAIGHT))) == {"strength", "slanted"}  # no descent, no learning rate


def test_trials_are_measured_alike_and_no_wild_row_decides() -> None:
    x, fold = np.linspace(-1.0, 1.0, 200)[:, None], 1 + np.arange(200) % 2
    study = optuna.create_study()

    def loss(error: np.ndarray) -> float:
        fitted = Fitted(None, np.array([1, 2]), twins={m: lambda z: jnp.zeros(1) for m in (1, 2)})
        prepared = Prepared(Rows(x, error[:, None]), fold, {}, None, None)
        return simfer.stages.studies.tune._loss(fitted, prepared, study)

    even, rough = np.full(200, 0.05), np.where(np.arange(200) % 20 == 0, 0.4, 1e-3)
    assert loss(even) == pytest.approx(0.05**2)
    assert loss(rough) == pytest.approx(np.mean(rough**2)) and loss(rough) > loss(even)  # smaller for the median row
    wild = np.where(np.arange(200) == 3, 1e6, even)
    assert loss(wild) < 1.6 * loss(even)


def test_what_is_written_is_what_was_tried() -> None:
    train = Train(architecture="residual", options={"width": 8})
    found = {"width": 13, "depth": 3, "learning_rate": 0.00123456}
    tried = changed(train, found)
    assert tried.options == {"width": 13} and tried.depth == 3 and tried.learning_rate == 0.00123
    written = tomllib.loads(in_toml(train, found))["train"]
    assert Train(**written) == tried


def test_what_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SimferError, match=r"Nearest.* has no option that could be searched"):
        tune(tmp_path, 2, {"architecture": NEAREST})
    auto = helpers.problem(helpers.line(train={"options": None, "architecture": "auto"}))
    with pytest.raises(chain.ConfigError, match=r'train\.architecture: got "auto"'):
        STUDIES["tune"].added(auto, 0)
    monkeypatch.setattr(studies, "find_spec", lambda name: None)
    with pytest.raises(SimferError, match=r"pip install \"simfer\[tune\]\""):
        STUDIES["tune"].added(helpers.problem(helpers.line()), 0)
