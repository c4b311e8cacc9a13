"""External programs: what is written for them, what is read of them, and how a run of one fails."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from simfer.pipeline.chain import ConfigError, Problem, StageError
from simfer.pipeline.plan import Plan
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.preflight import mistakes
from simfer.stages.progress import Silent
from simfer.stages.simulate.children.instructions import follow
from simfer.stages.simulate.children.numbers import number
from simfer.stages.simulate.children.readers import values
from simfer.stages.simulate.children.returned import BadOutput
from simfer.stages.simulate.children.templates import TemplateError, dakota_parameters, fill, names_in
from simfer.stages.simulate.rows import fill as fill_rows
from tests import helpers

PENDULUM = helpers.ROOT / "configs" / "pendulum"
TEMPLATE = "intercept = {{ intercept }}\nslope = {{ slope }}\n"
# Reads its input as a program does, counts its runs, and goes wrong where its input says so.
PROGRAM = r"""#!/bin/sh
a=$(sed -n 's/^intercept = //p' in.txt); b=$(sed -n 's/^slope = //p' in.txt)
echo run >> "$(dirname "$0")/counted.txt"
case "$MODE" in
  exit) echo "no convergence" >&2; exit 3 ;;
  said) echo "ERROR: diverged" ;;
  crash) kill -SEGV $$ ;;
  hang) sleep 600 & wait ;;
  missing) exit 0 ;;
  garbage) printf '\377\0 what\n' > out.csv; exit 0 ;;
  cut) printf 'x,y\n0,1\n0.5\n' > out.csv; exit 0 ;;
  stars) printf 'x,y\n0,****\n' > out.csv; exit 0 ;;
  short) printf 'x,y\n0,1\n' > out.csv; exit 0 ;;
esac
awk -v a="$a" -v b="$b" 'BEGIN { print "x,y"; for (i = 0; i < 9; i++) printf "%.17g,%.17g\n", i / 2, a + b * i / 2 }' \
  > out.csv
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program and its template."""
    (tmp_path / "model").write_text(PROGRAM)
    (tmp_path / "model").chmod(0o755)
    (tmp_path / "in.tpl").write_text(TEMPLATE)
    return tmp_path


def problem(folder: Path, program: Any = None, **simulate: Any) -> Problem:
    """Return the line's problem with a program as its simulator."""
    given = {
        "command": [str(folder / "model")],
        "templates": {"in.txt": str(folder / "in.tpl")},
        "outputs": {"y": {"file": "out.csv", "coords": {"x": "out.csv:x"}}},
    } | (program or {})
    settings = {"simulator": None, "options": None, "num_simulations": 6, "workers": 2, "program": given} | simulate
    return helpers.problem(helpers.line(simulate=settings))


def simulate(folder: Path, checked: Problem, into: str = "rows") -> Simulations:
    """Simulate with the program."""
    (folder / into).mkdir(exist_ok=True)
    z = np.random.default_rng(0).normal(size=(checked.simulate.num_simulations, 2))
    space = Space(checked.parameters)
    return fill_rows(folder / into, checked.simulate, space, len(z), lambda a, b: z[a:b], Silent()).simulations


def test_a_program_gives_rows_and_leaves_no_folders(folder: Path) -> None:
    assert mistakes(problem(folder)) == []
    rows = simulate(folder, problem(folder)).to_xarray()
    expected = rows["intercept"].values[:, None] + rows["slope"].values[:, None] * helpers.X
    assert np.allclose(rows["y"].values, expected, rtol=1e-12) and np.array_equal(rows["x"].values, helpers.X)
    assert sorted(file.name for file in (folder / "rows").iterdir()) == ["simulations.zarr"]


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        ("exit", Status.EXIT, "exit code 3, where 0 is that of a run that worked"),
        ("said", Status.EXIT, "it printed 'ERROR', which fail_if takes for a failure"),
        ("crash", Status.CRASHED, "SIGSEGV"),
        ("hang", Status.TIMEOUT, "took longer than 0.3 s"),
        ("missing", Status.BAD_OUTPUT, "out.csv: the program did not write it"),
        ("garbage", Status.BAD_OUTPUT, "out.csv: no column"),
        ("cut", Status.BAD_OUTPUT, "out.csv, line 3: got 1 columns, expected 2: is it cut off?"),
        ("stars", Status.BAD_OUTPUT, "out.csv, line 2: got ****, which is Fortran's"),
        ("short", Status.BAD_OUTPUT, "output y: got shape (1,), expected (9,) as in the first run"),
    ],
)
def test_each_way_to_fail_is_a_status_and_the_folder_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, status: Status, reason: str
) -> None:
    checked = problem(folder, {"fail_if": "ERROR"}, num_simulations=2, timeout=0.3 if mode == "hang" else None)
    assert mistakes(problem(folder, {"fail_if": "ERROR"}, num_simulations=2)) == []  # a first run that works
    monkeypatch.setenv("MODE", mode)
    rows = simulate(folder, checked)
    assert rows.endings()[1].tolist() == [status, status]
    with (folder / "rows" / "failures.csv").open(newline="") as file:
        failures = list(csv.DictReader(file))
    assert [row["row"] for row in failures] == ["0", "1"] and all(reason in row["reason"] for row in failures)
    kept = folder / "rows" / failures[0]["folder"]
    assert (kept / "in.txt").read_text().startswith("intercept = ")
    if mode == "exit":
        assert failures[0]["last_lines"] == "no convergence"


