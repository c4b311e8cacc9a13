"""A problem in one file: what arrives is what was sent, or nothing is."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simfer import load
from simfer.pipeline.cli import app
from tests import helpers

CONFIG = """
[parameters]
slope = { dist = "Normal", loc = -1.0, scale = 0.5 }
[simulate]
simulator = "../models/line.py:Line"
num_simulations = 16
[observation]
file = "../data/line.csv"
[noise.y]
dist = "Normal"
scale = 0.5
"""
CODE = """
import numpy as np
import simfer
from twice import twice


class Line(simfer.FunctionSimulator):
    parameters = {"slope": ""}

    def outputs(self):
        return {"y": simfer.Output(("x",), {"x": np.arange(3.0)})}

    def __call__(self, p):
        return {"y": twice(p["slope"]) * np.arange(3.0)}
"""


def typed(*words: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, list(map(str, words)))
    return answer.exit_code, " ".join(answer.output.split())


@cache
def packed() -> Path:
    project = helpers.scratch() / "project"
    for folder in ("configs", "models", "data"):
        (project / folder).mkdir(parents=True)
    (project / "configs" / "line.toml").write_text(CONFIG)
    (project / "models" / "line.py").write_text(CODE)
    (project / "models" / "twice.py").write_text("def twice(x):\n    return 2.0 * x\n")
    (project / "data" / "line.csv").write_text("x,y\n0,0.1\n1,-2.1\n2,-3.9\n")
    (project / "data" / "other.csv").write_text("not asked for\n")
    assert typed("simulate", project / "configs" / "line.toml")[0] == 0
    code, said = typed("pack", project / "configs" / "line.toml", project / "out.zip")
    assert code == 0, said
    return project / "out.zip"


def test_what_arrives_has_its_results_and_runs(tmp_path: Path) -> None:
    code, said = typed("unpack", packed(), tmp_path / "theirs")
    assert code == 0 and "models/line.py, models/twice.py" in said, said
    config = tmp_path / "theirs" / "configs" / "line.toml"
    assert not (tmp_path / "theirs" / "data" / "other.csv").exists()
    rows = load(config).simulations
    np.testing.assert_array_equal(rows["y"].values[:, 2], 4.0 * rows["slope"].values)
    code, said = typed("simulate", config)
    assert code == 0 and "cached" in said


def test_the_same_problem_is_the_same_file(tmp_path: Path) -> None:
    assert typed("pack", packed().parent / "configs" / "line.toml", tmp_path / "again.zip")[0] == 0
    assert (tmp_path / "again.zip").read_bytes() == packed().read_bytes()


def rewritten(place: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write the file again, changed by somebody who knows how it is made."""
    with zipfile.ZipFile(packed()) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    change(entries)
    with zipfile.ZipFile(place / "other.zip", "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return place / "other.zip"


def listing(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    """Return a change that lists a file more, its digest right."""

    def change(entries: dict[str, bytes]) -> None:
        listed: dict[str, Any] = json.loads(entries["packed.json"])
        listed["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        entries["packed.json"] = json.dumps(listed).encode()
        entries[name] = content

    return change


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:outside.txt", "a//b"]
)
def test_no_path_leaves_the_folder(name: str, tmp_path: Path) -> None:
    other = rewritten(tmp_path, listing(name, b"x"))
    code, said = typed("unpack", other, tmp_path / "theirs")
    assert code == 2 and ("does not stay in its folder" in said or "other files than it lists" in said), said
    assert {each.name for each in tmp_path.iterdir()} == {"other.zip"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries.update({"models/line.py": entries["models/line.py"] + b"#"}), "not what was packed"),
        (lambda entries: entries.update({"data/line.csv": b""}), "not what was packed"),
        (lambda entries: entries.update({"more.py": b""}), "other files than it lists"),
        (lambda entries: entries.pop("data/line.csv"), "other files than it lists"),
        (lambda entries: entries.pop("packed.json"), "no file of `simfer pack`"),
        (lambda entries: entries.update({"packed.json": b"[1]"}), "no file of `simfer pack`"),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused_whole(change: Any, said: str, tmp_path: Path) -> None:
    code, output = typed("unpack", rewritten(tmp_path, change), tmp_path / "theirs")
    assert code == 2 and said in output, output
    assert {each.name for each in tmp_path.iterdir()} == {"other.zip"}


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no")
    assert typed("unpack", tmp_path / "no.zip", tmp_path / "theirs")[0] == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    code, said = typed("unpack", packed(), tmp_path / "full")
    assert code == 2 and "not empty" in said


def test_a_path_of_this_machine_alone_is_refused(tmp_path: Path) -> None:
    config = packed().parent / "configs" / "absolute.toml"
    config.write_text(CONFIG.replace("../data/line.csv", str((packed().parent / "data" / "line.csv").resolve())))
    code, said = typed("pack", config, tmp_path / "out.zip")
    assert code == 2 and "relative to the config" in said, said
