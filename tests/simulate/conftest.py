"""What tests of rows on other machines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simfer.stages.simulate.engines import close_all, task
from simfer.stages.simulate.engines.scratch import scratch


@pytest.fixture
def closed_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let workers keep what they are sent in a folder of the test's own, and end all that is open after it."""
    monkeypatch.setenv("SIMFER_SCRATCH", str(tmp_path / "scratch"))
    scratch.cache_clear()
    yield
    close_all()
    task.end_children()
    scratch.cache_clear()