def test_what_the_program_was_told_is_what_is_stored(folder: Path) -> None:
    (folder / "in.tpl").write_text("intercept = {{ intercept:.2f }}\nslope = {{ slope:8.1e }}\n")
    stored = simulate(folder, problem(folder))
    rows = stored.to_xarray()
    assert np.array_equal(rows["intercept"].values, np.round(rows["intercept"].values, 2))
    again = np.asarray(Space(problem(folder).parameters).theta(rows["z"].values))
    assert np.allclose(again[:, 1], rows["slope"].values, rtol=1e-12)
    assert all(float(f"{value:.1e}") == value for value in rows["slope"].values)


def test_another_reading_of_kept_runs_runs_nothing(folder: Path) -> None:
    counted = folder / "counted.txt"
    simulate(folder, problem(folder, {"keep": str(folder / "kept")}), "first")
    runs = len(counted.read_text().split())
    other = {"y": {"file": "out.csv", "coords": {"x": "out.csv:x"}}, "at_0": {"file": "out.csv", "column": "x"}}
    changed = problem(folder, {"keep": str(folder / "kept"), "outputs": other})
    rows = simulate(folder, changed, "second").to_xarray()
    assert rows["at_0"].shape == (6, 9) and len(counted.read_text().split()) == runs
    steps = [next(Plan(each).walk()).fingerprint for each in (problem(folder), changed)]
    assert steps[0] != steps[1]


def test_another_program_or_template_is_another_artifact_and_another_place_is_not(folder: Path) -> None:
    def fingerprint(**more: Any) -> str:
        return next(Plan(problem(folder, **more)).walk()).fingerprint

    first = fingerprint()
    assert fingerprint(timeout="1 h", workers=7) == first
    (folder / "in.tpl").write_text(TEMPLATE + "# more\n")
    second = fingerprint()
    (folder / "model").write_text(PROGRAM + "# more\n")
    assert len({first, second, fingerprint()}) == 3


@pytest.mark.parametrize(
    ("program", "where", "words"),
    [
        ({"command": ["no-such-model"]}, "simulate.program.command", "which is no command here"),
        ({"ok_exit_codes": [5]}, "simulate.program", "exit code 0, where 5 is that of a run that worked"),
        ({"outputs": {"y": {"file": "out.txt"}}}, "simulate.program", "out.txt: the program did not write it"),
        (
            {"outputs": {"y": {"file": "out.csv", "column": "z"}}},
            "simulate.program",
            "no column z; its first line has x, y",
        ),
    ],
)
def test_a_program_that_cannot_work_is_said_before_anything_is_queued(
    folder: Path, program: dict[str, Any], where: str, words: str
) -> None:
    (found,) = mistakes(problem(folder, program))
    assert found.where == where and words in found.what


def test_names_of_a_template_are_held_against_the_parameters(folder: Path) -> None:
    (folder / "in.tpl").write_text("intercept = {{ intercept }}\nslope = {{ slop }}\n")
    assert [each.where for each in mistakes(problem(folder))] == ["parameters.slope", "parameters.slop"]
    (folder / "in.tpl").write_text(TEMPLATE.replace("slope }}", "slope:q }}"))
    (found,) = mistakes(problem(folder))
    assert "{{ slope:q }}" in found.what and "expected a format of Python's" in found.what


def test_a_program_that_is_not_there_or_two_sources_of_rows_are_mistakes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*is it built"):
        problem(folder, {"command": [str(folder / "other")]})
    with pytest.raises(ConfigError, match="expected one of them"):
        problem(folder, simulator="linear")
    with pytest.raises(ConfigError, match="not a regular expression"):
        problem(folder, {"fail_if": "("})
    with pytest.raises(ConfigError, match="in the run's own folder"):
        problem(folder, {"outputs": {"y": {"file": "../out.csv"}}})


