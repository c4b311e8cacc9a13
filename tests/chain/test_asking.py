"""Ask and tell: a lab makes the runs, round by round, and what it sends back is matched by name."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simfer.pipeline.cli import app
from tests import helpers

CONFIG = """
[parameters]
intercept = {{ dist = "Normal", loc = 0.5, scale = 1.0 }}
slope = {{ dist = "Normal", loc = -1.0, scale = 0.5 }}
[simulate]
simulator = "ask"
num_simulations = {num}
[refine]
max_rounds = {rounds}
simulations_per_round = 20
[train]
architecture = "polynomial"
[observation]
file = "{data}"
[noise.y]
dist = "Normal"
scale = 0.5
[infer]
num_warmup = 300
num_samples = 500
num_chains = 2
[check]
num_draws = 25
max_emulator_error = {error}
"""
SCRIPT = """
import csv, sys
x = [0.5 * i for i in range(9)]
with open(sys.argv[1]) as asked, open(sys.argv[2], "w") as done:
    done.write("run," + ",".join(f"y[x={at:g}]" for at in x) + "\\n")
    for row in list(csv.DictReader(asked))[::-1]:
        y = [float(row["intercept"]) + float(row["slope"]) * at for at in x]
        done.write(row["run"] + "," + ",".join(map(repr, y)) + "\\n")
