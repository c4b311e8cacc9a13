"""How many cores a process takes itself to have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simfer.stages import cores


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a control group three levels down, on a machine of eight cores."""
    (tmp_path / "own").write_text("1:cpu:/elsewhere\n0::/jobs/42/step\n")
    monkeypatch.setattr(cores, "_OWN", tmp_path / "own")
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    step = tmp_path / "jobs" / "42" / "step"
    step.mkdir(parents=True)
    return step


def test_a_process_counts_the_cores_that_it_is_bound_to(group: Path) -> None:
    assert cores.num_cores() == 8


def test_a_control_group_holds_it_to_fewer(group: Path) -> None:
    (group / "cpu.max").write_text("max 100000\n")
    assert cores.num_cores() == 8
    (group.parent / "cpu.max").write_text("350000 100000\n")  # three and a half: the job's, above the step's
    assert cores.num_cores() == 4
    (group / "cpu.max").write_text("20000 100000\n")
    assert cores.num_cores() == 1


def test_where_neither_is_known_it_counts_the_machine_s(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    (group.parents[2] / "own").unlink()
    assert cores.num_cores() == 64
