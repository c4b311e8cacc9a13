"""A training that is killed goes on, and ends with the very weights that it would have had."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.errors import StageError
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.train.checkpoints import SUFFIX, Checkpoint
from simfer.stages.train.descent import Trace
from simfer.stages.train.fitting import fit, fit_scatter
from tests import helpers
from tests.train.test_stage import SMALL, curve

PATIENT = {"steps": 300, "finish_steps": 40, "dtype": "float32", "learning_rate": 1e-2}


class Killed(BaseException):
    """What stands for a kill."""


def mean_and_scatter(folder: Path | None) -> list[np.ndarray]:
    rows, fold = curve(300, noise=0.1)
    settings = Train(**(SMALL | PATIENT))
    fitted = fit(settings, rows, fold, {}, Silent(), folder)
    fitted, scatter, _ = fit_scatter(settings, fitted, rows, fold, {}, np.ones(2), Silent(), folder)
    arrays = eqx.filter((fitted.networks, scatter.networks), eqx.is_array)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]


@cache
def undisturbed() -> list[np.ndarray]:
    return mean_and_scatter(None)


# Looks are 3 and 2 for the mean, a checkpoint after both, then 3 and 2 for the scatter.
@pytest.mark.slow  # its twin kills a process
@pytest.mark.parametrize("number", [2, 4, 6, 8, 11])
def test_wherever_it_was_killed_the_weights_are_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, save, look = [], Checkpoint.save, Trace.look

    def saved(self: Checkpoint, header: dict[str, Any], state: Any, now: bool = False) -> None:
        save(self, header, state, now=True)
        looks.append(header)
        if len(looks) == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", saved)
        with pytest.raises(Killed):
            mean_and_scatter(tmp_path)
    later: list[int] = []
    monkeypatch.setattr(Trace, "look", lambda *args: (later.append(args[2]), look(*args))[1])
    resumed = mean_and_scatter(tmp_path)
    assert len(later) == 10 - number + (number > 5)
    assert all(np.array_equal(one, other) for one, other in zip(resumed, undisturbed(), strict=True))


def test_a_loss_that_runs_away_leaves_nothing_for_the_lower_rate_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, look = Checkpoint.save, Trace.look
    monkeypatch.setattr(Checkpoint, "save", lambda *args, now=False: save(*args[:3], now=True))

    rows, fold = curve(300, noise=0.1)
    settings = Train(**(SMALL | PATIENT | {"finish_steps": 0, "steps": 200}))
    fitted = fit(settings, rows, fold, {}, Silent())

    def scatter(folder: Path | None) -> list[np.ndarray]:
        looks: list[int] = []

        def runs_away(self: Trace, weights: Any, steps: int, train: np.ndarray, validation: np.ndarray) -> None:
            looks.append(steps)
            look(self, weights, steps, np.full_like(train, np.nan) if len(looks) == 2 else train, validation)

        monkeypatch.setattr(Trace, "look", runs_away)
        both, random, _ = fit_scatter(settings, fitted, rows, fold, {}, np.ones(2), Silent(), folder)
        assert looks == [100] * 4
        arrays = eqx.filter((both.networks, random.networks), eqx.is_array)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]

    alone, kept = scatter(None), scatter(tmp_path)
    assert all(np.array_equal(one, other) for one, other in zip(alone, kept, strict=True))
    assert {file.stem for file in tmp_path.glob(f"*{SUFFIX}")} == {"scatter", "scatter-30-percent"}


KILLED = """
import os, signal, sys, simfer
from simfer.stages.train.checkpoints import Checkpoint
written, save = [], Checkpoint.save
def saved(self, header, state, now=False):
    save(self, header, state, now=True)
    written.append(header)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = saved
from tests import helpers
simfer.run(helpers.line(observation={"file": sys.argv[2]}), store=sys.argv[1], until="train")
"""


def test_kill_9_in_the_middle_of_a_stage_changes_nothing(tmp_path: Path) -> None:
    data = str(helpers.write_line(tmp_path / "line.csv"))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), data]
    assert subprocess.run(command, cwd=helpers.ROOT, timeout=300).returncode == -signal.SIGKILL
    left = list((tmp_path / "store").glob(f"train/.building-*/*{SUFFIX}"))
    assert len(left) == 1
    result = helpers.pipeline.run(helpers.line(observation={"file": data}), store=tmp_path / "store", until="train")
    whole = helpers.line_run(until="train")
    for name in ("emulator.eqx", "history.csv"):
        assert (result.folders["train"] / name).read_bytes() == (whole.folders["train"] / name).read_bytes()
    assert not list(result.folders["train"].glob(f"*{SUFFIX}*"))


def test_a_checkpoint_that_is_spoilt_says_so_and_one_of_another_version_is_left_alone(tmp_path: Path) -> None:
    checkpoint, state = Checkpoint(tmp_path / "train"), {"w": jnp.arange(3.0)}
    assert checkpoint.header(2) == {}
    checkpoint.save({"members": 2}, lambda: state)
    assert checkpoint.header(2) == {}  # too soon after the beginning
    checkpoint.save({"members": 2, "at": 7}, lambda: state, now=True)
    assert checkpoint.header(2)["at"] == 7
    assert np.array_equal(checkpoint.load({"w": jnp.zeros(3)})["w"], state["w"])
    assert checkpoint.header(3) == {}
    file = tmp_path / f"train{SUFFIX}"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"jax": "', b'"jax": "0'))
    assert checkpoint.header(2) == {}
    file.write_bytes(whole[:-9])
    with pytest.raises(StageError, match="remove it, and training begins anew"):
        checkpoint.load({"w": jnp.zeros(3)})
