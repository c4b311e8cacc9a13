"""Chains go on from where they stood: after a kill, or where more draws are asked for."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.samplers import nuts
from simfer.stages.infer.samplers.chains import CHAINS, Chains
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target, build_target
from simfer.stages.progress import Progress, Silent
from simfer.stages.settings import Infer
from tests import helpers


class Killed(Exception):
    """As if the process were."""


class Counting(Silent):
    """Counts the draws that are told of, and ends the run at the one it is told to."""

    def __init__(self, last: float = np.inf) -> None:
        self.advanced: list[int] = []
        self.last = last

    @contextmanager
    def task(self, description: str, total: float, unit: str = "") -> Any:
        outer = self

        class Task:
            def advance(self, amount: int, **figures: Any) -> None:
                outer.advanced.append(amount)
                if sum(outer.advanced) >= outer.last:
                    raise Killed

        yield Task()


@pytest.fixture(scope="module")
def target() -> Target:
    config = helpers.link(helpers.problem(helpers.line()), "infer-0").config
    emulator = helpers.line_run(until="train").folders["train"]
    return build_target(config, load_predictor(config, emulator))  # type: ignore[arg-type]


def draw(target: Target, num: int, file: Path | None = None, progress: Progress | None = None) -> Draws:
    settings = Infer(num_warmup=120, num_samples=num, num_chains=2)  # which no stretch of 50 divides
    return nuts.sample(target._replace(chains=file), settings, progress or Silent())


@pytest.fixture(scope="module")
def whole(target: Target) -> Draws:
    return draw(target, 300)


def same(a: Draws, b: Draws) -> bool:
    statistics = all(np.array_equal(a.statistics[name], b.statistics[name]) for name in a.statistics)
    return np.array_equal(a.z, b.z) and statistics and a.num_gradients == b.num_gradients


def test_more_draws_are_taken_up_from_the_last_one(target: Target, whole: Draws, tmp_path: Path) -> None:
    draw(target, 200, tmp_path / CHAINS)
    counting = Counting()
    assert same(draw(target, 300, tmp_path / CHAINS, counting), whole)
    assert counting.advanced[0] == 350 and sum(counting.advanced[1:]) == 70
    assert np.array_equal(draw(target, 250, tmp_path / CHAINS).z, whole.z[:, :250])


def test_a_killed_run_goes_on(target: Target, whole: Draws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simfer.stages.infer.samplers.chains._SECONDS", 0.0)
    with pytest.raises(Killed):
        draw(target, 300, tmp_path / CHAINS, Counting(last=200))
    counting = Counting()
    assert same(draw(target, 300, tmp_path / CHAINS, counting), whole)
    assert counting.advanced[0] == 150  # the last stretch was told of before it was written


@pytest.mark.parametrize("content", [b"", b"no such thing", b"PK\x03\x04"])
def test_a_file_that_is_none_is_as_good_as_none(target: Target, whole: Draws, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHAINS).write_bytes(content)
    assert same(draw(target, 300, tmp_path / CHAINS), whole)


def test_chains_that_began_elsewhere_are_others(tmp_path: Path) -> None:
    states, steps = [np.zeros(3)], [{"z": np.ones((2, 50, 3))}]
    Chains(tmp_path / CHAINS, np.zeros(3)).save(states, steps, 1.0, now=True)
    assert Chains(tmp_path / CHAINS, np.zeros(3)).restore(states)[1]
    assert not Chains(tmp_path / CHAINS, np.ones(3)).restore(states)[1]
    assert not Chains(tmp_path / CHAINS, np.zeros(3)).restore([np.zeros(4)])[1]
