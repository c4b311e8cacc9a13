"""Killed, crowded, swept or out of room at any point, a run gives the numbers that it gives undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from simfer.stages.artifacts.posterior import Posterior
from tests import fakes, helpers
from tests.campaign.kills import artifacts

Cases = Callable[[int, int], int]


def show(name: str, counts: dict[str, int]) -> None:
    """Print a line of the table."""
    print(
        f"\n{name:<28}"
        + "".join(f"{kind} {number:,}  " for kind, number in counts.items() if number or kind == "wrong")
    )


def test_kill_at_every_file_operation(tmp_path: Path, cases: Cases) -> None:
    most = cases(2, 0)  # of each scenario's operations; all, in the whole
    command = [sys.executable, "-m", "tests.campaign.kills", str(tmp_path), str(0 if most == 1 else most)]
    done = subprocess.run(command, cwd=helpers.ROOT, capture_output=True, text=True, check=True)
    for name, ends in json.loads(done.stdout).items():
        show(f"kill -9: {name}", {"tried": 0, "right": 0, "wrong": 0} | ends)
        assert ends["tried"] > 0 and ends["right"] == ends["tried"] and not ends["outside"], (name, ends)


def test_three_at_once(tmp_path: Path, cases: Cases) -> None:
    project = fakes.write_project(tmp_path)
    for turn in range(cases(1, 30)):
        store = tmp_path / f"store-{turn}"
        three = [
            subprocess.Popen(**fakes.process("run", project, "--store", store, FAKE_PAUSE="0.02"), stdout=-3, stderr=-3)
            for _ in range(3)
        ]
        assert [process.wait(120) for process in three] == [0, 0, 0]
        assert artifacts(store) == artifacts(tmp_path / "store-0") and not list(store.rglob(".building-*"))
    show("three processes at once", {"tried": cases(1, 30), "wrong": 0})


def test_clean_beside_a_run(tmp_path: Path, cases: Cases) -> None:
    project, other = fakes.write_project(tmp_path), tmp_path / "other.toml"
    other.write_text(fakes.CONFIG.replace("64", "65"))
    swept = 0
    for turn in range(cases(1, 20)):
        store = tmp_path / f"store-{turn}"
        run = subprocess.Popen(
            **fakes.process("run", project, "--store", store, FAKE_PAUSE="0.1"), stdout=-3, stderr=-3
        )
        while run.poll() is None:
            swept += fakes.simfer("clean", other, "--store", store).returncode == 0
        assert run.returncode == 0
        assert artifacts(store).keys() <= artifacts(tmp_path / "store-0").keys() or turn == 0
    show("clean beside a run", {"tried": cases(1, 20), "sweeps": swept, "wrong": 0})
    assert swept


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what makes a small disk of one's own, or changes it: only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


def test_a_full_disk(tmp_path: Path, cases: Cases, disk: Callable[[str], Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    project, ends = fakes.write_project(tmp_path), dict.fromkeys(("tried", "refused", "taken", "wrong"), 0)
    fakes.simfer("run", project, "--store", tmp_path / "right")
    sizes = [48, 96] if cases(0, 1) == 0 else list(range(4, 200, 4))
    for kilobytes in sizes:
        store = disk(f"size={kilobytes}k") / "store"
        ended = fakes.simfer("run", project, "--store", store)
        assert ended.returncode in (0, 3) and "Traceback" not in ended.stderr, ended.stderr
        assert ended.returncode == 0 or "the disk is full" in ended.stderr
        subprocess.run(["mount", "-o", "remount,size=4m", store.parent], check=True)
        assert fakes.simfer("run", project, "--store", store).returncode == 0
        ends["tried"] += 1
        ends["refused" if ended.returncode else "taken"] += 1
        ends["wrong"] += artifacts(store) != artifacts(tmp_path / "right")
        subprocess.run(["mount", "-o", "remount,ro", store.parent], check=True)
        again = fakes.simfer("run", project, "--store", store, "--redo", "train")
        assert again.returncode == 3 and "it can only be read" in again.stderr, again.stderr
        assert fakes.simfer("run", project, "--store", store).returncode == 0  # nothing is to be written
        subprocess.run(["umount", store.parent], check=True)
    show("full and read-only disks", ends)
    assert ends["refused"] and not ends["wrong"]


SMALL = """
[parameters]
intercept = { dist = "Normal", loc = 0.5, scale = 1.0 }
slope = { dist = "Normal", loc = -1.0, scale = 0.5 }
[simulate]
simulator = "linear"
num_simulations = 60
options = { x = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0] }
[refine]
max_rounds = 1
simulations_per_round = 20
[train]
architecture = "polynomial"
[observation]
file = "DATA"
[noise.y]
dist = "Normal"
scale = 0.5
[infer]
sampler = "nuts"
num_warmup = 300
num_samples = 500
num_chains = 2
[check]
num_draws = 25
max_emulator_error = 1e-30  # which no check passes: there is a second round
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return the config of a problem of two rounds that are real, and quick."""
    helpers.line()  # which writes the data
    file = tmp_path / "small.toml"
    file.write_text(SMALL.replace("DATA", str(helpers.scratch() / "line.csv")))
    return file


def numbers(store: Path) -> dict[str, np.ndarray]:
    """Return the draws of every round, and what its check came to, by the folders' names."""
    draws = {path.name: Posterior.load(path).z() for path in (store / "infer").glob("[!.]*")}
    verdicts = {path.parent.name: json.loads(path.read_text()) for path in (store / "check").glob("[!.]*/verdict.json")}
    values = {name: [each["value"] for each in verdict["figures"]] for name, verdict in verdicts.items()}
    return draws | {name: np.asarray(each, float) for name, each in values.items()}