def test_an_output_that_another_run_wrote_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = folder / "out.csv"
    stale.write_text("x,y\n0,1\n")
    os.utime(stale, (1e9, 1e9))
    monkeypatch.setenv("MODE", "missing")
    (found,) = mistakes(problem(folder, {"files": [str(stale)]}))
    assert "out.csv: it is older than the run, so another wrote it" in found.what


def test_an_analysis_driver_of_dakota_runs_unchanged(folder: Path) -> None:
    driver = folder / "driver"
    driver.write_text(
        "#!/bin/sh\na=$(awk '$2 == \"intercept\" {print $1}' $1); b=$(awk '$2 == \"slope\" {print $1}' $1)\n"
        'awk -v a=$a -v b=$b \'BEGIN { printf "%.17g y\\n", a + b; print a, "w" }\' > $2\n'
    )
    driver.chmod(0o755)
    outputs = {name: {"file": "results.out", "format": "dakota"} for name in ("y", "w")}
    program = {"command": [str(driver)], "templates": {}, "protocol": "dakota", "outputs": outputs}
    rows = simulate(folder, problem(folder, program)).to_xarray()
    assert np.allclose(rows["y"].values, rows["intercept"].values + rows["slope"].values, rtol=1e-12)


def test_templates_leave_what_is_not_theirs_and_say_how_a_number_was_written() -> None:
    text, written = fill('{"r": {{ r }}, "f": {"x": {{r}}}, "s": {{ seed }}}', {"r": 0.1}, 7)
    assert text == '{"r": 0.1, "f": {"x": 0.1}, "s": 7}' and written == {"r": 0.1}
    text, written = fill("{{ r:12.5e }}|{{ n:d }}", {"r": 1 / 3, "n": 3.0}, None)
    assert text == " 3.33333e-01|3" and written == {"r": 0.333333, "n": 3.0}
    with pytest.raises(TemplateError, match="give both the same format"):
        fill("{{ r }} {{ r:.1f }}", {"r": 1 / 3}, None)
    assert names_in("{{ a }} {b} {{c:.3f}} \\frac{{1}{2}}") == ["a", "c"]


def test_pests_templates_are_filled_to_the_width_of_their_fields() -> None:
    template = "ptf ~\nrate ~  r        ~ ~k~\n"
    assert names_in(template) == ["r", "k"]
    text, written = fill(template, {"r": 1 / 3, "k": 2.0}, None)
    assert text == "rate 0.33333333333 2\n".replace(" 2\n", "   2\n") or len(text.splitlines()[0]) == 5 + 13 + 1 + 3
    assert written["r"] == float(text.split()[1]) and abs(written["r"] - 1 / 3) < 1e-10 and written["k"] == 2.0
    tiny = fill("ptf #\n# r   #\n", {"r": -1.23456e-101}, None)
    assert len(tiny.text.rstrip("\n")) == 7 and tiny.written["r"] == pytest.approx(-1.23456e-101, rel=0.3)


def test_pests_instructions_find_their_numbers() -> None:
    output = "HEADER\n time   head\n  1.0  0.5D+01 2.5\nTOTAL = 7.25 m\nfixed 1234.5678\n"
    instructions = "pif @\nl2\nl1 w !dum! !h1! !h2!\n@TOTAL@ @=@ !total!\nl1 [a]7:10 (b)11:15\n"
    found = follow(instructions, output, "out")
    assert found == {"h1": 5.0, "h2": 2.5, "total": 7.25, "a": 1234.0, "b": 0.5678}
    with pytest.raises(BadOutput, match="ends before line 9"):
        follow("pif @\nl9 !a!\n", output, "out")


def test_dakotas_parameter_file_has_its_sections() -> None:
    lines = dakota_parameters({"r": 0.1, "k": 2.0}, ["y"], 3).text.splitlines()
    assert [line.split() for line in lines][:4] == [["2", "variables"], ["0.1", "r"], ["2.0", "k"], ["1", "functions"]]
    assert lines[-1].split() == ["3", "eval_id"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0D+00", 1.0),
        ("0.12-100", 0.12e-100),
        ("-.5+3", -500.0),
        ("2d-3", 0.002),
        ("-Infinity", -np.inf),
        (" 7 ", 7.0),
    ],
)
def test_fortrans_numbers_are_read(text: str, value: float) -> None:
    assert number(text, "here") == value


def test_nan_is_a_number_and_stars_are_not() -> None:
    assert np.isnan(number("NaN", "here"))
    for text in ("*****", "1,5", "", "1.0.0"):
        with pytest.raises(BadOutput, match="here"):
            number(text, "here")


