"""What it costs to have rows elsewhere: Dask with two workers beside two children here, and tasks of no-op rows alone.

python -m benchmarks.engines [MINUTES]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from simfer.pipeline import runtime

FUNCTION = """import time


def noop(a):
    return {'y': a}


def rests(a):
    time.sleep(0.01)
    return {'y': a}
"""
_MANY = 40_000
_LOOPBACK = "--host", "127.0.0.1", "--no-dashboard"


@contextmanager
def cluster(folder: Path, num: int) -> Iterator[tuple[str, int]]:
    """Start a scheduler and workers; yield the engine's name, and the scheduler's process."""
    file, processes = folder / "s.json", list[subprocess.Popen[bytes]]()

    def start(*words: str) -> int:
        with (folder / "cluster.log").open("ab") as log:
            command = [sys.executable, "-m", *words, *_LOOPBACK]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return processes[-1].pid

    try:
        scheduler = start("distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", str(file))
        while not file.exists():
            time.sleep(0.05)
        for _ in range(num):
            more = ["--nthreads", "1", "--memory-limit", "0", "--no-nanny"]
            start("distributed.cli.dask_worker", "--scheduler-file", str(file), *more)
        yield f"dask:{file}", scheduler
    finally:
        from simfer.stages.simulate.engines import close_all

        close_all()
        for process in processes:
            process.kill()
            process.wait()


def rate(folder: Path, name: str, num: int, engine: str | None) -> float:
    """Return rows in a second on two slots, the first of them left out: they start the children."""
    from pydantic import TypeAdapter

    from simfer.stages.model.space import Space
    from simfer.stages.settings import AnyPrior, Simulate
    from simfer.stages.simulate.backends import build_backend
    from simfer.stages.simulate.backends.contract import Block

    prior: Any = TypeAdapter(AnyPrior).validate_python({"dist": "Normal"})
    given = {"simulator": f"model.py:{name}", "num_simulations": num, "workers": 2}
    given |= {"engine": engine} if engine else {}
    backend: Any = build_backend(Simulate.model_validate(given, context={"folder": folder}), Space({"a": prior}))
    z = np.random.default_rng(0).normal(size=(num, 1))
    try:
        backend.outputs()
        backend.solve(Block(z[:200], np.arange(200), "warm", 0, None), lambda rows, failed: None)
        begun = time.perf_counter()
        backend.solve(Block(z, np.arange(num), "timed", 0, None), lambda rows, failed: None)
        return num / (time.perf_counter() - begun)
    finally:
        backend.close()


def single_tasks(folder: Path, engine: str, scheduler: int, seconds: float) -> None:
    """Send no-op rows one by one, each as a task, and print what that takes of whom."""
    import psutil

    from simfer.stages.simulate.engines import engine_of, outgoing

    cluster, sizes = engine_of(engine), list[int]()
    assert cluster is not None
    submit, block = cluster.submit, outgoing.Outgoing.block

    def counted(task: bytes, sources: bytes) -> Any:
        future = submit(task, sources)
        sizes.append(len(task))
        return future

    outgoing.Outgoing.block = lambda self, num, size: 1  # type: ignore[method-assign]
    cluster.submit = counted  # type: ignore[method-assign]
    process = psutil.Process(scheduler)
    try:
        found = rate(folder, "noop", 500, engine)
        num, before, own = int(found * seconds), process.cpu_times(), time.process_time()
        sizes.clear()
        found = rate(folder, "noop", num, engine)
        after, count = process.cpu_times(), len(sizes)
    finally:
        outgoing.Outgoing.block, cluster.submit = block, submit  # type: ignore[method-assign]
    spent = after.user + after.system - before.user - before.system
    print(f"{count:,} tasks of one no-op row: {found:,.0f}/s; scheduler {1e3 * spent / count:.2f} ms and driver "
          f"{1e3 * (time.process_time() - own) / count:.2f} ms of processor each, {np.mean(sizes):,.0f} bytes out, "
          f"scheduler's memory {process.memory_info().rss / 1e6:.0f} MB")  # fmt: skip


def main(minutes: float) -> None:
    """Print rates of rows of 10 ms here and through Dask in turns, and what a task costs."""
    runtime.prepare()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.py").write_text(FUNCTION)
        with cluster(folder, 2) as (engine, scheduler):
            rows, here, there = 2000, list[float](), list[float]()
            for _ in range(5):
                here.append(rate(folder, "rests", rows, None))
                there.append(rate(folder, "rests", rows, engine))
                print(f"rows of 10 ms, two slots: here {here[-1]:.1f}/s, Dask {there[-1]:.1f}/s")
            ratios = [b / a for a, b in zip(here, there, strict=True)]
            print(f"Dask / here: median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
            for _ in range(3):
                here_, begun = rate(folder, "noop", _MANY, None), time.process_time()
                there_ = rate(folder, "noop", _MANY, engine)
                each = 1e6 * (time.process_time() - begun) / _MANY
                print(f"no-op rows in blocks: here {here_:,.0f}/s, Dask {there_:,.0f}/s, driver {each:.0f} us each")
            single_tasks(folder, engine, scheduler, 60 * minutes)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
