"""A fingerprint changes with all that a result depends on and with nothing else, and says why it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import chain, config
from simfer.pipeline.chain import STAGES
from simfer.pipeline.plan import ORDER, Plan, Step, user_files
from simfer.pipeline.runner import execute
from simfer.pipeline.store import Store
from simfer.pipeline.sweep import sweep
from simfer.pipeline.why import _Explainer, why
from tests import fakes, helpers

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return fakes.write_project(tmp_path)


def steps(path: Path, *overrides: str) -> list[Step]:
    return helpers.plan(config.load(path, overrides))


def redone(path: Path, before: list[Step], *overrides: str) -> set[str]:
    after = steps(path, *overrides)
    return {new.stage for old, new in zip(before, after, strict=True) if old.fingerprint != new.fingerprint}


ALL = set(STAGES)
AFTER_TRAIN = {"train", "infer", "check"}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("parameters.alpha.scale=0.6", ALL),
        ("parameters.beta=2.5", ALL),
        ("simulate.seed=1", ALL),
        ("simulate.solver.rtol=1e-7", ALL),
        ("simulate.retry.max_steps=99999", ALL),
        ("simulate.options.x=inf", ALL),
        ("simulate.options.day=2020-01-01", ALL),
        ("simulate.batch_size=7", set()),
        ("dataset.floor=1e-8", {"dataset"} | AFTER_TRAIN),
        ("train.options.width=256", AFTER_TRAIN),
        ("noise.x.scale=0.2", {"infer", "check"}),
        ("infer.seed=1", {"infer", "check"}),
        ("check.num_draws=70", {"check"}),
        ("check.max_scatter_error=0.2", set()),  # a threshold is held against figures when they are read
        ("check.min_ess=300.0", set()),
        ("simulate.max_failed=0.5", set()),
        ("parameters.alpha.unit=1/h", set()),  # for tables and pictures alone
        ("parameters.alpha.label=a", set()),
        ("infer.max_samples=9000", set()),
        ("infer.target_accept=0.95", {"infer", "check"}),
        ("infer.target_accept=0.8", {"infer", "check"}),  # asked for, it is taken even where less would do
        ("infer.num_samples=2000", {"infer", "check"}),
        ("simulate.seed=0", set()),  # what is the default anyway
        ("parameters.beta=2", set()),  # the same number
    ],
)
def test_a_setting_redoes_what_depends_on_it(project: Path, override: str, stages: set[str]) -> None:
    assert redone(project, steps(project), override) == stages


def test_a_setting_that_was_added_later_redoes_nothing_until_it_is_used(project: Path) -> None:
    key = next(step.key["config"]["check"] for step in steps(project) if step.stage == "check")
    assert "max_shift" in key and "max_scatter_error" not in key


@pytest.mark.parametrize(
    ("file", "stages"),
    [("my_model.py", ALL), ("helper.py", ALL), ("unrelated.py", set()), ("data.csv", {"infer", "check"})],
)
def test_an_edit_redoes_what_depends_on_it(project: Path, file: str, stages: set[str]) -> None:
    before = steps(project)
    with (project.parent / file).open("a") as edited:
        edited.write("1,2\n")
    assert redone(project, before) == stages


@pytest.mark.parametrize("text", ["time,x\r\n0,1\r\n", "time,x\n0.0,1.00", "\ufefftime,x\n\n0, 1e0\n\n\n"])
def test_data_written_in_another_way_are_the_same_data(project: Path, text: str) -> None:
    before = steps(project)
    (project.parent / "data.csv").write_text(text, newline="")
    assert redone(project, before) == set()


@pytest.mark.parametrize("text", ["time,x\n0,01\n", "time,x\n0,1_0\n", "time;x\n0;1\n", "Time,x\n0,1\n"])
def test_what_only_a_reader_of_the_data_can_tell_apart_counts(project: Path, text: str) -> None:
    before = steps(project)
    (project.parent / "data.csv").write_text(text, newline="")
    assert redone(project, before) == {"infer", "check"}


def test_a_setting_that_is_new_and_not_given_leaves_older_artifacts_valid(project: Path) -> None:
    for step in steps(project):
        assert "retry" not in step.key["config"].get("simulate", {})
    with_retry = steps(project, "simulate.retry.max_steps=99999")[0]
    assert with_retry.key["config"]["simulate"]["retry"]["max_steps"] == 99999
    assert with_retry.key["config"]["simulate"]["retry"]["rtol"] == 1e-6  # as for the first attempt


def test_files_named_beside_the_code_count_by_their_content(project: Path) -> None:
    (project.parent / "table.dat").write_text("1")
    depends = 'simulate.depends_on=["table.dat"]'
    before = steps(project, depends)
    (project.parent / "table.dat").rename(project.parent / "renamed.dat")
    assert redone(project, before, 'simulate.depends_on=["renamed.dat"]') == set()
    (project.parent / "renamed.dat").write_text("2")
    assert redone(project, before, 'simulate.depends_on=["renamed.dat"]') == ALL


def test_a_fingerprint_does_not_know_where_the_project_lies(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (fakes.write_project(tmp_path / name) for name in ("here", "there"))
    assert redone(there, steps(here)) == set()


def test_the_order_of_parameters_counts(project: Path) -> None:
    """They are columns of the simulations, and a row's numbers are drawn in that order."""
    before = steps(project)
    lines = project.read_text().splitlines()
    lines[2], lines[3] = lines[3], lines[2]
    project.write_text("\n".join(lines))
    assert "simulate" in redone(project, before)


