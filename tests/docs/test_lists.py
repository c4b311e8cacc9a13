"""What the docs list by hand is all there is."""

from __future__ import annotations

import re

from typer.main import get_command

import simfer
from simfer.pipeline.chain import Problem
from simfer.pipeline.cli import app
from simfer.stages.settings.names import ARCHITECTURES, SIMULATORS
from tests.helpers import ROOT

DOCS = ROOT / "docs"


def _read(page: str) -> str:
    return (DOCS / page).read_text()


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`(?:simfer )?([a-z-]+)", _read("reference/commands.md")))
    assert set(get_command(app).commands) <= listed  # type: ignore[attr-defined]


def test_every_public_name_is_listed() -> None:
    listed = re.findall(r"^\.\. auto\w+:: simfer\.(\w+)$", _read("reference/python.md"), re.MULTILINE)
    assert sorted(set(listed) - {"plots"}) == sorted(simfer.__all__)


def test_every_architecture_is_listed() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", _read("how-to/network.md"), re.MULTILINE)) == set(ARCHITECTURES)


def test_every_simulator_and_config_is_listed() -> None:
    page = _read("systems.md")
    assert {name for name in SIMULATORS if f"`{name}`" not in page} == set()
    assert {file.name for file in (ROOT / "configs").glob("*.toml") if f"`{file.name}`" not in page} == set()


def test_every_how_to_is_in_the_overview() -> None:
    pages = {page.stem for page in (DOCS / "how-to").glob("*.md")} - {"index"}
    assert set(re.findall(r"\]\((\w+)\.md\)", _read("how-to/index.md"))) == pages


def test_every_benchmark_is_named_where_its_table_is() -> None:
    scripts = {file.name for file in (ROOT / "benchmarks").glob("*.py")} - {"__init__.py"}
    assert scripts <= set(re.findall(r"benchmarks/(\w+\.py)", _read("measured.md")))


def test_the_thresholds_are_those_of_the_code() -> None:
    check = Problem.model_fields["check"].default
    shown = dict(re.findall(r"`((?:max|min)_\w+)` = ([\d.]+)", _read("concepts/verdict.md")))
    assert {key: float(value) for key, value in shown.items()} == {
        key: value for key, value in check.model_dump().items() if key.startswith(("max_", "min_"))
    }
