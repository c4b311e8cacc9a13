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


def numbers(store: Path) -> list[np.ndarray]:
    """Return the draws, and what the check came to."""
    [posterior] = (store / "infer").glob("[!.]*")
    [verdict] = (store / "check").glob("[!.]*/verdict.json")
    figures = [each["value"] for each in json.loads(verdict.read_text())["figures"]]
    return [Posterior.load(posterior).z(), np.asarray(figures, float)]


def test_the_real_chain_killed_at_random(tmp_path: Path, cases: Cases) -> None:
    """A run is killed again and again until it is done: each turn has longer than the last."""
    if not (most := cases(0, 200)):
        pytest.skip("minutes a run: only in the whole campaign")
    rng, kills, runs = random.Random(0), 0, 0
    assert one_run(tmp_path / "right", None) is not None
    right = numbers(tmp_path / "right")
    while kills < most:
        store, patience = tmp_path / f"store-{runs}", 5.0
        while (code := one_run(store, rng.uniform(0.0, patience))) is None:
            kills, patience = kills + 1, 1.1 * patience
        assert code in (0, 4)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(numbers(store), right, strict=True))
        runs += 1
    show("the real chain", {"tried": kills, "runs": runs, "wrong": 0})


def one_run(store: Path, seconds: float | None) -> int | None:
    """Run the smallest problem, killed after so many seconds; return its exit code, or None if it was killed."""
    command = [sys.executable, "-m", "simfer.pipeline.cli", "run", helpers.SMOKE, "--store", store, "--quiet"]
    process = subprocess.Popen(command, cwd=helpers.ROOT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None
