"""The README: what it shows runs, and what it lists is all there is."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from simfer import pipeline
from simfer.pipeline.chain import Problem
from simfer.pipeline.cli import app
from simfer.stages.settings.names import ARCHITECTURES
from tests.helpers import ROOT, merged

README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OTHERS = ("make", "pip")  # other programs; .ci/run makes the demo and the tests
# Enough to see that it runs; the posterior of a second network is no news.
_SHORT = {"--set train.architecture=mlp": ["--set", "train.steps=100", "--until", "train"]}
_SHORT_SETTINGS = [
    "train.steps=100",
    "train.ensemble_size=3",
    "simulate.num_simulations=400",
    "infer.num_chains=2",
    "infer.num_warmup=50",
    "infer.num_samples=50",
    "refine.max_rounds=0",
]


class Block(NamedTuple):
    """One fenced block: its language, what its first line names (a file, or where it goes), and its text."""

    language: str
    name: str
    text: str


def _blocks() -> Iterator[Block]:
    for language, text in _BLOCK.findall(README):
        first = text.partition("\n")[0]
        yield Block(language, first[2:] if re.fullmatch(r"# (in )?[\w.]+\.(py|csv|toml)", first) else "", text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for block in _blocks():
        if block.name and not block.name.startswith("in "):
            (folder / block.name).write_text(block.text)
    return folder


def test_every_block_is_of_a_kind_that_is_run_or_is_what_a_command_printed() -> None:
    blocks = list(_blocks())
    assert {block.language for block in blocks} == {"console", "python", "toml", "csv", "text"}
    assert all(block.name for block in blocks if block.language in ("toml", "csv"))


@pytest.mark.slow  # it takes minutes; CI runs it
def test_the_walk_runs_from_top_to_bottom(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    ran: list[str] = []
    names: dict[str, Any] = {"__name__": "__main__"}  # a block goes on where the one before it ended
    for block in _blocks():
        if block.language == "console":
            ran += [line for line in block.text.splitlines() if _command(line)]
        elif block.language == "python" and not block.name:
            exec(compile(block.text, "README.md", "exec"), names)
            ran.append("python")
        elif block.name.startswith("in "):
            _run_changed(block)
            ran.append(block.name)
    center = names["mcmc"].get_samples()["center"]
    assert abs(center.mean() - np.log(names["rates"]).mean()) < 0.1  # four vessels, each rate known to some percent
    assert ran[0] == "simfer run yeast.toml" and "python" in ran and "in yeast.toml" in ran


def _command(line: str) -> bool:
    """Run a line of a console, if it is one of ours, as it is typed; return whether it was."""
    words = shlex.split(line, comments=True)
    if not words or words[0] in _OTHERS:
        return False
    assert words[0] == "simfer", line
    more = next((options for part, options in _SHORT.items() if part in line), [])
    result = CliRunner().invoke(app, [*words[1:], *more])
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return True


def _run_changed(block: Block) -> None:
    """Run the config that a block changes, its tables of noise replaced and its other keys put on top."""
    changes: dict[str, Any] = tomllib.loads(block.text)
    table = tomllib.loads(Path(block.name.removeprefix("in ")).read_text())
    table["noise"] |= changes.pop("noise", {})
    changed = merged(table, changes)
    result = pipeline.run(changed, overrides=_SHORT_SETTINGS, until="infer")
    noise = {f"yeast_{key}" for key, value in changed["noise"]["yeast"].items() if isinstance(value, dict)}
    assert noise <= set(result.posterior["posterior"])
    assert (result.emulator.random is not None) == ("NoisyGrowth" in changed["simulate"]["simulator"])


@pytest.mark.slow  # run by CI
def test_the_result_shown_is_the_walks_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    table = pipeline.run("yeast.toml").summaries["infer"]["tables"]["posterior"]
    shown = next(block.text for block in _blocks() if block.language == "text")
    for row in table:
        line = next(line for line in shown.splitlines() if line.split()[:1] == [row["parameter"]])
        mean, sd = map(float, line.split()[1:3])
        assert mean == pytest.approx(row["mean"], abs=0.5 * row["sd"])
        assert sd == pytest.approx(row["sd"], rel=0.3)


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`(?:simfer )?([a-z-]+)", _section("Commands")))
    assert set(get_command(app).commands) <= listed  # type: ignore[attr-defined]


def test_every_architecture_is_listed() -> None:
    section = README.partition("\n### Another network, and your own\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(ARCHITECTURES)


def test_every_key_of_a_config_is_listed() -> None:
    reference = _section("The config") + _section("How it works")
    for name, field in Problem.model_fields.items():
        assert f"[{name}" in reference, name
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{key}`" in reference or f"`{key} = " in reference or f"[{name}.{key}]" in reference, (
                f"{name}.{key}"
            )


def test_the_thresholds_are_those_of_the_code() -> None:
    check = Problem.model_fields["check"].default
    shown = dict(re.findall(r"`((?:max|min)_\w+)` = ([\d.]+)", _section("How it works")))
    assert {key: float(value) for key, value in shown.items()} == {
        key: value for key, value in check.model_dump().items() if key.startswith(("max_", "min_"))
    }


def _section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
