"""A store is opened once by a stage that reads it, however much is read: over a network an opening is a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from simfer.stages.artifacts.simulations import SIMULATIONS, Simulations
from simfer.stages.artifacts.training_set import DATASET, TrainingSet
from tests import helpers

ROWS = 512
SETTINGS: dict[str, Any] = {"simulate": {"num_simulations": ROWS}, "train": {"steps": 100, "finish_steps": 0}}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a store's name and how it is opened."""
    openings, open_group = [], zarr.open_group

    def counted(store: Path, mode: str = "a", **options: Any) -> zarr.Group:
        openings.append(f"{mode} {Path(store).name}")
        return open_group(store, mode=mode, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(zarr, "open_group", counted)
    return openings


def test_a_stage_opens_each_store_once(tmp_path: Path, opened: list[str]) -> None:
    problem = helpers.problem(helpers.line(**SETTINGS))
    helpers.run_stage(problem, "simulate-0", {}, tmp_path / "rows")
    opened.clear()
    helpers.run_stage(problem, "dataset-0", {"simulations": [tmp_path / "rows"]}, tmp_path / "data")
    assert opened == [f"r {SIMULATIONS}", f"w {DATASET}"]
    opened.clear()
    helpers.run_stage(problem, "train-0", {"dataset": [tmp_path / "data"]}, tmp_path / "emulator")
    assert opened == [f"r {DATASET}"]


def test_all_that_artifacts_hold_is_read_from_one_opening(opened: list[str]) -> None:
    folders = helpers.line_run(until="dataset").folders
    opened.clear()
    simulations, data = Simulations.load(folders["simulate"]), TrainingSet.load(folders["dataset"])
    assert len(opened) == 2
    _, y, _ = simulations.rows(0, len(simulations))
    assert list(simulations.layout.outputs) == list(data.layout.outputs)
    assert np.array_equal(data.outputs(0, len(y)), y) and np.array_equal(data.targets(), y - data.location)
    assert len(data.points()[0]) == len(simulations.endings()[0]) and data.piece and not data.bases()
    assert data.derivatives(0, 1) is None and simulations.derivatives(0, 1) is None and data.coordinate_units == {}
    assert len(opened) == 2
