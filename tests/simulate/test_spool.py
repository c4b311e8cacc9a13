"""Rows by way of a folder: no network between who asks and who runs, and any of them may be killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simfer.pipeline.chain import StageError
from simfer.stages.model.outputs import Status
from simfer.stages.simulate.engines import close_all, engine_of
from simfer.stages.simulate.engines.heartbeat import Heartbeat
from simfer.stages.simulate.engines.spool import DRIVERS, TASKS, WORKERS, write
from simfer.stages.simulate.engines.work import work
from tests.simulate.test_functions import PLAIN, simulate

pytestmark = pytest.mark.usefixtures("closed_engines")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start `simfer work` as a job would."""
    words = [sys.executable, "-m", "simfer.pipeline.cli", "work", str(folder), "--workers", "2", "--idle", "30s"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def counted(folder: Path) -> list[str]:
    """Return what the simulator itself has written down, a line for each run."""
    file = folder / "counted.txt"
    return file.read_text().splitlines() if file.exists() else []


def test_workers_of_a_folder_are_killed_and_ended_and_no_row_is_lost(tmp_path: Path) -> None:
    target, spool = f"{shutil.copy(PLAIN, tmp_path)}:counted", tmp_path / "spool"
    workers = [start(spool)]

    def kill() -> None:
        while len(counted(tmp_path)) < 40:
            time.sleep(0.01)
        workers[0].kill()
        workers.append(start(spool))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    settings = {"simulator": target, "num_simulations": 200, "engine": f"spool:{spool}"}
    there = simulate(tmp_path / "there", "counted", **settings).to_xarray()
    killer.join(30)
    here = simulate(tmp_path / "here", "line", num_simulations=200).to_xarray()
    assert (there["status"].values == Status.OK).all() and np.array_equal(there["y"].values, here["y"].values)
    workers[1].send_signal(signal.SIGTERM)
    said = [worker.communicate(timeout=30)[0].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 143], said
    close_all()
    assert not any(file for name in (TASKS, "claimed", "answers", DRIVERS) for file in (spool / name).iterdir())
    killed, *others = (spool / WORKERS).iterdir()
    assert not others and killed.name.rsplit("-", 2)[1] == str(workers[0].pid)


def test_tasks_of_a_driver_that_is_gone_are_not_run(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    work(spool, 1, 0.0, lambda text: None)
    gone = Heartbeat(spool / DRIVERS)
    gone.end()
    write(spool / TASKS / f"{gone.name}.000000000", b"not to be read")
    said: list[str] = []
    assert work(spool, 1, 0.3, said.append) == 0 and "1 slots" in said[0]
    assert not list((spool / TASKS).iterdir()) and not list((spool / WORKERS).iterdir())


def test_a_worker_of_another_machine_is_known_by_its_touch(tmp_path: Path) -> None:
    own = Heartbeat(tmp_path)
    other = tmp_path / "node7-123-abcdef"
    other.write_text("4")
    assert own.is_alive(other) and own.is_alive(own.file)
    past = time.time() - 120
    os.utime(other, (past, past))
    assert not own.is_alive(other) and not own.is_alive(tmp_path / "node8-123-abcdef")
    own.end()
    assert not own.file.exists()


def test_a_folder_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    with pytest.raises(StageError, match=r"others may write into it.*chmod 700"):
        engine_of(f"spool:{spool}")
