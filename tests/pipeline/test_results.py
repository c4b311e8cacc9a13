"""What Python gets: each artifact opened when it is asked for, and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simfer import pipeline
from simfer.pipeline import chain, runtime
from simfer.pipeline.chain import ConfigError, Link, SimferError
from tests import fakes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    return fakes.write_project(tmp_path)


def test_artifacts_are_opened_once_and_when_asked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def load(link: Link, folder: Path) -> Any:
        opened.append(link.name)
        return folder

    monkeypatch.setattr(chain, "load", load)
    monkeypatch.setenv("FAKE_PASSES", "1")
    result = pipeline.run(project, overrides=["refine.max_rounds=1"])
    assert opened == []
    assert result.emulator == result.folders["train"] and result.emulator is result.emulator
    assert opened == ["train-1"]
    for name in ("simulations", "dataset", "posterior", "verdict"):
        getattr(result, name)
    assert opened[1:] == ["simulate-1", "dataset-1", "infer-1", "check-1"]
    assert result.summaries["check"]["facts"]["passed"] is True


def test_what_was_not_run_is_said_so(project: Path) -> None:
    result = pipeline.run(project, until="dataset")
    with pytest.raises(SimferError, match="infer has not been run; there is simulate, dataset"):
        _ = result.posterior


def test_loading_runs_nothing(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipeline.load(project).folders == {}
    made = pipeline.run(project)
    monkeypatch.setattr(chain, "run", lambda *arguments: pytest.fail("nothing is to be run"))
    assert pipeline.load(project).folders == made.folders
    assert pipeline.load(project, store=tmp_path / "elsewhere").folders == {}


def test_a_table_is_as_good_as_a_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simfer.pipeline.config import read

    monkeypatch.chdir(project.parent)
    assert pipeline.run(read(project)).folders == pipeline.run(project).folders
    with pytest.raises(ConfigError, match=r"train\.stps: unknown key"):
        pipeline.run(read(project), overrides=["train.stps=1"])


def test_importing_is_light() -> None:
    code = "import sys, simfer, simfer.pipeline\nprint(sorted({'jax', 'pydantic', 'rich', 'numpy'} & set(sys.modules)))"
    assert fakes.python(code).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing


@pytest.mark.parametrize("name", ["stages", "pipeline"])
def test_the_folders_are_no_packages_of_their_own(name: str) -> None:
    code = f"try:\n    import {name}\nexcept ImportError as error:\n    print(error)"
    assert "what there is to import is in simfer: from simfer import " in fakes.python(code).stdout