"""
Row = dict[str, str]


class Lab:
    """A config of its own, the commands on it, and somebody who makes the runs."""

    def __init__(self, folder: Path, num: int = 40, rounds: int = 0, error: float = 0.5) -> None:
        self.folder, self.config = folder, folder / "lab.toml"
        self.step = ""  # that the last points were asked for
        helpers.line()  # which writes the data
        data = helpers.scratch() / "line.csv"
        self.config.write_text(CONFIG.format(num=num, rounds=rounds, data=data, error=error))

    def type(self, command: str, *more: str) -> tuple[int, dict]:  # type: ignore[type-arg]
        words = [command, str(self.config), *more, "--store", str(self.folder / "store"), "--json"]
        answer = CliRunner().invoke(app, words)
        return answer.exit_code, json.loads(answer.stdout)

    def ask(self, *more: str) -> list[Row]:
        code, answer = self.type("ask", "--output", str(self.folder / "next.csv"), *more)
        assert code == 0, answer
        self.step = answer["facts"]["step"]
        if not answer["facts"]["points"]:
            return []
        with (self.folder / "next.csv").open() as file:
            return list(csv.DictReader(file))

    def make(self, rows: list[Row], **more: list[str]) -> Path:
        """Run what was asked for, as an outside script does; write it the other way round."""
        done = self.folder / "done.csv"
        lines = [",".join(["run", *(f"y[x={x:g}]" for x in helpers.X)])]
        for row in rows[::-1]:
            y = float(row["intercept"]) + float(row["slope"]) * helpers.X
            lines.append(",".join([row["run"], *map(repr, y.tolist())]))
        done.write_text("\n".join(lines))
        return done

    def tell(self, file: Path, *more: str) -> tuple[int, dict]:  # type: ignore[type-arg]
        return self.type("tell", str(file), *more)


@pytest.mark.slow
def test_an_outside_script_makes_the_runs_of_three_rounds_and_the_posterior_passes(tmp_path: Path) -> None:
    lab = Lab(tmp_path, rounds=2, error=1e-30)  # which no check passes
    script = tmp_path / "lab.py"
    script.write_text(SCRIPT)
    code, answer = lab.type("run")
    assert code == 6 and answer["error"]["kind"] == "WaitingForRuns"
    waited: list[str] = []
    while lab.ask("--num", "25"):  # it goes on as far as the next runs that are waited for
        waited += [] if waited[-1:] == [lab.step] else [lab.step]
        subprocess.run([sys.executable, str(script), tmp_path / "next.csv", tmp_path / "done.csv"], check=True)
        assert lab.tell(tmp_path / "done.csv")[0] == 0
    assert waited == ["simulate-0", "check-0", "simulate-1", "check-1", "simulate-2", "check-2"]
    code, answer = lab.type("run")
    assert code == 4, answer
    lab.config.write_text(lab.config.read_text().replace("1e-30", "0.5"))
    code, answer = lab.type("run")  # limits are read off what was simulated: nothing is asked for again
    assert code == 0 and answer["passed"] is True, answer
    mean, covariance = helpers.exact_line()
    infer = next(step for step in answer["steps"] if step["stage"] == "infer")["summary"]
    for i, row in enumerate(infer["tables"]["posterior"]):
        assert row["mean"] == pytest.approx(mean[i], abs=0.15 * covariance[i, i] ** 0.5)


def test_results_come_in_any_order_some_missing_some_failed_some_twice_some_of_ones_own(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rows = lab.ask()
    assert len(rows) == 40 and lab.ask() == [] and len(lab.ask("--again")) == 40
    first = lab.make(rows[:30])
    code, answer = lab.tell(first)
    assert code == 0 and answer["facts"]["taken"] == 30
    assert "waits for 10 of 40 runs (30 told, 0 of them failed; 10 given out" in answer["warnings"][0]
    assert lab.tell(first)[1]["facts"] == {
        "taken": 0,
        "failed": 0,
        "told_before": 30,
        "points_of_your_own": 0,
        "not_done_yet": 0,
    }
    # One failed, one is not done yet, and one is a point of the lab's own.
    names = ",".join(f"y[x={x:g}]" for x in helpers.X)
    empty, ones = "," * (len(helpers.X) - 1), ",".join(["1.0"] * len(helpers.X))
    odd = tmp_path / "odd.csv"
    odd.write_text(
        f"run,intercept,slope,{names},status\n{rows[30]['run']},{rows[30]['intercept']},{rows[30]['slope']},{empty},crashed\n"
        f"{rows[31]['run']},{rows[31]['intercept']},{rows[31]['slope']},{empty},\n,1.0,0.0,{ones},ok\n"
    )
    facts = lab.tell(odd)[1]["facts"]
    assert facts == {"taken": 2, "failed": 1, "told_before": 0, "points_of_your_own": 1, "not_done_yet": 1}
    assert {row["run"] for row in lab.ask("--again")} == {row["run"] for row in rows[31:]}
    lab.tell(lab.make(rows[31:]))
    code, answer = lab.type("simulate")
    assert code == 0, answer
    facts = answer["steps"][-1]["summary"]["facts"]
    assert (facts["rows"], facts["failed"]) == (41, 1)


def test_what_does_not_belong_is_refused_whole(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rows = lab.ask()
    lab.tell(lab.make(rows[:5]))
    other = lab.make(rows[:6])
    other.write_text(other.read_text().replace(rows[5]["run"], "00c0ffee-3"))
    code, answer = lab.tell(other)
    assert code == 2 and "asked for by another config" in answer["error"]["message"]
    changed = lab.make([rows[0] | {"slope": "7.0"}, rows[6]])
    code, answer = lab.tell(changed)
    assert code == 2 and "was told before, and otherwise" in answer["error"]["message"]
    assert len(lab.ask("--again")) == 35  # nothing was taken in
    assert lab.tell(changed, "--replace")[1]["facts"]["taken"] == 2
    moved = tmp_path / "moved.csv"
    moved.write_text(f"run,intercept,slope,y\n{rows[8]['run']},9,9,1\n")
    code, answer = lab.tell(moved)
    assert code == 2 and "was asked for at" in answer["error"]["message"]
    moved.write_text(f"run,w\n{rows[8]['run']},1\n")
    code, answer = lab.tell(moved)
    assert code == 2 and "told before were y (9 values)" in answer["error"]["message"]
    moved.write_text("run,y\nmine-7,1\n")
    code, answer = lab.tell(moved)
    assert code == 2, answer


def test_a_ledger_cut_off_in_a_line_goes_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rows = lab.ask()
    lab.tell(lab.make(rows))
    ledger = next((tmp_path / "store" / "asked").glob("*/told.jsonl"))
    ledger.write_bytes(ledger.read_bytes()[:-20])
    assert len(lab.ask("--again")) == 1
    assert lab.tell(lab.make(rows))[1]["facts"]["taken"] == 1
    assert lab.type("simulate")[0] == 0


def test_outputs_that_the_config_says_nothing_of_are_refused_at_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text(f"run,w\n{lab.ask()[0]['run']},1\n")
    code, answer = lab.tell(other)
    assert code == 2 and "noise.y" in answer["error"]["message"]
    assert len(lab.ask("--again")) == 40


def test_only_who_asks_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.config.write_text(lab.config.read_text().replace('"ask"', '"linear"'))
    code, answer = lab.type("ask")
    assert code == 2 and 'expected simulator = "ask"' in answer["error"]["message"]


def test_points_have_all_their_digits(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rows = lab.ask()
    with np.load(next((tmp_path / "store" / "asked").glob("*/points.npz"))) as points:
        theta = points["theta"]
    assert [[float(row["intercept"]), float(row["slope"])] for row in rows] == theta.tolist()


def test_a_larger_ensemble_asks_for_what_is_new_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, num=25)
    first = lab.ask()
    lab.tell(lab.make(first))
    assert lab.type("simulate")[0] == 0
    code, answer = lab.type("extend", "--num-simulations", "40")
    assert code == 6 and "simulate-0 waits for 15 of 15 runs" in answer["error"]["message"], answer
    more = lab.ask()
    assert len(more) == 15 and not {row["slope"] for row in more} & {row["slope"] for row in first}
    lab.tell(lab.make(more))
    code, answer = lab.type("simulate")
    assert code == 0 and answer["steps"][-1]["summary"]["facts"]["rows"] == 40
