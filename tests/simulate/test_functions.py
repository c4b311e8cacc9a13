"""Simulators in plain Python: what they give, and that what goes wrong in one row costs that row alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.pipeline import chain
from simfer.pipeline.chain import StageError, UserCodeError
from simfer.pipeline.runner import execute
from simfer.pipeline.store import Store
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.preflight import mistakes
from simfer.stages.progress import Silent
from simfer.stages.simulate.backends import build_backend, failed_rows, row_by_row
from simfer.stages.simulate.backends.kept import KeptFirst
from simfer.stages.simulate.children.supervisor import Done
from simfer.stages.simulate.rows import fill
from tests import helpers
from tests.helpers import Heard

POINTS = np.random.default_rng(0).normal(size=(512, 2))
PLAIN = Path(__file__).with_name("plain.py")


def problem(name: str, parameters: Any = None, **simulate: Any) -> chain.Problem:
    """Return the line's problem with a function of `plain.py` as its simulator."""
    settings = {"simulator": f"{PLAIN}:{name}", "options": None, "num_simulations": 20, "workers": 2} | simulate
    return helpers.problem(helpers.line(simulate=settings, parameters=parameters or {}))


def simulate(folder: Path, name: str, **settings: Any) -> Simulations:
    """Simulate with a function of `plain.py`."""
    folder.mkdir(exist_ok=True)
    checked, space = problem(name, **settings), Space(problem(name).parameters)
    num = checked.simulate.num_simulations
    return fill(folder, checked.simulate, space, num, lambda a, b: POINTS[a:b], Silent()).simulations


