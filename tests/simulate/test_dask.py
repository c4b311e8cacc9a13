"""Rows on a cluster of Dask's, of processes on this machine: as they are here, when workers die, when it is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from simfer.pipeline.chain import StageError
from simfer.stages.model.outputs import Status
from simfer.stages.simulate.engines import close_all
from simfer.stages.simulate.engines import dask as engine
from tests.simulate.test_functions import PLAIN, simulate

distributed = pytest.importorskip("distributed")


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder = folder / "s.json", folder
        address = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._start("scheduler", *address, "--scheduler-file", str(self.file))
        self.workers: list[subprocess.Popen[bytes]] = []

    def begin(self, num: int) -> None:
        """Start workers."""
        for _ in range(num):
            more = ["--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
            self.workers.append(self._start("worker", "--scheduler-file", str(self.file), *more))

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
            environment = os.environ | {"SIMFER_SCRATCH": str(self.folder)}
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=environment)

    def end(self) -> None:
        """End all of it."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    deadline = time.monotonic() + 60
    while not made.file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    made.begin(2)
    yield made
    close_all()
    made.end()


def lines(file: Path) -> list[str]:
    """Return the lines of a file that may not be there yet."""
    return file.read_text().splitlines() if file.exists() else []


def test_rows_are_those_that_run_here(tmp_path: Path, cluster: Cluster) -> None:
    there = simulate(tmp_path / "there", "random", num_simulations=100, engine=f"dask:{cluster.file}").to_xarray()
    here = simulate(tmp_path / "here", "random", num_simulations=100).to_xarray()
    assert (here["status"].values == Status.OK).all()
    for name in ("y", "slope", "intercept", "status"):
        assert np.array_equal(here[name].values, there[name].values)


def test_what_was_fetched_is_let_go_though_its_answer_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler would have it computed again where the worker that keeps it dies."""
    monkeypatch.setattr(engine, "run_task", lambda task, sources: task)
    there = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
    with there as threads, closing(engine.Dask(threads.scheduler_address)) as dask:
        answers = [dask.submit(str(i).encode(), b"") for i in range(5)]
        assert [answer.result(30) for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]
        deadline = time.monotonic() + 10
        while threads.scheduler.tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not threads.scheduler.tasks


@pytest.mark.slow  # its twin is that of tests/campaign/test_cluster.py
def test_a_worker_that_is_killed_costs_no_row(tmp_path: Path, cluster: Cluster) -> None:
    target = f"{shutil.copy(PLAIN, tmp_path)}:counted"

    def kill() -> None:
        while len(lines(tmp_path / "counted.txt")) < 40:
            time.sleep(0.01)
        victim = cluster.workers.pop(0)
        victim.kill()
        victim.wait()
        cluster.begin(1)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    settings = {"simulator": target, "num_simulations": 240, "engine": f"dask:{cluster.file}"}
    there = simulate(tmp_path / "there", "counted", **settings).to_xarray()
    killer.join(10)
    assert (there["status"].values == Status.OK).all() and len(cluster.workers) == 2
    here = simulate(tmp_path / "here", "line", num_simulations=240).to_xarray()
    assert np.array_equal(here["y"].values, there["y"].values)
    assert not (tmp_path / "there" / "journal").exists()


def test_a_scheduler_that_is_gone_is_said_and_costs_no_row(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_AWAY", 1.0)
    target = f"{shutil.copy(PLAIN, tmp_path)}:counted"

    def kill() -> None:
        while len(list((tmp_path / "there").glob("journal/*"))) < 1:
            time.sleep(0.01)
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    settings = {"simulator": target, "num_simulations": 400, "engine": f"dask:{cluster.file}"}
    with pytest.raises(StageError, match=r"the scheduler of Dask .* is gone\. What is finished is kept"):
        simulate(tmp_path / "there", "counted", **settings)
    killer.join(10)
    close_all()
    cluster.end()
    there = simulate(tmp_path / "there", "counted", simulator=target, num_simulations=400).to_xarray()
    assert (there["status"].values == Status.OK).all()
