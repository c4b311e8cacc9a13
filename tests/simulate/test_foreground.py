"""`simfer run CONFIG --row N`: one row again, in the foreground, as the ensemble had it; the store is left as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from simfer.pipeline.cli import app
from simfer.stages.artifacts.simulations import Simulations
from tests import helpers

CONFIG = """
[parameters]
intercept = { dist = "Normal", loc = 0.5, scale = 1.0 }
slope = { dist = "Normal", loc = -1.0, scale = 0.5 }

[simulate]
num_simulations = 6
workers = 2
SIMULATOR

[observation]
file = "line.csv"

[noise.y]
dist = "Normal"
scale = 0.5
"""
PROGRAM = """
[simulate.program]
command = ["./model"]
templates = { "in.txt" = "in.tpl" }
outputs = { y = { file = "out.csv", coords = { x = "out.csv:x" } } }
"""
MODEL = r"""#!/bin/sh
read a b < in.txt
echo "solving für $a"
case "$MODE" in
  exit) echo "no convergence" >&2; exit 3 ;;
  short) printf 'x,y\n0,1\n' > out.csv; exit 0 ;;
esac
awk -v a="$a" -v b="$b" 'BEGIN { print "x,y"; for (i = 0; i < 9; i++) printf "%.17g,%.17g\n", i / 2, a + b * i / 2 }' \
  > out.csv
"""
FUNCTION = """
import json
from pathlib import Path

def simulate(intercept, slope, seed):
    print("seed", seed, "beside", Path("line.csv").exists())
    return {"y": json.loads("{" if intercept else "")}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two configs, of a program and of a function."""
    helpers.write_line(tmp_path / "line.csv")
    (tmp_path / "model").write_text(MODEL)
    (tmp_path / "model").chmod(0o755)
    (tmp_path / "in.tpl").write_text("{{ intercept }} {{ slope }}\n")
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "program.toml").write_text(CONFIG.replace("SIMULATOR", PROGRAM))
    (tmp_path / "function.toml").write_text(CONFIG.replace("SIMULATOR", 'simulator = "mine.py:simulate"'))
    return tmp_path


def simfer(folder: Path, command: str, config: str, *arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [command, str(folder / config), "--store", str(folder / "store"), *arguments])


def stored(folder: Path) -> dict[str, int]:
    """Return what lies in the store, and when it was written."""
    return {str(file): file.stat().st_mtime_ns for file in (folder / "store").rglob("*")}


def test_a_programs_row_is_run_again_and_watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert simfer(folder, "simulate", "program.toml", "--quiet").exit_code == 0
    (artifact,) = (folder / "store" / "simulate").glob("[!.]*")
    rows, before = Simulations.load(artifact).to_xarray(), stored(folder)
    result = simfer(folder, "run", "program.toml", "--row", "3")
    assert result.exit_code == 0, result.output
    kept = Path(re.search(r"\S*simfer-row-3-\S*/run", result.output)[0])  # type: ignore[index]
    told = [float(word) for word in (kept / "in.txt").read_text().split()]
    assert told == [float(rows[name][3]) for name in ("intercept", "slope")]
    assert np.allclose(np.loadtxt(kept / "out.csv", delimiter=",", skiprows=1)[:, 1], rows["y"][3], rtol=1e-14)
    assert f"solving für {told[0]!r}" in result.output and (kept / "stdout").read_text() in result.output
    monkeypatch.setenv("MODE", "exit")
    result = simfer(folder, "run", "program.toml", "--row", "3", "--json")
    assert result.exit_code == 3 and "no convergence" in result.stderr and "exit: exit code 3" in result.stderr
    assert json.loads(result.stdout)["error"]["kind"] == "StageError"
    monkeypatch.setenv("MODE", "short")  # nothing wrong in itself: it is held against the rows that are there
    result = simfer(folder, "run", "program.toml", "--row", "3")
    assert result.exit_code == 3 and "got shape (1,), expected (9,)" in result.stderr
    assert stored(folder) == before


@pytest.mark.parametrize(("dear", "said"), [(0.0, True), (1e9, False)])
def test_what_a_run_costs_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch, dear: float, said: bool) -> None:
    monkeypatch.setattr("simfer.stages.simulate.foreground.DEAR", dear)
    result = simfer(folder, "run", "program.toml", "--row", "0")
    assert result.exit_code == 0 and ("simulate.cost =" in " ".join(result.output.split())) == said


def test_a_functions_exception_comes_with_its_whole_traceback(folder: Path) -> None:
    here = Path.cwd()
    result = simfer(folder, "run", "function.toml", "--row", "5")
    assert result.exit_code == 3 and re.search(r"seed \d+ beside True", result.stdout)
    assert "raised JSONDecodeError" in result.stderr and 'return {"y": json.loads' in result.stderr
    assert "json/decoder.py" in result.stderr and "foreground.py" not in result.stderr
    assert Path.cwd() == here and not (folder / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--row", "6"], "got 6, expected a row of the first round, 0 to 5"),
        (["--row", "1", "--until", "train"], "leave --until and --redo out"),
    ],
)
def test_what_is_no_row_is_refused(folder: Path, arguments: list[str], said: str) -> None:
    result = simfer(folder, "run", "program.toml", *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_a_row_of_jax_is_refused() -> None:
    result = CliRunner().invoke(app, ["run", str(helpers.SMOKE), "--row", "0"])
    assert result.exit_code == 2 and "solved many in one compiled call of JAX" in result.stderr