def rows_of(file: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(("unit", "wrong"), [("V m^-1", []), ("", []), ("mV/m", ["parameters.slope.unit"])])
def test_a_prior_is_in_the_unit_in_which_the_simulator_takes_the_parameter(unit: str, wrong: list[str]) -> None:
    checked = problem("Line", {"slope": {"dist": "Normal", "loc": -1.0, "scale": 0.5, "unit": unit}})
    assert [each.where for each in mistakes(checked)] == wrong


@pytest.mark.parametrize("name", ["line", "dataset", "Line"])
def test_functions_datasets_and_classes_give_the_same_rows(tmp_path: Path, name: str) -> None:
    heard = Heard()
    assert mistakes(problem(name), progress=heard) == []
    assert "gives y: 9 along x, 0 to 4" in "\n".join(heard.lines)
    assert any("intercept = 0.5, slope = -1" in line for line in heard.lines)
    rows = simulate(tmp_path, name).to_xarray()
    expected = rows["intercept"].values[:, None] + rows["slope"].values[:, None] * helpers.X
    assert np.array_equal(rows["y"].values, expected) and (rows["status"].values == Status.OK).all()
    assert np.array_equal(rows["x"].values, helpers.X)
    if name == "dataset":
        assert rows["y"].attrs["units"] == "V" and rows["x"].attrs["units"] == "m"
    if name == "Line":
        assert rows["y"].attrs["units"] == "V" and rows["slope"].attrs["units"] == "V/m"


def test_axes_without_names_are_named_in_the_config(tmp_path: Path) -> None:
    named = simulate(tmp_path / "a", "bare", dims={"y": ["x"]}).to_xarray()
    assert named["y"].dims == ("simulation", "x") and named["x"].values.tolist() == list(range(9))
    assert simulate(tmp_path / "b", "bare").to_xarray()["y"].dims == ("simulation", "y_0")


def test_each_way_to_fail_is_a_status_with_its_reason(tmp_path: Path) -> None:
    rows = simulate(tmp_path, "unsound", num_simulations=64, max_failed=1.0).to_xarray()
    slope, status = rows["slope"].values, rows["status"].values
    assert (status[slope > 0.3] == Status.RAISED).all()
    assert (status[(slope > -0.2) & (slope <= 0.3)] == Status.CRASHED).all()
    assert (status[slope < -2.0] == Status.NOT_FINITE).all()
    assert (status[(slope < -1.5) & (slope >= -2.0)] == Status.BAD_OUTPUT).all()
    assert (status[(slope >= -1.5) & (slope <= -0.2)] == Status.OK).all()
    assert {Status.OK, Status.CRASHED, Status.BAD_OUTPUT} <= set(status)
    failures = {int(row["row"]): row for row in rows_of(tmp_path / "failures.csv")}
    assert sorted(failures) == np.flatnonzero(status != Status.OK).tolist()
    for number, row in failures.items():
        assert float(row["slope"]) == slope[number] and row["host"] and float(row["seconds"]) >= 0.0
        if status[number] == Status.CRASHED:
            assert "SIGSEGV" in row["reason"] and row["last_lines"] == "a null pointer"
        if status[number] == Status.RAISED:
            assert f"ValueError: no slope of {slope[number]}" in row["reason"]
            assert "plain.py" in row["reason"] and row["last_lines"] == "about to fail"
        if status[number] == Status.BAD_OUTPUT:
            assert "got shape (8,), expected (9,)" in row["reason"] or "returned None" in row["reason"]
    assert not (tmp_path / "journal").exists()


def test_a_row_that_hangs_ends_at_its_time_limit_and_costs_no_other(tmp_path: Path) -> None:
    rows = simulate(tmp_path, "hangs", num_simulations=4, timeout="0.5 s", max_failed=1.0).to_xarray()
    late = rows["slope"].values > -1.0 + 1e-9
    assert late.any() and np.array_equal(rows["status"].values == Status.TIMEOUT, late)
    assert "took longer than 0.5 s" in rows_of(tmp_path / "failures.csv")[0]["reason"]


def test_numbers_do_not_depend_on_the_workers_nor_on_fresh_ones(tmp_path: Path) -> None:
    first = simulate(tmp_path / "a", "random", workers=1).to_xarray()
    again = simulate(tmp_path / "b", "random", workers=3, rows_per_worker=2).to_xarray()
    assert np.array_equal(first["y"].values, again["y"].values)
    assert np.unique(first["y"].values).size == first["y"].size
    assert Simulations.load(tmp_path / "a").stochastic


def test_a_larger_ensemble_keeps_the_rows_that_are_there_and_leaves_no_journal(tmp_path: Path) -> None:
    kept = simulate(tmp_path / "small", "line", num_simulations=20)
    settings, space = problem("line", num_simulations=40).simulate, Space(problem("line").parameters)
    backend = KeptFirst(kept, 20, build_backend(settings, space))
    (tmp_path / "large").mkdir()
    fill(tmp_path / "large", settings, space, 40, lambda a, b: POINTS[a:b], Silent(), backend=backend)
    rows = Simulations.load(tmp_path / "large").to_xarray()
    assert (rows["status"].values == Status.OK).all() and np.array_equal(rows["z"].values, POINTS[:40])
    assert [file.name for file in (tmp_path / "large").iterdir()] == ["simulations.zarr"]


def test_a_file_beside_the_function_is_found_wherever_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (simulate(tmp_path / "rows", "where", num_simulations=2).to_xarray()["status"].values == Status.OK).all()


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [
        ("never", "simulate.simulator", "no such file: mesh.dat"),
        ("text", "simulate.simulator", "output y: got 'fine', expected a number"),
        ("quits", "simulate.simulator", "SystemExit"),
        ("impure", "simulate.simulator", "let its random numbers come of a seed that it is given: an argument `seed`"),
    ],
)
def test_a_first_run_that_goes_wrong_is_said_before_anything_is_queued(name: str, where: str, words: str) -> None:
    (found,) = mistakes(problem(name))
    assert found.where == where and words in found.what and "intercept = 0.5" in found.what


def test_rows_that_all_fail_alike_stop_the_run_and_one_is_shown(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the first 20 rows all failed alike") as caught:
        simulate(tmp_path, "broken", num_simulations=500)
    assert "the licence has expired" in str(caught.value) and "slope = " in str(caught.value)


def test_rows_that_timed_out_sooner_are_run_again_and_no_others(tmp_path: Path) -> None:
    first = simulate(tmp_path, "hangs", num_simulations=20, timeout=0.3).to_xarray()
    late = first["status"].values == Status.TIMEOUT
    assert late.any() and not late.all()
    failures = (tmp_path / "failures.csv").read_text()
    simulate(tmp_path, "hangs", num_simulations=20, timeout=0.2)  # no more time than they had
    assert (tmp_path / "failures.csv").read_text() == failures
    again = simulate(tmp_path, "line", num_simulations=20, timeout=60.0).to_xarray()  # where none hangs
    assert (again["status"].values == Status.OK).all() and not (tmp_path / "failures.csv").exists()
    assert np.array_equal(again["y"].values[~late], first["y"].values[~late])
    assert np.allclose(
        again["y"].values, again["intercept"].values[:, None] + again["slope"].values[:, None] * helpers.X
    )


def test_rows_that_time_out_again_stop_no_stage_that_has_solved_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_by_row, "_ALIKE", 4)
    for timeout in (0.05, 0.1):  # a half of the rows takes longer
        rows = simulate(tmp_path, "hangs", num_simulations=16, timeout=timeout).to_xarray()
        assert 4 <= (rows["status"].values == Status.TIMEOUT).sum() <= 12
    assert {row["reason"] for row in rows_of(tmp_path / "failures.csv")} == {"took longer than 0.1 s"}


