"""A run builds what is missing, once, and survives being killed, damaged stores, and company."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import chain, config, runtime
from simfer.pipeline.chain import STAGES, ConfigError, Link, Mistake, SimferError, StageError, UserCodeError
from simfer.pipeline.progress import Progress, Silent, Task
from simfer.pipeline.runner import RunResult, execute
from simfer.pipeline.store import Store
from simfer.stages.model.plugins import resolve
from tests import fakes, helpers


class Notes(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def task(self, description: str, total: float, unit: str = "") -> AbstractContextManager[Task]:
        return Silent().task(description, total, unit)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return fakes.write_project(tmp_path)


def run(path: Path, *overrides: str, notes: Notes | None = None, **options: Any) -> RunResult:
    store = Store(config.store_folder(path.parent))
    return execute(config.load(path, overrides), store, reporter=notes, folder=path.parent, **options)


def stages() -> list[str]:
    """Name the stages that were run since this was last asked."""
    return [line for line in fakes.said() if not line.startswith("shard")]


def folder(path: Path, stage: str) -> Path:
    store, steps = Store(config.store_folder(path.parent)), helpers.plan(config.load(path))
    return next(store.folder(stage, step.fingerprint) for step in steps if step.stage == stage)


def contents(path: Path) -> dict[str, str]:
    """Digest the artifact of every stage."""
    return {stage: fakes.digest(folder(path, stage)) for stage in STAGES}


def test_a_second_run_does_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(project)
    assert [outcome.cached for outcome in first.outcomes] == [False] * 5
    assert stages() == [f"{stage}-0" for stage in STAGES]
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: pytest.fail("a cached run needs no deep checks"))
    second = run(project)
    assert [outcome.cached for outcome in second.outcomes] == [True] * 5
    assert stages() == []
    assert [each.manifest for each in second.outcomes] == [each.manifest for each in first.outcomes]
    assert second.passed is True


def test_a_manifest_says_how_it_was_made(project: Path) -> None:
    manifest = run(project).latest["train"].manifest
    assert manifest["stage"] == "train" and manifest["round"] == 0
    assert manifest["key"]["config"]["train"]["steps"] == 5000
    assert manifest["versions"].keys() >= {"python", "jax", "numpyro", "zarr", "diffrax", "optax", "equinox"}
    assert manifest["started"] <= manifest["finished"] and manifest["seconds"] >= 0
    assert manifest["device"]
    assert manifest["summary"]["facts"] == {"passed": True, "loss": None}


def test_only_what_changed_is_redone(project: Path) -> None:
    run(project)
    stages()
    run(project, "train.options.width=256")
    assert stages() == ["train-0", "infer-0", "check-0"]
    run(project, "simulate.batch_size=7")
    assert stages() == []
    (project.parent / "unrelated.py").write_text("value = 2")
    run(project)
    assert stages() == []
    (project.parent / "helper.py").write_text("value = 2")
    run(project)
    assert stages() == [f"{stage}-0" for stage in STAGES]


def test_until(project: Path) -> None:
    result = run(project, "refine.max_rounds=2", until="dataset")
    assert stages() == ["simulate-0", "dataset-0"]
    assert result.passed is None
    with pytest.raises(SimferError, match="expected one of simulate, "):
        run(project, until="tran")


def test_a_training_set_of_a_few_rows_is_refused_before_they_are_simulated(project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(project, "simulate.num_simulations=19", until="train")
    assert [(each.where, "at least 20 rows" in each.what) for each in caught.value.mistakes] == [
        ("simulate.num_simulations", True)
    ]
    assert stages() == []
    run(project, "simulate.num_simulations=5", until="simulate")  # to have a look
    assert stages() == ["simulate-0"]


def test_rounds_go_on_until_the_verdict_is_good(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PASSES", "1")
    result = run(project, "refine.max_rounds=2")
    assert [line for line in stages() if "check" in line] == ["check-0", "check-1"]
    assert result.passed is True
    assert result.latest["infer"].step.link.round == 1
    monkeypatch.setenv("FAKE_PASSES", "9")
    result = run(project, "refine.max_rounds=2", "simulate.seed=1")
    assert [line for line in stages() if "check" in line] == ["check-0", "check-1", "check-2"]
    assert result.passed is False


def test_redo_builds_again_from_there_on(project: Path) -> None:
    run(project)
    stages()
    result = run(project, redo="train")
    assert stages() == ["train-0", "infer-0", "check-0"]
    assert [outcome.cached for outcome in result.outcomes] == [True, True, False, False, False]
    run(project, redo="simulate")
    assert fakes.said()[:5] == ["simulate-0", "shard 0", "shard 1", "shard 2", "shard 3"]


def test_a_redo_that_fails_loses_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project)
    stages()

    def fail(link: Link, inputs: Any, folder: Path, progress: Any, failed: Any) -> dict[str, Any]:
        (folder / "half").write_text("")
        raise StageError("no")

    with monkeypatch.context() as patch, pytest.raises(StageError):
        patch.setattr(chain, "run", fail)
        run(project, redo="train")
    run(project)
    assert stages() == []


def test_all_that_the_simulator_says_is_wrong_stops_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Mistake("observation.file", "column y"), Mistake("parameters", "no such parameter")]
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: wrong)
    with pytest.raises(ConfigError) as caught:
        run(project)
    assert caught.value.mistakes == wrong
    assert stages() == []


class TestDamage:
    """Damage is found, said, and made good; what is not damaged is not done again."""

    @pytest.fixture(autouse=True)
    def _built(self, project: Path) -> None:
        run(project)
        fakes.said()

    def repaired(self, project: Path, before: Mapping[str, str], *overrides: str) -> tuple[list[str], str]:
        notes = Notes()
        run(project, *overrides, notes=notes)
        assert contents(project) == before
        return fakes.said(), "\n".join(line for line in notes.lines if "damaged" in line)

    @pytest.mark.parametrize("damage", ["x" * 10, "", None])
    def test_a_file(self, project: Path, damage: str | None) -> None:
        before, file = contents(project), folder(project, "train") / "nested" / "out.txt"
        file.write_text(damage) if damage is not None else file.unlink()
        done, said = self.repaired(project, before)
        assert done == ["train-0"]
        assert str(file) in said

    def test_a_shard_alone_is_simulated_again(self, project: Path) -> None:
        before, file = contents(project), folder(project, "simulate") / "shard-2.txt"
        file.write_text("truncated")
        done, said = self.repaired(project, before)
        assert done == ["simulate-0", "shard 2"]
        assert str(file) in said

    def test_what_a_stage_does_not_repair_by_itself_is_built_afresh(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def careless(link: Link, inputs: Any, folder: Path, progress: Any, failed: Any) -> dict[str, Any]:
            if (folder / "shard-0.txt").exists():
                return {}  # takes itself for done
            return fakes.run_stage(link, inputs, folder, progress, failed)

        before, file = contents(project), folder(project, "simulate") / "shard-2.txt"
        file.unlink()
        monkeypatch.setattr(chain, "run", careless)
        assert self.repaired(project, before)[0][:3] == ["simulate-0", "shard 0", "shard 1"]

    @pytest.mark.parametrize("stage", ["simulate", "infer"])
    @pytest.mark.parametrize("text", ["{", None])
    def test_a_manifest(self, project: Path, stage: str, text: str | None) -> None:
        before, file = contents(project), folder(project, stage) / "manifest.json"
        file.write_text(text) if text is not None else file.unlink()
        done, said = self.repaired(project, before)
        assert done == [f"{stage}-0"]
        assert str(file) in said

    def test_an_input_is_hashed_before_it_is_read(self, project: Path) -> None:
        before, file = contents(project), folder(project, "dataset") / "nested" / "out.txt"
        seen = file.stat()
        file.write_text("x" * seen.st_size)
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert (
            self.repaired(project, {**before, "dataset": fakes.digest(file.parent.parent)})[0] == []
        )  # nothing reads it
        done, said = self.repaired(project, before, "train.steps=9")
        assert done[0] == "dataset-0" and "train-0" in done
        assert str(file) in said


class TestKilled:
    """kill -9 at any moment: the next run goes on, and ends where an undisturbed one ends."""

    @pytest.fixture
    def undisturbed(self, project: Path, tmp_path: Path) -> dict[str, str]:
        run(project)
        fakes.said()
        digests = contents(project)
        (tmp_path / "data" / "artifacts").rename(tmp_path / "reference")
        return digests

    def killed(self, project: Path, *arguments: str, moment: str) -> list[str]:
        done = fakes.simfer("run", project, *arguments, FAKE_KILL=moment)
        assert done.returncode == -signal.SIGKILL
        return fakes.said()

    def test_during_simulate(self, project: Path, undisturbed: dict[str, str]) -> None:
        assert self.killed(project, moment="stage") == ["simulate-0", "shard 0", "shard 1"]
        assert not folder(project, "simulate").exists()
        run(project)
        assert fakes.said()[:3] == ["simulate-0", "shard 2", "shard 3"]
        assert contents(project) == undisturbed

    def test_during_a_stage_that_starts_afresh(self, project: Path, undisturbed: dict[str, str]) -> None:
        run(project, until="simulate")
        fakes.said()
        assert self.killed(project, moment="stage") == ["dataset-0"]
        leftover = folder(project, "dataset").with_name(f".building-{folder(project, 'dataset').name}")
        (leftover / "half-written").write_text("")
        run(project)
        assert stages() == ["dataset-0", "train-0", "infer-0", "check-0"]
        assert contents(project) == undisturbed

    def test_between_the_manifest_and_the_rename(self, project: Path, undisturbed: dict[str, str]) -> None:
        self.killed(project, moment="publish")
        assert not folder(project, "simulate").exists()
        run(project)
        assert stages() == [
            "dataset-0",
            "train-0",
            "infer-0",
            "check-0",
        ]  # simulate was whole, and only had to be named
        assert contents(project) == undisturbed

    def test_during_a_redo(self, project: Path) -> None:
        run(project)
        fakes.said()
        self.killed(project, "--redo", "simulate", moment="stage")
        run(project)
        assert fakes.said() == []
        run(project, redo="simulate")
        assert fakes.said()[:5] == ["simulate-0", "shard 0", "shard 1", "shard 2", "shard 3"]


def test_two_runs_at_once_build_each_stage_once(project: Path) -> None:
    pair = [
        subprocess.Popen(**fakes.process("run", project, FAKE_PAUSE="0.1"), text=True, stdout=-1, stderr=-1)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=60) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], ends
    assert sorted(stages()) == sorted(f"{stage}-0" for stage in STAGES)
    assert any("another process is building it" in errors for _, errors in ends)


class TestUserCode:
    """An exception of the user's own is shown as theirs."""

    def test_in_a_helper(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project.parent / "helper.py").write_text("def scale(x):\n    return x / 0\n")
        helper = runpy.run_path(str(project.parent / "helper.py"))
        monkeypatch.setattr(chain, "run", lambda *arguments: helper["scale"](1))
        with pytest.raises(UserCodeError) as caught:
            run(project)
        text = str(caught.value)
        assert "simulate-0: your code raised ZeroDivisionError" in text
        assert "helper.py" in text and "return x / 0" in text and text.endswith("division by zero")
        assert "build.py" not in text
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_a_syntax_error(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project.parent / "my_model.py").write_text("def broken(:\n")
        model = project.parent / "my_model.py"
        monkeypatch.setattr(chain, "mistakes", lambda problem, **_: compile(model.read_text(), model, "exec"))
        with pytest.raises(UserCodeError, match="SyntaxError"):
            run(project)

    def test_a_bug_of_ours_is_not_blamed_on_them(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chain, "run", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(project)


def test_data_edited_during_the_run_are_not_kept_under_a_wrong_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(link: Link, inputs: Any, folder: Path, progress: Any, failed: Any) -> dict[str, Any]:
        (project.parent / "data.csv").write_text(f"time,x\n0,{len(link.name)}\n")
        return fakes.run_stage(link, inputs, folder, progress, failed)

    def stop_at_infer() -> None:
        said = r"infer-0: edited while this ran: .*data\.csv"
        with monkeypatch.context() as patch, pytest.raises(StageError, match=said):
            patch.setattr(chain, "run", edit)
            run(project)

    stop_at_infer()
    assert stages() == ["simulate-0", "dataset-0", "train-0"]  # infer was not even begun
    (project.parent / "data.csv").write_text("time,x\n0,5\n")
    stop_at_infer()
    assert stages() == ["infer-0"]
    run(project)
    assert stages() == ["infer-0", "check-0"]


def test_code_edited_before_it_was_imported_and_put_back_is_not_kept_under_a_wrong_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX's own import takes seconds: whoever saves a file in them runs what no fingerprint says."""
    helper = project.parent / "helper.py"
    text = helper.read_text()

    def edit(link: Link, inputs: Any, folder: Path, progress: Any, failed: Any) -> dict[str, Any]:
        helper.write_text("value = 1000\n")
        resolve(f"{project.parent / 'my_model.py'}:Model", {})
        helper.write_text(text)
        return fakes.run_stage(link, inputs, folder, progress, failed)

    monkeypatch.setattr(chain, "run", edit)
    with pytest.raises(StageError, match=r"simulate-0: edited while this ran: .*helper\.py"):
        run(project)
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    assert not any(outcome.cached for outcome in run(project).outcomes)


def test_code_edited_during_the_run_is_not_kept_under_a_wrong_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(link: Link, inputs: Any, folder: Path, progress: Any, failed: Any) -> dict[str, Any]:
        (project.parent / "helper.py").write_text("value = 1000\n")
        return fakes.run_stage(link, inputs, folder, progress, failed)

    monkeypatch.setattr(chain, "run", edit)
    with pytest.raises(StageError, match=r"simulate-0: edited while this ran: .*helper\.py"):
        run(project)
