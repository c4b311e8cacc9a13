"""The best of several architectures is taken by rows that it has not seen, and works as if the config named it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from simfer import pipeline
from simfer.pipeline import chain, config, runtime
from simfer.pipeline.cli import app
from simfer.stages.emulator.saved import HEADER, LEAVES, load_emulator
from simfer.stages.errors import SimferError
from simfer.stages.train.candidates import _capped
from tests import fakes, helpers
from tests.helpers import NEAREST, REFUSES, STRAIGHT

CHOICE = {"architecture": "auto", "options": None, "candidates": ["mlp", NEAREST, REFUSES, STRAIGHT], "width": 16}


@pytest.fixture(scope="module")
def chosen() -> pipeline.Result:
    return pipeline.run(helpers.line(train=CHOICE), store=helpers.scratch() / "line")


def candidates(result: pipeline.Result) -> dict[str, Path]:
    store = result.folders["train"].parent
    named = {step.link.variant: step.fingerprint for step in helpers.plan(helpers.problem(helpers.line(train=CHOICE)))}
    return {name: store / named[f"-{name}"] for name in ("mlp", "plugins.py:Nearest", "plugins.py:Straight")}


def test_the_smallest_cross_validated_error_wins(chosen: pipeline.Result) -> None:
    emulators = {n: load_emulator(p, None, CHOICE["candidates"]) for n, p in candidates(chosen).items()}
    spread = np.asarray(chosen.dataset.attrs["scaling"]["scale"])
    straight = emulators["plugins.py:Straight"]
    known = {z.tobytes(): i for i, z in enumerate(np.asarray(straight.training_z))}
    rows = [
        known[z.tobytes()] for z in np.asarray(emulators["mlp"].training_z)
    ]  # the mlp has two members, of five folds
    assert 0 < len(rows) < len(known)
    table = chosen.summaries["train"]["tables"]["candidates, on rows that they had not seen"]
    told = {row["architecture"]: row["unexplained_variance"] for row in table}
    assert told["plugins.py:Straight"] == pytest.approx(np.mean((np.asarray(straight.residuals)[rows] / spread) ** 2))
    assert told["mlp"] == pytest.approx(np.mean((np.asarray(emulators["mlp"].residuals) / spread) ** 2))
    assert min(told, key=lambda name: told[name]) == table[0]["architecture"] == "plugins.py:Straight"
    facts = chosen.summaries["train"]["facts"]
    assert facts["architecture"] == "plugins.py:Straight" and "mlp, the next, has" in facts["chosen_since"]


def test_a_wild_row_does_not_choose() -> None:
    rng = np.random.default_rng(0)
    good, poor = 0.01 * rng.normal(size=(200, 2)) ** 2, 0.09 * rng.normal(size=(200, 2)) ** 2
    good[7], poor[7] = 1000.3**2, 1000.0**2  # the wild row's own part is far larger than what tells them apart
    assert good.mean() > poor.mean()
    errors, num = _capped({"good": good, "poor": poor})
    assert num == 1 and errors["good"].mean() < 0.5 * errors["poor"].mean()
    assert np.array_equal(np.delete(errors["poor"], 7, axis=0), np.delete(poor, 7, axis=0))
    exact, num = _capped({"exact": np.zeros((7, 2)), "poor": poor[:7]})
    assert num == 0 and not exact["exact"].any()


def test_the_winner_is_the_very_emulator_of_a_config_that_names_it(chosen: pipeline.Result) -> None:
    alone = {**CHOICE, "architecture": STRAIGHT, "candidates": None}
    named = pipeline.load(helpers.line(train=alone), store=helpers.scratch() / "line")
    assert named.folders["train"] == candidates(chosen)["plugins.py:Straight"]  # no name of its own in the cache
    for name in (HEADER, LEAVES):
        assert (chosen.folders["train"] / name).read_bytes() == (named.folders["train"] / name).read_bytes()


def test_a_candidate_that_fails_is_left_out_and_named(chosen: pipeline.Result) -> None:
    (warning,) = chosen.summaries["train"]["warnings"]
    assert warning == "plugins.py:Refuses was left out, since RuntimeError: 181 rows are too many"


def test_the_chain_goes_on_with_the_winner(chosen: pipeline.Result) -> None:
    mean, covariance = helpers.exact_line()
    for i, name in enumerate(helpers.PRIOR):
        draws, sd = chosen.posterior["posterior"][name].values.ravel(), np.sqrt(covariance[i, i])
        assert abs(draws.mean() - mean[i]) < 0.12 * sd
        assert 0.9 < draws.std() / sd < 1.1
    assert chosen.verdict.passed
    last = chosen.emulator(dict(zip(helpers.PRIOR, mean, strict=True)))["y"][-1]
    assert last == pytest.approx(mean[0] + mean[1] * helpers.X[-1], abs=1e-5)


def test_only_a_path_that_was_typed_is_loaded(chosen: pipeline.Result) -> None:
    assert load_emulator(chosen.folders["train"], "auto", [STRAIGHT]).header.architecture == "plugins.py:Straight"
    with pytest.raises(SimferError, match=r"an architecture of your own, plugins\.py:Straight; say where it is"):
        load_emulator(chosen.folders["train"], "auto", ["mlp"])
    assert load_emulator(candidates(chosen)["mlp"], "auto").header.architecture == "mlp"


@pytest.mark.parametrize(
    ("override", "where", "what"),
    [
        ("train.architecture=auto", "train", "got options ['width'] and architecture"),
        ('train.candidates=["mlpp"]', "train.candidates[0]", 'Did you mean "mlp"?'),
        ('train.candidates=["auto"]', "train.candidates[0]", 'got "auto"'),
        ('train.candidates=["mlp", "mlp"]', "train.candidates", "got mlp twice"),
        ('compare.architectures=["mlp", "mlp"]', "compare.architectures", "got mlp twice"),
        ("curve.shares=[0.5, 1.0]", "curve.shares", "expected three or more shares"),
        ("tune.trials=0", "tune.trials", "expected a number greater than 0"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, override: str, where: str, what: str) -> None:
    path = fakes.write_project(tmp_path)
    with pytest.raises(chain.ConfigError) as caught:
        config.load(path, ["train.options.width=8", override])
    found = {problem.where: problem.what for problem in caught.value.mistakes}
    assert what in found[where]


AUTO = ("--set", "train.architecture=auto", "--set", 'train.candidates=["mlp", "residual"]')


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(chain, "write_report", fakes.write_report)
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return fakes.write_project(tmp_path)


def simfer(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment)


def test_candidates_are_trained_once_and_shared_with_configs_that_name_them(project: Path) -> None:
    simfer("run", project, "--until", "train")
    assert fakes.said().count("train-0") == 1
    simfer("run", project, *AUTO, "--until", "train")
    assert [line for line in fakes.said() if "train" in line] == ["train-mlp-0", "train-0"]  # residual is the default
    simfer("run", project, "--set", "train.architecture=mlp", "--until", "train")
    assert fakes.said() == []
    simfer("run", project, *AUTO)
    assert fakes.said() == ["infer-0", "check-0"]


def test_every_round_chooses_anew(project: Path) -> None:
    done = simfer("run", project, *AUTO, "--set", "refine.max_rounds=1", FAKE_PASSES="1")
    assert done.exit_code == 0
    said = fakes.said()
    assert said.index("train-mlp-1") < said.index("train-1") < said.index("infer-1")


def test_a_failed_candidate_fails_no_run_and_its_reason_reaches_the_choice(project: Path) -> None:
    done = simfer("run", project, *AUTO, FAKE_FAIL="train-mlp-0")
    assert done.exit_code == 0, done.stderr
    assert "train-mlp-0: left out, since too many rows" in done.stderr
    folder = Path(simfer("path", project, "train", *AUTO).stdout.strip())
    assert 'failed: {"mlp": "too many rows"}' in (folder / "nested" / "out.txt").read_text()
    status = simfer("status", project, *AUTO).stdout
    assert [line.split()[1] for line in status.splitlines() if line.startswith("train-mlp-0")] == [
        "not"
    ]  # "not needed"
    again = simfer("run", project, *AUTO, FAKE_FAIL="train-mlp-0")
    assert again.exit_code == 0 and "train-mlp-0" not in fakes.said()[-1]


def test_a_stage_that_is_no_candidate_still_fails_the_run(project: Path) -> None:
    assert simfer("run", project, *AUTO, FAKE_FAIL="dataset-0").exit_code == 3


def test_redoing_trains_every_candidate_again(project: Path) -> None:
    simfer("run", project, *AUTO, "--until", "train")
    fakes.said()
    simfer("run", project, *AUTO, "--until", "train", "--redo", "train")
    assert fakes.said() == ["train-mlp-0", "train-residual-0", "train-0"]


def test_a_choice_is_explained(project: Path) -> None:
    simfer("run", project, *AUTO, "--until", "train")
    why = simfer("status", project, "--why", *AUTO, "--set", "train.steps=7").stdout
    assert "train-0: train.steps: 5000 -> 7" in why
    assert "train-0: input mlp: changed, because of train.steps: 5000 -> 7" in why