def test_half_a_line_of_failures_is_left_out_and_joins_no_other(tmp_path: Path) -> None:
    file, space = tmp_path / "failures.csv", Space(problem("line").parameters)
    header = "row,intercept,slope,status,reason,seconds,host,last_lines,folder\n"
    whole = "3,0.1,0.2,timeout,took longer than 1 s,1.001,h,,\n"
    done = Done(9, Status.TIMEOUT, np.zeros(0), 2.01, "took longer than 2 s", "", {}, "h")
    for half in ("7,0.2,time", '7,0.2,0.1,raised,no,0.1,h,"line 1\n'):
        file.write_text(header + whole + half)
        assert failed_rows.lasting(tmp_path, 1.0) == {3} and failed_rows.limits(tmp_path) == [1.0]
        failed_rows.add(tmp_path, [done], {9: {"intercept": 0.0, "slope": 0.0}}, space)
        assert [row["row"] for row in rows_of(file)] == ["3", "9"] and failed_rows.limits(tmp_path) == [1.0, 2.0]
    file.write_text(header[:20])
    failed_rows.add(tmp_path, [done], {9: {"intercept": 0.0, "slope": 0.0}}, space)
    assert [row["row"] for row in rows_of(file)] == ["9"] and list(tmp_path.iterdir()) == [file]


def test_limits_are_those_that_rows_had_here(tmp_path: Path) -> None:
    """Not those of rows that a smaller ensemble had, under another limit."""
    for num, timeout in ((8, 0.1), (16, 0.2)):
        checked = problem("hangs", num_simulations=num, timeout=timeout, max_failed=1.0)
        execute(checked, Store(tmp_path), until="simulate")
    found = [json.loads(file.read_text()) for file in tmp_path.glob("simulate/*/manifest.json")]
    facts = sorted((each["summary"]["facts"] for each in found), key=lambda each: each["rows"])
    assert [each["timeout"] for each in facts] == [0.1, 0.2]
    assert 0 < facts[1]["timed_out"] < facts[1]["failed"]