def same(store: Path, right: dict[str, np.ndarray]) -> bool:
    """Say whether a store holds the same numbers, and nothing half written."""
    found = numbers(store)
    whole = not [path for pattern in (".building-*", "*.partial") for path in store.rglob(pattern)]
    return (
        whole
        and found.keys() == right.keys()
        and all(np.array_equal(found[name], values, equal_nan=True) for name, values in right.items())
    )


def test_the_real_chain_killed_at_random(tmp_path: Path, cases: Cases, small: Path) -> None:
    """A run is killed again and again until it is done: each turn has longer than the last."""
    if not (most := cases(0, 200)):
        pytest.skip("half an hour: only in the whole campaign")
    rng, ends = random.Random(0), dict.fromkeys(("tried", "runs", "wrong"), 0)
    assert one_run(small, tmp_path / "right", None)[0] == 4
    right = numbers(tmp_path / "right")
    while ends["tried"] < most:
        store, patience = tmp_path / f"store-{ends['runs']}", 5.0
        while (code := one_run(small, store, rng.uniform(0.0, patience))[0]) is None:
            ends["tried"], patience = ends["tried"] + 1, 1.1 * patience
        ends["runs"] += 1
        ends["wrong"] += code != 4 or not same(store, right)
        show("the real chain, killed", ends)
    assert not ends["wrong"]


def test_the_real_chain_on_a_full_disk(tmp_path: Path, cases: Cases, small: Path, disk: Callable[[str], Path]) -> None:
    """It ends in words wherever the disk is full, and goes on to the same numbers where there is room again."""
    if not (most := cases(0, 12)):
        pytest.skip("minutes a run: only in the whole campaign")
    assert one_run(small, tmp_path / "right", None)[0] == 4
    right, ends = numbers(tmp_path / "right"), dict.fromkeys(("tried", "refused", "taken", "wrong"), 0)
    for kilobytes in np.geomspace(40, 3000, most).astype(int):
        store = disk(f"size={kilobytes}k") / "store"
        code, said = one_run(small, store, None)
        ends["tried"] += 1
        ends["refused" if code == 3 else "taken"] += 1
        ends["wrong"] += code not in (3, 4) or "Traceback" in said or (code == 3 and "the disk is full" not in said)
        subprocess.run(["mount", "-o", "remount,size=40m", store.parent], check=True)
        ends["wrong"] += one_run(small, store, None)[0] != 4 or not same(store, right)
        subprocess.run(["umount", store.parent], check=True)
        show("the real chain, full disks", ends)
    assert ends["refused"] and not ends["wrong"]


def one_run(config: Path, store: Path, seconds: float | None) -> tuple[int | None, str]:
    """Run a problem, killed after so many seconds; return its exit code, or None if it was killed, and what it said."""
    command = [sys.executable, "-m", "simfer.pipeline.cli", "run", config, "--store", store, "--quiet"]
    process = subprocess.Popen(command, cwd=helpers.ROOT, stderr=subprocess.PIPE, text=True)
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None, ""
    return process.returncode, said
