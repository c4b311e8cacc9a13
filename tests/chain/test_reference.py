"""Posteriors against independent reference draws; skipped, and saying so, where those are not beside the checkout.

What samples is slow; smaller twins, with posteriors that are exact, are in test_infer.py and test_grids.py.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.posteriors import TASKS, best_draws, cases, named_draws, num_runs
from simfer.pipeline import run
from simfer.pipeline.results import Result
from tests.chain.test_grids import supernova_grid

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SIMFER_REFERENCE", ROOT.parent / "shared" / "reference"))
needs_reference = pytest.mark.skipif(
    not (FOLDER / "score.py").is_file(),
    reason=f"no reference draws in {FOLDER} (SIMFER_REFERENCE names another folder)",
)


@pytest.fixture(scope="module")
def score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", FOLDER / "score.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draws_of(task: str, store: Path, first: int = 0) -> tuple[Result, np.ndarray, np.ndarray]:
    for i, (_, reference, overrides) in enumerate(cases(FOLDER, task)):
        if i == first:
            settings = [*overrides, *best_draws(len(reference))]
            result = run(ROOT / "configs" / f"{task}.toml", overrides=settings, store=store)
            return result, reference, named_draws(result, TASKS[task], len(reference))
    raise AssertionError(f"{task} has no observation {first}")


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize(("task", "most_runs", "most"), [("sir", 300, 0.54), ("lotka_volterra", 600, 0.55)])
def test_a_task_of_sbibm_is_indistinguishable_from_its_reference(
    task: str, most_runs: int, most: float, first: int, tmp_path: Path, score: ModuleType
) -> None:
    result, reference, draws = draws_of(task, tmp_path, first)
    assert result.verdict.passed
    assert num_runs(result) <= most_runs
    assert score.c2st(reference, draws) < most


@needs_reference
@pytest.mark.slow
def test_lynx_and_hare_match_their_reference(tmp_path: Path, score: ModuleType) -> None:
    result, reference, draws = draws_of("lynx_hare", tmp_path)
    assert result.verdict.passed
    assert num_runs(result) <= 1500
    assert score.c2st(reference, draws) <= 0.53
    assert score.mmtv(reference, draws) <= 0.025
    assert score.gskl(reference, draws) <= 0.003


@needs_reference
@pytest.mark.slow
def test_the_school_epidemic_matches_its_reference(tmp_path: Path) -> None:
    result, reference, draws = draws_of("flu", tmp_path)
    assert result.verdict.passed
    assert (np.abs(draws.mean(axis=0) - reference.mean(axis=0)) / reference.std(axis=0)).max() < 0.1
    ratio = draws.std(axis=0) / reference.std(axis=0)
    assert ratio.min() > 0.93 and ratio.max() < 1.07


@needs_reference
@pytest.mark.slow
def test_supernovae_match_their_reference(tmp_path: Path, score: ModuleType) -> None:
    result, reference, draws = draws_of("supernova", tmp_path)
    assert result.verdict.passed
    assert score.c2st(reference, draws) <= 0.53
    for i, name in enumerate(("omega_m", "w")):
        assert np.median(draws[:, i]) == pytest.approx(supernova_grid().median(name), abs=0.1 * draws[:, i].std())


@needs_reference
def test_the_reference_of_supernovae_is_the_grids() -> None:
    (_, reference, _), *_ = cases(FOLDER, "supernova")
    for i, name in enumerate(TASKS["supernova"]):
        mean, sd = supernova_grid().moments(name)
        assert reference[:, i].mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(len(reference)))
        assert reference[:, i].std() == pytest.approx(sd, rel=0.04)