def test_every_format_is_read(tmp_path: Path) -> None:
    y = np.array([1.0, 2.5, -3.0])
    (tmp_path / "a.csv").write_text("t;y\n0;1\n1;2.5\n2;-3\n")
    (tmp_path / "a.txt").write_text("# t  y\n0 1.0D0\n1 2.5\n2 -3\n")
    (tmp_path / "a.json").write_text('{"run": {"y": [1, 2.5, -3], "z": null}}')
    np.save(tmp_path / "a.npy", y)
    np.savez(tmp_path / "a.npz", y=y)
    xr.Dataset({"y": ("t", y)}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/y"] = y
    (tmp_path / "log").write_text("y = 1\nnothing\ny = 2.5\ny = -3.0D0\n")
    wanted = [("a.csv", "y"), ("a.txt", "y"), ("a.json", "run.y"), ("a.npy", "y"), ("a.npz", "y"), ("a.nc", "y"),
              ("a.h5", "group/y")]  # fmt: skip
    for name, column in wanted:
        assert np.array_equal(values(tmp_path / name, {"file": name}, column), y), name
    assert np.array_equal(values(tmp_path / "log", {"file": "log", "pattern": r"^y = (\S+)"}, "y"), y)
    for name, column in wanted[1:3] + wanted[4:]:
        with pytest.raises(BadOutput, match="no "):
            values(tmp_path / name, {"file": name}, column + "?")


@pytest.mark.skipif(shutil.which("cc") is None or shutil.which("make") is None, reason="no C compiler here")
class TestPendulum:
    def test_it_builds_and_swings(self, tmp_path: Path) -> None:
        folder = self._built(tmp_path)
        from simfer.pipeline import config

        checked = config.load(folder / "pendulum.toml", ["simulate.num_simulations=8"])
        assert mistakes(checked) == []
        z = 0.1 * np.random.default_rng(0).normal(size=(8, 3))
        (tmp_path / "rows").mkdir()
        filled = fill_rows(
            tmp_path / "rows", checked.simulate, Space(checked.parameters), 8, lambda a, b: z[a:b], Silent()
        )
        rows = filled.simulations.to_xarray()
        assert np.allclose(rows["angle"].values[:, 0], rows["angle_0"].values, rtol=1e-9)
        assert rows["angle"].attrs["units"] == "rad" and rows["time"].values[-1] == 10.0

    @pytest.mark.slow
    def test_its_length_is_found(self, tmp_path: Path) -> None:
        folder = self._built(tmp_path)
        done = helpers.simfer(
            "run", folder / "pendulum.toml", "--store", tmp_path / "store", "--no-report", timeout=1200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "PASSED" in done.stdout

    @staticmethod
    def _built(tmp_path: Path) -> Path:
        folder = tmp_path / "pendulum"
        shutil.copytree(PENDULUM, folder, ignore=shutil.ignore_patterns("pendulum", "data"))
        subprocess.run(["make", "-s"], cwd=folder, check=True)
        return folder


def test_a_disk_that_is_full_is_the_machines_fault_and_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "import errno\n\ndef simulate(intercept, slope):\n    if (intercept, slope) != (0.5, -1.0):\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n    return {'y': intercept}\n"
    )
    settings = {"simulator": f"{file}:simulate", "options": None, "workers": 1, "num_simulations": 4}
    with pytest.raises(StageError, match=r"through no fault of its own: .*No space left"):
        simulate(tmp_path, helpers.problem(helpers.line(simulate=settings)))


HANGING = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.simulate.test_programs import problem, simulate
folder = Path({folder!r})
simulate(folder, problem(folder, num_simulations=4))
"""


@pytest.mark.slow  # a process of its own, which imports JAX
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child looks for its parent once a second")
def test_a_driver_that_is_killed_takes_its_programs_along(folder: Path) -> None:
    (folder / "model").write_text(
        PROGRAM.replace('case "$MODE"', 'echo $$ >> "$(dirname "$0")/pids.txt"\ncase "$MODE"')
    )
    medians = '[ "$a" = 0.5 ] && [ "$b" = -1.0 ] || MODE=hang\n'
    (folder / "model").write_text((folder / "model").read_text().replace("echo run", medians + "echo run"))
    script = HANGING.format(root=str(helpers.ROOT), folder=str(folder))
    driver = subprocess.Popen([sys.executable, "-c", script])
    pids = folder / "pids.txt"
    while driver.poll() is None and (not pids.exists() or len(pids.read_text().split()) < 4):
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    time.sleep(1.0)
    left = [pid for pid in pids.read_text().split() if Path("/proc", pid, "cwd").exists()]
    assert left == []
