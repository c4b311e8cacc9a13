"""A cluster of Dask's whose processes are killed at random, while a config is simulated on it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from simfer.stages.simulate.children.frames import Reader

CONFIG = """
[parameters]
a = {{ dist = "Normal" }}
b = {{ dist = "Normal", loc = 1.0 }}

[simulate]
simulator = "model.py:simulate"
num_simulations = {num}
seed = {seed}

[observation]
file = "observed.csv"

[noise.y]
dist = "Normal"
scale = 0.1
"""
# It counts for itself: a line when a row begins, one when it ends, each with the time.
MODEL = """
import os
import time


def say(what, a, b):
    with open("counted.txt", "a") as file:
        file.write(f"{what} {a!r} {b!r} {time.time()!r}\\n")


def simulate(a, b):
    say("begins", a, b)
    time.sleep(float(os.environ.get("SECONDS", "1.1")))
    say("ends", a, b)
    return {"y": a * b, "sum": a + b}
"""
WHO = "child", "worker", "driver", "scheduler"
_MEDIANS = "0.0 1.0"  # where a first run is made twice, on purpose


class Cluster:
    """A scheduler, two workers and a driver, each begun again when it is gone."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.kills = Counter[str]()
        self.kept: dict[tuple[float, ...], float] = {}  # when a row's outputs were first seen in the driver's journal
        self.environment = os.environ | {"SIMFER_SCRATCH": str(folder / "scratch"), "PYTHONWARNINGS": "ignore"}
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.driver: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        """The scheduler file."""
        return self.folder / "s.json"

    def simulate(self, store: str, num_kills: int) -> None:
        """Bring a store to its end, with so many kills on the way."""
        to_come, seen, due = num_kills, -1, 0.0
        while True:
            self._stand_up(store)
            assert self.driver is not None
            if (code := self.driver.poll()) is not None:
                if code == 0:
                    return
                assert code in (3, -signal.SIGKILL), (self.folder / "driver.log").read_text()[-3000:]
                self.driver = None
                continue
            self._look(store)
            begun = len(self._counted())
            if begun > seen and not due:  # something has gone on since the last kill
                due = time.monotonic() + self.random.uniform(0.1, 1.5)
            if due and time.monotonic() > due and to_come:
                to_come -= self._kill(WHO[to_come - 1] if num_kills < 10 else self._next())
                seen, due = len(self._counted()), 0.0
            time.sleep(0.02)

    def _counted(self) -> list[str]:
        file = self.folder / "counted.txt"
        return file.read_text().splitlines() if file.exists() else []

    def _look(self, store: str) -> None:
        """See which rows the driver has: from then on none of them may begin again."""
        for file in (self.folder / store).glob("simulate/*/journal/*"):
            reader = Reader()
            try:
                reader.feed(file.read_bytes())
            except FileNotFoundError:  # its rows are in the store by now
                continue
            for frame in reader.frames():
                assert frame.numbers is not None
                self.kept.setdefault(tuple(frame.numbers.tolist()), time.time())

    def _stand_up(self, store: str) -> None:
        """Begin again what is gone."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.file.unlink(missing_ok=True)
            more = ["--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)]
            self.scheduler = self._start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", *more)
            while not self.file.exists():
                assert self.scheduler.poll() is None
                time.sleep(0.02)
        self.workers = [each for each in self.workers if each.poll() is None]  # without a scheduler one ends by itself
        while len(self.workers) < 2:
            more = ["--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
            worker = self._start("distributed.cli.dask_worker", "--scheduler-file", str(self.file), *more)
            self.workers.append(worker)
        if self.driver is None:
            words = ["simulate", "c.toml", "--store", store, "--engine", f"dask:{self.file}", "--quiet"]
            self.driver = self._start("simfer.pipeline.cli", *words)

    def _start(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        name = "driver" if module.startswith("simfer") else "cluster"
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", module, *words]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=self.environment)

    def _kill(self, who: str) -> bool:
        """Kill one of a kind, if there is one."""
        try:
            victim = self._victim(who)
            victim.send_signal(signal.SIGKILL)
        except (psutil.NoSuchProcess, IndexError):
            return False
        self.kills[who] += 1
        for process in (self.driver, self.scheduler, *self.workers):
            if process is not None and process.pid == victim.pid:
                process.wait()
        self.workers = [each for each in self.workers if each.pid != victim.pid]
        return True

    def _next(self) -> str:
        """Choose who is next: a driver takes ten times as long to begin as a child."""
        return self.random.choices(WHO, (6, 6, 1, 1))[0]

    def _victim(self, who: str) -> psutil.Process:
        assert self.driver and self.scheduler
        if who == "child":
            children = [child for each in self.workers for child in psutil.Process(each.pid).children()]
            return self.random.choice(children)
        pid = {"driver": self.driver, "scheduler": self.scheduler, "worker": self.random.choice(self.workers)}[who].pid
        return psutil.Process(pid)

    def run_twice(self) -> tuple[list[str], int, list[float]]:
        """Return the rows that began again although the driver had them; how many did since it had not; all delays.

        A row that ends is on its way for a moment, from a child through a worker and the scheduler to the journal. What
        is killed meanwhile takes it along.
        """
        ends, begins = dict[str, float](), dict[str, float]()  # the first end, the last beginning
        for line in self._counted():
            what, a, b, at = line.split()
            if what == "ends":
                ends.setdefault(f"{a} {b}", float(at))
            else:
                begins[f"{a} {b}"] = float(at)
        again, on_the_way, delays = list[str](), 0, list[float]()
        for row, ended in ends.items():
            a, b = map(float, row.split())
            kept = self.kept.get((a * b, a + b))
            if kept is not None:
                delays.append(kept - ended)
            if kept is not None and begins[row] > kept:
                again.append(f"{row}: kept {kept - ended:.3f} s after its end, begun again {begins[row] - ended:.3f} s")
            elif row != _MEDIANS and begins[row] > ended:
                on_the_way += 1
        return again, on_the_way, sorted(delays)

    def lost(self) -> Counter[str]:
        """Count how often each row began and did not end."""
        found = Counter[str]()
        for line in self._counted():
            what, a, b, _ = line.split()
            found[f"{a} {b}"] += 1 if what == "begins" else -1
        return found

    def end(self) -> None:
        """End all of it."""
        for process in (self.driver, *self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()
