"""Architectures side by side: their errors are those of the test rows, and one that fails sinks no other."""

from __future__ import annotations

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from simfer.pipeline.build import Outcome
from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.model.plugins import resolve
from simfer.stages.settings.names import ARCHITECTURES, SEEDLESS
from simfer.stages.studies.held_out import held_out
from tests import fakes, helpers
from tests.helpers import NEAREST, REFUSES, SIGMA, STRAIGHT

TABLE = helpers.line(compare={"architectures": ["mlp", NEAREST, REFUSES, STRAIGHT], "seeds": 1})


@pytest.fixture(scope="module")
def ranked() -> Outcome:
    store = Store(helpers.scratch() / "line")
    return execute_study(helpers.problem(TABLE), store, "compare")


def test_errors_are_those_of_the_test_rows(ranked: Outcome) -> None:
    helpers.line_run(until="train")
    store = helpers.scratch() / "line"
    steps = {
        step.link.name: step
        for step in helpers.plan(helpers.problem(TABLE), STUDIES["compare"].added(helpers.problem(TABLE), 0))
    }
    dataset = TrainingSet.load(store / "dataset" / steps["dataset-0"].fingerprint)
    z, y, fold = dataset.arrays()
    emulator = load_emulator(store / "train" / steps["train-plugins.py:Nearest-0"].fingerprint, NEAREST)
    members = np.stack([np.asarray(emulator.members(one)) for one in z[fold == TEST]])
    error = members.mean(axis=1) - y[fold == TEST]
    (row,) = (r for r in ranked.summary["tables"]["error on test rows, in data sigma, and cost"] if "Near" in str(r))
    assert row["median"] == pytest.approx(np.median(np.abs(error)) / SIGMA)
    assert row["percentile_99"] == row["its_99"] == pytest.approx(np.quantile(np.abs(error), 0.99) / SIGMA)
    assert row["worst_output"] == "y"
    spread = dataset.scale
    assert row["unexplained_variance"] == pytest.approx(np.mean((error / spread) ** 2))


def test_the_table_goes_from_the_smallest_error_up_and_counts_what_each_costs(ranked: Outcome) -> None:
    rows = ranked.summary["tables"]["error on test rows, in data sigma, and cost"]
    names = [row["architecture"] for row in rows]
    assert names[0] == "plugins.py:Straight" and set(names) == {"plugins.py:Straight", "mlp", "plugins.py:Nearest"}
    assert np.all(np.diff([row["percentile_99"] for row in rows]) >= 0)
    weights = {row["architecture"]: row["weights"] for row in rows}
    assert weights["mlp"] == (2 * 16 + 16) + (16 * 9 + 9)  # of one member
    for row in rows:
        assert row["batched_us"] > 0 and 0 < row["evaluation_us"] < 1e5 and 0 < row["gradient_us"] < 1e5
    assert (ranked.folder / "compare.png").stat().st_size > 5000
    assert set(json.loads((ranked.folder / "compare.json").read_text())["emulators"]) == set(names)


def test_one_that_fails_is_named_with_its_reason(ranked: Outcome) -> None:
    failed, few = ranked.summary["warnings"]
    assert failed.startswith("plugins.py:Refuses") and failed.endswith("RuntimeError: 181 rows are too many")
    assert few.startswith("there are 19 test rows alone")


def test_what_draws_nothing_is_fitted_once() -> None:
    drawn = {name for name in ARCHITECTURES if not issubclass(resolve(name, ARCHITECTURES), ClosedForm)}
    assert set(ARCHITECTURES) - drawn == set(SEEDLESS)
    for name in ARCHITECTURES:
        problem = helpers.problem(helpers.line(compare={"architectures": [name], "seeds": 2}))
        trained = [link.name for link in STUDIES["compare"].added(problem, 0) if link.stage == "train"]
        assert trained == [f"train-{name}-0", f"train-{name}-seed1-0"][: 1 + (name in drawn)]


@pytest.mark.parametrize("name", SEEDLESS)
def test_the_seed_is_nothing_to_what_is_fitted_in_closed_form(name: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 2))
    y = np.column_stack([np.sin(x[:, 0]), x[:, 0] * x[:, 1]])
    make = resolve(name, ARCHITECTURES)
    one, other = (make(2, 2, key=jax.random.key(seed)).fit(x, y) for seed in range(2))
    assert eqx.tree_equal(one, other)


def test_each_is_the_artifact_of_a_config_that_names_it() -> None:
    problem = helpers.problem(helpers.line(compare={"architectures": ["mlp", "residual"], "seeds": 2}))
    trained = {link.name: link for link in STUDIES["compare"].added(problem, 0)}
    steps = {step.link.name: step.fingerprint for step in helpers.plan(problem, list(trained.values()))}

    def alone(**train: object) -> str:
        named = helpers.plan(helpers.problem(helpers.line(train=train)))
        return next(step.fingerprint for step in named if step.link.name == "train-0")

    assert steps["train-mlp-0"] == steps["train-0"] == alone()  # the configured one, with its options
    assert steps["train-mlp-seed1-0"] == alone(seed=1)
    assert steps["train-residual-0"] == alone(architecture="residual", options=None)
    assert len(set(steps.values())) == len(steps) - 1


def test_the_command_trains_what_is_asked_for_on_one_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    project = fakes.write_project(tmp_path)
    asked = ("--architecture", "mlp", "--architecture", "residual", "--seeds", "2")
    done = fakes.simfer("compare", project, *asked, FAKE_FAIL="train-residual-seed1-0")
    assert done.returncode == 0, done.stderr
    each = ["train-mlp-0", "train-mlp-seed1-0", "train-residual-0", "train-residual-seed1-0"]
    assert fakes.said()[-6:] == ["dataset-0", *each, "compare-0"]
    assert fakes.simfer("compare", project, *asked).returncode == 0 and fakes.said() == []
    wrong = fakes.simfer("compare", project, "--architecture", "residul")
    assert wrong.returncode == 2 and 'compare.architectures[0]: got "residul"' in wrong.stderr


def test_noise_without_a_variance_has_a_unit_all_the_same() -> None:
    problem = helpers.problem(helpers.line(noise={"y": {"dist": "StudentT", "df": 1.5, "scale": 0.5}}))
    dataset = TrainingSet.load(helpers.line_run(until="dataset").folders["dataset"])
    rows = held_out(dataset, problem)
    assert rows.unit == "data sigma" and np.allclose(rows.sigma, 0.5 * np.sqrt(4.5 / 2.5))


def test_where_noise_tells_nothing_the_unit_is_the_spread(tmp_path: Path) -> None:
    code = "import numpyro.distributions as dist\n\ndef none(y):\n    return dist.Normal(y, 0 * y)\n"
    (tmp_path / "still.py").write_text(code)
    noise = {"y": {"dist": f"{tmp_path / 'still.py'}:none"}}
    problem = helpers.problem(helpers.line(noise=noise))
    dataset = TrainingSet.load(helpers.line_run(until="dataset").folders["dataset"])
    rows = held_out(dataset, problem)
    assert rows.unit == "spread"
    assert np.array_equal(rows.sigma[0], dataset.scale)
    gaussian = helpers.problem(helpers.line())
    rows = held_out(dataset, gaussian)
    assert rows.unit == "data sigma" and np.allclose(rows.sigma, SIGMA)
