"""What a failure costs: rounds, draws and simulations are bought only where they can help, and none of them twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import chain, config, manifest, runtime
from simfer.pipeline.chain import StageError
from simfer.pipeline.plan import Plan, kept
from simfer.pipeline.runner import RunResult, built, execute
from simfer.pipeline.store import Store
from tests import fakes

ROUNDS = "refine.max_rounds=5"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    monkeypatch.setattr(runtime, "revision", lambda folder: None)
    monkeypatch.setattr(manifest, "sync", lambda path: None)  # nothing is killed here
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_COUNTS", "1")
    return fakes.write_project(tmp_path)


def store(path: Path) -> Store:
    return Store(config.store_folder(path.parent))


def run(path: Path, *overrides: str, **options: Any) -> RunResult:
    return execute(config.load(path, overrides), store(path), **options)


def said() -> tuple[list[str], int, list[str]]:
    """Return the steps that were built since this was last asked, the shards solved for them, and draws taken."""
    lines = fakes.said()
    steps = [line for line in lines if not line.startswith(("shard", "draws"))]
    return steps, sum(line.startswith("shard") for line in lines), [x for x in lines if x.startswith("draws")]


class TestRounds:
    """Simulations are bought for the emulator's sake alone."""

    def test_chains_that_are_too_short_go_on_and_buy_nothing(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_ESS", "0.15")
        result = run(project, ROUNDS)
        steps, shards, draws = said()
        assert result.passed and steps[-4:] == ["infer-0", "check-0", "infer-0", "check-0"]
        assert len(result.outcomes) == 3 + 2 * 3
        assert (shards, draws) == (
            5,
            ["draws 1000", "draws 1000", "draws 2000"],
        )  # the check's rows are those of before
        assert run(project, ROUNDS).passed and said()[0] == []

    def test_there_is_an_end_to_it(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_ESS", "0.01")
        result = run(project, ROUNDS)
        assert result.passed is False and result.last_round == 0
        assert said()[2] == ["draws 1000", "draws 1000", "draws 2000"]  # four times what was asked for
        assert run(project, ROUNDS, "infer.max_samples=1000").passed is False
        assert said() == ([], 0, [])

    @pytest.mark.parametrize(
        "figure", ["divergent transitions (share)", "posterior predictive p", "numerical error of"]
    )
    def test_what_neither_cures_ends_the_run(self, project: Path, monkeypatch: pytest.MonkeyPatch, figure: str) -> None:
        def fails(link: Any, *arguments: Any) -> dict[str, Any]:
            summary = fakes.run_stage(link, *arguments)
            if link.stage == "check":
                row = {"figure": figure, "value": 0.0, "limit": "≥ 0.5", "passed": False}
                summary["tables"]["verdict"].append(row)
                summary["facts"]["passed"] = False
            return summary

        monkeypatch.setattr(chain, "run", fails)
        result = run(project, ROUNDS)
        assert result.passed is False and result.last_round == 0
        assert said()[0].count("check-0") == 1

    def test_a_posterior_that_leans_on_failures_has_its_next_design_know_them(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def leans(link: Any, *arguments: Any) -> dict[str, Any]:
            summary = fakes.run_stage(link, *arguments)
            if link.stage == "check" and link.round == 1:
                row = {"figure": "draws that the simulator cannot solve", "value": 0.4, "limit": "≤ 0.05"}
                summary["tables"]["verdict"].append(row | {"passed": False})
                summary["facts"]["passed"] = False
            return summary

        monkeypatch.setattr(chain, "run", leans)
        monkeypatch.setenv("FAKE_PASSES", "3")
        result = run(project, ROUNDS)
        inputs = [each.step.link.inputs for each in result.outcomes if each.step.stage == "simulate"]
        assert [sorted(each) for each in inputs[:2]] == [[], ["emulator", "posterior"]]
        for number in (2, 3):
            assert inputs[number]["simulations"] == tuple(f"simulate-{i}" for i in range(number))
            assert inputs[number]["checks"] == tuple(f"check-{i}" for i in range(number))
        assert len(set(kept(config.load(project, [ROUNDS]), store(project)))) == 20
        assert run(project, ROUNDS).passed and len(said()[0]) == 20

    def test_a_later_round_that_fails_leaves_the_last_answer(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_PASSES", "9")
        monkeypatch.setenv("FAKE_FAIL", "train-2")
        result = run(project, ROUNDS)
        assert result.passed is False and isinstance(result.stopped, StageError)
        assert {outcome.step.link.round for outcome in result.latest.values()} == {1}
        problem = config.load(project, [ROUNDS])
        assert {outcome.step.link.round for outcome in built(Plan(problem, store(project))).values()} == {1}
        done = fakes.simfer("run", project, "--set", ROUNDS)
        assert done.returncode == 4 and "FAILED" in done.stdout and "too many rows" in done.stdout
        assert json.loads(fakes.simfer("run", project, "--set", ROUNDS, "--json").stdout)["stopped"] == "too many rows"

    def test_the_first_round_must_come_to_an_end(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_FAIL", "train-0")
        with pytest.raises(StageError):
            run(project, ROUNDS)

    def test_a_plan_of_thousands_of_rounds_is_what_is_there_and_comes_next(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        step = Plan.step
        monkeypatch.setattr(Plan, "step", lambda self, link: asked.append(link) or step(self, link))
        problem = config.load(project, ["refine.max_rounds=1000000000"])
        assert len(list(Plan(problem, store(project)).walk())) == 5 and len(asked) < 20


class TestNothingTwice:
    """After some rounds, what was computed serves again whenever it would come out the same."""

    @pytest.fixture(autouse=True)
    def _some_rounds(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_PASSES", "2")
        assert run(project, ROUNDS).passed
        assert said()[1] == 3 * 5
        self.before = {path: path.read_bytes() for path in store(project).root.rglob("manifest.json")}

    def test_more_draws_go_on_from_the_last_rounds_chains(self, project: Path) -> None:
        assert run(project, ROUNDS, "infer.num_samples=2000").passed
        assert said() == (["infer-2", "check-2"], 0, ["draws 1000"])

    def test_fewer_draws_are_the_first_of_them(self, project: Path) -> None:
        run(project, ROUNDS, "infer.num_samples=2000")
        said()
        run(project, ROUNDS, "infer.num_samples=1500")
        assert said() == (["infer-2", "check-2"], 0, ["draws 0"])

    @pytest.mark.parametrize(
        "setting",
        ["check.min_ess=300.0", "check.max_k_hat=0.8", "simulate.max_failed=0.2", "parameters.alpha.label=a"],
    )
    def test_what_is_applied_when_a_verdict_is_read(self, project: Path, setting: str) -> None:
        assert run(project, ROUNDS, setting).passed
        assert said() == ([], 0, [])

    def test_a_threshold_that_nothing_meets_and_back(self, project: Path) -> None:
        failed = run(project, "refine.max_rounds=2", "check.max_k_hat=0.05")
        assert failed.passed is False and said() == ([], 0, [])
        rows = failed.latest["check"].summary["tables"]["verdict"]
        assert (rows[0]["figure"], rows[0]["limit"], rows[0]["passed"]) == ("Pareto k-hat", "≤ 0.05", False)
        assert failed.latest["check"].summary["facts"]["verdict"].startswith("failed: the emulator differs")
        first = run(project, ROUNDS, "check.max_k_hat=0.95")
        assert first.passed and first.last_round == 0 and said() == ([], 0, [])

    def test_fewer_failures_than_there_are_can_be_asked_for(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(link: Any, *arguments: Any) -> dict[str, Any]:
            summary = fakes.run_stage(link, *arguments)
            return summary | {"facts": summary["facts"] | {"rows": 64, "failed": 6}}

        monkeypatch.setattr(chain, "run", failing)
        run(project, "simulate.seed=1", until="simulate")
        said()
        strict = "simulate.max_failed=0.05"
        with pytest.raises(StageError, match=r"simulate-0: 9.4% of the simulations failed, more than .* = 5.0%"):
            run(project, "simulate.seed=1", strict, until="simulate")
        run(project, "simulate.seed=1", strict, "simulate.failures=impossible", until="simulate")
        assert said() == ([], 0, [])

    def test_another_number_of_draws_in_the_first_thousand_is_another_design(self, project: Path) -> None:
        run(project, ROUNDS, "infer.num_samples=500")
        assert "simulate-1" in said()[0]

    def test_redo_does_it_all_again(self, project: Path) -> None:
        run(project, ROUNDS, redo="infer")
        assert said()[0][:4] == ["infer-0", "check-0", "simulate-1", "dataset-1"]

    def test_clean_keeps_every_round_whatever_the_thresholds(self, project: Path) -> None:
        for settings in ([ROUNDS], [ROUNDS, "check.max_k_hat=0.95"]):
            names = set(kept(config.load(project, settings), store(project)))
            assert {path.parent.name for path in self.before} <= names

    def test_what_was_built_is_not_touched(self, project: Path) -> None:
        run(project, ROUNDS, "infer.num_samples=2000", "check.min_ess=300.0")
        assert {path: path.read_bytes() for path in self.before} == self.before


class TestOfBefore:
    """Artifacts whose keys have labels, thresholds and bytes in them are found, and go on being found."""

    @pytest.fixture(autouse=True)
    def _as_before(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Build with the keys of before: rewrite each key, and name each folder by it, inputs first."""
        text = project.read_text().replace("scale = 0.5 }", 'scale = 0.5, unit = "1/h", label = "a" }')
        project.write_text(text + "[check]\nmin_ess = 350.0\n")
        monkeypatch.setenv("FAKE_PASSES", "1")
        assert run(project, "refine.max_rounds=1").passed
        plan = Plan(config.load(project, ["refine.max_rounds=1"]), store(project))
        names: dict[str, str] = {}
        for step in list(plan.walk()):
            folder = plan.find(step).folder
            made = json.loads((folder / "manifest.json").read_text())
            key = made["key"]
            for section in (key["config"], key["config"].get("exact") or {}):
                for prior in section.get("parameters", {}).values():
                    if isinstance(prior, dict) and "label" in prior:
                        prior |= {"unit": "1/h", "label": "a"}
                if "observation" in section:
                    section["observation"]["file"]["content"] = manifest.file_digest(project.parent / "data.csv")
                if "check" in section:
                    section["check"]["min_ess"] = 350.0
            key["inputs"] = {role: [names[each] for each in given] for role, given in key["inputs"].items()}
            names[made["fingerprint"]] = made["fingerprint"] = manifest.digest(key)[:16]
            entries = {
                name: made[name] for name in made if name not in ("format", "files", "digest", "handed", "identity")
            }
            (folder / "manifest.json").unlink()
            moved = folder.rename(folder.with_name(entries["fingerprint"]))
            manifest.seal(moved, entries)
        assert len(set(names) | set(names.values())) == 20  # not one of them has its name by chance
        said()

    def test_nothing_is_built_again(self, project: Path) -> None:
        assert run(project, "refine.max_rounds=1").passed
        assert said() == ([], 0, [])

    @pytest.mark.parametrize(
        "setting", ["parameters.alpha.label=b", "check.min_ess=360.0", "parameters.alpha.unit=1/d"]
    )
    def test_nor_where_what_is_read_later_changes(self, project: Path, setting: str) -> None:
        assert run(project, "refine.max_rounds=1", setting).passed
        assert said() == ([], 0, [])

    def test_chains_of_before_hand_over_what_they_did(self, project: Path) -> None:
        run(project, "refine.max_rounds=1", "infer.num_samples=2000")
        steps, shards, _ = said()
        assert steps == ["infer-1", "check-1"] and shards == 0

    def test_clean_keeps_them(self, project: Path) -> None:
        names = set(kept(config.load(project, ["refine.max_rounds=1"]), store(project)))
        assert {path.parent.name for path in store(project).root.rglob("manifest.json")} <= names


@pytest.mark.parametrize(
    "key",
    [
        {"config": {}, "inputs": {}},
        {"stage": "infer", "version": 2, "config": {"infer": {"num_samples": "1000"}}, "inputs": {}},
        {"stage": "infer", "version": 2, "config": {"infer": []}, "inputs": {"emulator": 3}},
        {"stage": "check", "version": 4, "config": {"check": {}}, "inputs": {}},
        {
            "stage": "check",
            "version": 4,
            "config": {"check": 1, "parameters": [[{"dist": "x"}]]},
            "inputs": {"posterior": 0},
        },
    ],
)
def test_a_manifest_of_any_shape_lends_nothing_and_stops_nothing(project: Path, key: dict[str, Any]) -> None:
    stage = str(key.get("stage", "infer"))
    folder = store(project).root / stage / f"{7:016x}"
    folder.mkdir(parents=True)
    manifest.seal(folder, fakes.entries(folder.name, stage) | {"key": key})
    assert run(project, "infer.num_samples=2000").passed
    assert said()[2] == ["draws 2000"]