def test_rows_of_a_journal_that_timed_out_sooner_are_run_again(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the first 20 rows all failed alike"):
        simulate(tmp_path, "hangs_but_once", num_simulations=40, timeout=0.1)
    assert (
        simulate(tmp_path, "line", num_simulations=40, timeout=60.0).to_xarray()["status"].values == Status.OK
    ).all()


def test_rows_that_timed_out_in_what_is_finished_are_told_where_they_now_have_more_time(tmp_path: Path) -> None:
    for timeout, said in ((0.3, False), (0.2, False), (60.0, True)):
        heard, checked = Heard(), problem("hangs", timeout=timeout, max_failed=1.0)
        execute(checked, Store(tmp_path), until="simulate", reporter=heard)
        assert any("rows took longer than 0.3 s; now they have 60 s" in line for line in heard.lines) == said


def test_what_only_jax_has_a_use_for_is_refused() -> None:
    checked = problem("line", solver={"rtol": 1e-3}, derivatives=True, retry={"solver": "Kvaerno5"})
    assert {each.where for each in mistakes(checked)} == {
        "simulate.solver",
        "simulate.derivatives",
        "simulate.retry",
    }
    unknown = mistakes(problem("line", parameters={"slop": 1.0, "slope": None}))
    assert [each.where for each in unknown] == ["parameters.slop", "parameters.slope"]


def test_an_import_that_fails_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import no_such_library\n\ndef simulate(intercept, slope):\n    return {}\n")
    with pytest.raises(UserCodeError, match="No module named 'no_such_library'"):
        mistakes(problem("line", simulator=f"{tmp_path / 'model.py'}:simulate"))


def test_scipy_in_a_simulator_for_jax_says_how_to_have_it_in_plain_python(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import numpy as np\nfrom scipy.integrate import solve_ivp\nimport simfer\n\n"
        "class Line(simfer.FunctionSimulator):\n"
        "    parameters = {'intercept': '', 'slope': ''}\n"
        "    def outputs(self):\n"
        "        return {'y': simfer.Output(('x',), {'x': np.linspace(0, 4, 9)})}\n"
        "    def __call__(self, p):\n"
        "        y = solve_ivp(lambda t, y: [p['slope']], (0, 4), [p['intercept']], t_eval=np.linspace(0, 4, 9))\n"
        "        return {'y': y.y[0]}\n"
    )
    checked = problem("line", simulator=f"{tmp_path / 'model.py'}:Line", workers=None)
    with pytest.raises(Exception, match="Tracer") as caught:
        mistakes(checked)
    assert "def simulate(intercept, slope)" in "\n".join(caught.value.__notes__)


COUNTED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.simulate.test_functions import simulate
simulate(Path({folder!r}), "counted", simulator={target!r}, num_simulations=80)
"""


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_kill_loses_what_was_running_and_nothing_that_had_finished(tmp_path: Path, times: int) -> None:
    shutil.copy(PLAIN, tmp_path / "plain.py")
    simulate(tmp_path / "undisturbed", "counted", num_simulations=80, simulator=f"{tmp_path / 'plain.py'}:counted")
    counted = tmp_path / "counted.txt"
    counted.unlink()
    folder, target = tmp_path / "killed", f"{tmp_path / 'plain.py'}:counted"
    script = COUNTED.format(root=str(helpers.ROOT), target=target, folder=str(folder))
    random, kills = np.random.default_rng(0), 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = len(counted.read_text().splitlines()) if counted.exists() else 0
        more = begun + 3 + int(random.integers(80 // times if times < 20 else 4))
        while process.poll() is None and (kills >= times or not counted.exists()
                                          or len(counted.read_text().splitlines()) < more):  # fmt: skip
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0 and kills > 0
    rows, undisturbed = (Simulations.load(tmp_path / name).to_xarray() for name in ("killed", "undisturbed"))
    for name in rows:
        assert np.array_equal(rows[name].values, undisturbed[name].values), name
    seen = counted.read_text().splitlines()
    medians = sum(line == "0.5 -1.0" for line in seen)  # first runs, of which each start needs some
    at_most_running = 2 * kills * 5  # in two children, five rows of 10 ms were sent at a time
    assert len(seen) - medians - 80 <= at_most_running
    assert os.path.exists(folder / "simulations.zarr") and not (folder / "journal").exists()


@pytest.mark.slow  # two starts of the command
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_children_and_keeps_the_rows_that_are_done(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "model.py").write_text(
        "import os\nimport time\n\n\ndef simulate(intercept, slope):\n"
        "    with open('pids.txt', 'a') as file:\n        print(os.getpid(), file=file)\n"
        "    time.sleep(0.0 if (intercept, slope) == (0.5, -1.0) else 0.5)\n"
        "    return {'y': [intercept + slope * x / 2 for x in range(9)]}\n"
    )
    (tmp_path / "line.csv").write_text("y_0,y\n" + "".join(f"{i},{1.0 + i}\n" for i in range(9)))
    (tmp_path / "line.toml").write_text(
        '[parameters]\nintercept = { dist = "Normal", loc = 0.5 }\nslope = { dist = "Normal", loc = -1.0 }\n\n'
        '[simulate]\nsimulator = "model.py:simulate"\nnum_simulations = 400\n\n'
        '[observation]\nfile = "line.csv"\n\n[noise.y]\ndist = "Normal"\nscale = 0.5\n'
    )
    command = [sys.executable, "-m", "simfer.pipeline.cli", "simulate", str(tmp_path / "line.toml"), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "pids.txt"
    while process.poll() is None and (not pids.exists() or len(pids.read_text().split()) < 8):
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == code, said
    assert "Nothing that was finished is lost" in said or "go on with" in said
    for pid in set(pids.read_text().split()):
        assert not Path("/proc", pid).exists() or sys.platform != "linux"
    (kept,) = (tmp_path / "data" / "artifacts" / "simulate").rglob("journal/*")
    assert kept.stat().st_size > 0