def test_another_class_of_the_same_file_counts(project: Path) -> None:
    assert redone(project, steps(project), "simulate.simulator=my_model.py:Other") == ALL


def test_a_version_redoes_its_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = steps(project)
    monkeypatch.setitem(chain.VERSIONS, "train", 99)
    assert redone(project, before) == AFTER_TRAIN


def test_rounds_have_fingerprints_of_their_own(project: Path) -> None:
    planned = steps(project, "refine.max_rounds=2")
    assert len({step.fingerprint for step in planned}) == len(planned) == 15
    assert [step.fingerprint for step in planned[:5]] == [step.fingerprint for step in steps(project)]


def test_user_files(project: Path) -> None:
    assert {path.name for path in user_files(config.load(project))} == {"my_model.py", "helper.py"}
    assert user_files(config.load(project, ["simulate.simulator=sir"])) == set()


class TestWhy:
    """What is said of each hit and miss."""

    @pytest.fixture(autouse=True)
    def _fake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chain, "run", fakes.run_stage)
        monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])

    def reasons(self, path: Path, *overrides: str) -> dict[str, list[str]]:
        planned = Plan(config.load(path, overrides), Store(path.parent / "store"))
        return {step.link.name: why(step, planned) for step in planned.walk()}

    def build(self, path: Path, *overrides: str) -> None:
        execute(config.load(path, overrides), Store(path.parent / "store"))

    def test_never_built(self, project: Path) -> None:
        assert set(map(tuple, self.reasons(project).values())) == {("never built",)}

    def test_settings_and_inputs(self, project: Path) -> None:
        self.build(project)
        found = self.reasons(project, "simulate.seed=1", "train.steps=9")
        assert found["simulate-0"] == ["simulate.seed: 0 -> 1"]
        assert found["dataset-0"] == ["input simulations: changed, because of simulate.seed: 0 -> 1"]
        assert found["train-0"] == [
            "train.steps: 5000 -> 9",
            "input dataset: changed, because of simulate.seed: 0 -> 1",
        ]
        assert found["infer-0"] == ["input emulator: changed, because of train.steps: 5000 -> 9; simulate.seed: 0 -> 1"]

    def test_a_hit(self, project: Path) -> None:
        self.build(project)
        assert self.reasons(project, "train.steps=9")["dataset-0"] == ["made from the same settings, inputs and code"]

    def test_the_most_similar_artifact_is_compared_with(self, project: Path) -> None:
        self.build(project)
        self.build(project, "simulate.seed=1", "train.steps=9")
        assert self.reasons(project, "simulate.seed=1", "train.steps=8")["train-0"] == ["train.steps: 9 -> 8"]

    def test_files(self, project: Path) -> None:
        self.build(project)
        for name in ("helper.py", "data.csv"):
            (project.parent / name).write_text("import unrelated\n")
        found = self.reasons(project)
        assert found["simulate-0"] == [
            "simulate.simulator: helper.py changed",
            "simulate.simulator: unrelated.py is now imported",
        ]
        assert "observation.file: content changed" in found["infer-0"]

    def test_tables(self, project: Path) -> None:
        self.build(project)
        found = self.reasons(
            project, 'parameters.gamma={ dist = "Normal" }', "parameters.beta=3.0", "simulate.simulator=sir"
        )["simulate-0"]
        assert "parameters.beta: 2.0 -> 3.0" in found
        assert any(line.startswith('parameters.gamma: left out -> { dist = "Normal", ') for line in found)
        assert 'simulate.simulator: "my_model.py:Model" -> "sir"' in found
        assert len(found) == 3

    def test_places_are_those_of_the_config(self) -> None:
        old, new = (
            {"config": {"simulate": {"experiments": {"low": {"dose": dose}}, "each": each}, **more}, "inputs": {}}
            for dose, each, more in (
                (1.0, [], {"exact": None, "candidates": {"seed": 1}}),
                (2.0, ["k"], {"exact": {"simulate": {}}, "candidates": {"seed": 2}}),
            )
        )
        assert _Explainer({}, {}).sentences(old, new) == [
            "experiments.low.options.dose: 1.0 -> 2.0",
            'parameters.NAME.per[0]: left out -> "k"',
            "train.candidates.seed: 1 -> 2",
        ]

    def test_experiments_in_another_order_and_one_more(self) -> None:
        def key(*names: str) -> dict[str, Any]:
            each = {name: {} for name in names} | {ORDER: ", ".join(names)}
            return {"config": {"simulate": {"experiments": each}}, "inputs": {}}

        explainer = _Explainer({}, {})
        assert explainer.sentences(key("low", "high"), key("high", "low")) == [
            "experiments: order low, high -> high, low"
        ]
        assert explainer.sentences(key("low"), key("low", "high")) == ["experiments.high.options: left out -> {}"]

    def test_a_round_is_compared_with_the_same_round(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_PASSES", "2")
        self.build(project, "refine.max_rounds=1")
        assert self.reasons(project, "refine.max_rounds=2")["train-2"] == ["never built"]
        found = self.reasons(project, "refine.max_rounds=1", "refine.stretch=2.0")
        assert found["simulate-1"] == ["refine.stretch: 1.5 -> 2.0"]
        assert "input simulations: changed, because of refine.stretch: 1.5 -> 2.0" in found["dataset-1"]

    def test_a_version(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.build(project)
        change = f"Simfer computes this step in another way: version {chain.VERSIONS['dataset']} -> 99"
        monkeypatch.setitem(chain.VERSIONS, "dataset", 99)
        assert self.reasons(project)["dataset-0"] == [change]
        assert self.reasons(project)["train-0"] == [f"input dataset: changed, because of {change}"]

    def test_an_input_that_is_gone(self, project: Path) -> None:
        self.build(project)
        keep = {step.fingerprint for step in steps(project) if step.stage != "simulate"}
        assert len(sweep(Store(project.parent / "store"), STAGES, keep)) == 1
        found = self.reasons(project, "simulate.seed=1")["dataset-0"]
        assert found == [
            "input simulations: changed, because of another simulate, whose artifact is no longer in the store"
        ]

    def test_damage(self, project: Path) -> None:
        self.build(project)
        (next((project.parent / "store" / "train").glob("*")) / "nested" / "out.txt").write_text("x")
        [reason] = self.reasons(project)["train-0"]
        assert reason.startswith("nested/out.txt is damaged: 1 bytes instead of")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_has_a_plan(path: Path) -> None:
    """Tables with names of a user's own among them, which no model of settings knows."""
    assert [step.stage for step in steps(path)][: len(STAGES)] == list(STAGES)
