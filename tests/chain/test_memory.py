"""Rows pass through simulate and dataset in pieces: how many there are does not decide the memory that they take."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from simfer.stages.dataset import writer
from simfer.stages.simulate import rows
from tests import helpers

NUM_OUTPUTS = 1000
ROW_BYTES = 8 * NUM_OUTPUTS


STAGES = "simulate-0", "dataset-0"


def peaks(folder: Path, num: int) -> list[int]:
    """Return the most bytes that simulate, and then dataset, held beyond what was there before, with `num` rows."""
    options = {"x": np.linspace(0.0, 1.0, NUM_OUTPUTS).tolist()}
    checked = helpers.problem(helpers.line(simulate={"num_simulations": num, "options": options}))
    found = []
    for stage, inputs in zip(STAGES, ({}, {"simulations": [folder / STAGES[0]]}), strict=True):
        (folder / stage).mkdir(parents=True)
        tracemalloc.start()
        try:
            helpers.run_stage(checked, stage, inputs, folder / stage)
            found.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return found


def test_four_times_the_rows_take_hardly_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_SHARD_BYTES", 128 * ROW_BYTES)
    monkeypatch.setattr(writer, "_BLOCK_BYTES", 128 * ROW_BYTES)
    few, many = 2048, 8192  # so many that what waits to be written, up to 6 MB, does not look like growth
    with monkeypatch.context() as untraced:  # the first run imports and compiles
        untraced.setattr(tracemalloc, "start", lambda: None)
        untraced.setattr(tracemalloc, "stop", lambda: None)
        peaks(tmp_path / "first", 256)
    for stage, one, other in zip(STAGES, peaks(tmp_path / "few", few), peaks(tmp_path / "many", many), strict=True):
        assert one > 128 * ROW_BYTES, f"{stage}: what is counted are its rows"
        assert other - one < 0.15 * (many - few) * ROW_BYTES, stage
