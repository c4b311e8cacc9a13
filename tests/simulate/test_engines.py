"""Rows that others run: the same as those that run here, whatever becomes of workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from simfer.pipeline.chain import ConfigError, StageError, UserCodeError
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Layout, Output, Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.settings.engines import full_name
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.children.supervisor import Wanted
from simfer.stages.simulate.engines import bundle, elsewhere, engine_of, outgoing, task, versions
from simfer.stages.simulate.engines.scratch import scratch
from simfer.stages.simulate.rows import fill
from tests import helpers
from tests.simulate.test_functions import PLAIN, rows_of, simulate

POOLS = """
    from concurrent.futures import Future, ThreadPoolExecutor

    def threads():
        return ThreadPoolExecutor(2)

    def one():
        return ThreadPoolExecutor(1)

    class Losing(ThreadPoolExecutor):
        lost = 0  # of the next tasks

        def submit(self, function, *arguments):
            if self.lost:
                self.lost -= 1
                future = Future()
                future.set_exception(RuntimeError("the worker went down"))
                return future
            return super().submit(function, *arguments)

    def losing():
        pool = Losing(2)
        pool.slots = 3
        return pool

    def nothing():
        return 3
"""
UNSOUND = {"num_simulations": 24, "max_failed": 1.0}
MODEL = """from helper import double

def simulate(a):
    with open("data.txt") as file:
        return {"y": double(a) * float(file.read())}
"""


pytestmark = pytest.mark.usefixtures("closed_engines")


def pool(folder: Path, name: str) -> str:
    """Write executors that users might have, and return one's name as an engine."""
    file = folder / "pools.py"
    file.write_text(textwrap.dedent(POOLS))
    return f"{file}:{name}"


def alike(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Say whether two ensembles are the same, bit by bit."""
    names = ["y", "slope", "intercept", "status"]
    return all(np.array_equal(one[name].values, other[name].values, equal_nan=True) for name in names)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the rows as they are on this machine; half of them fail, each in its way."""
    folder = tmp_path_factory.mktemp("here")
    simulate(folder, "unsound", **UNSOUND)
    return folder


def test_an_executor_gives_the_rows_that_run_here(tmp_path: Path, here: Path) -> None:
    there = simulate(tmp_path / "there", "unsound", **UNSOUND, engine=pool(tmp_path, "threads"))
    assert alike(Simulations.load(here).to_xarray(), there.to_xarray())
    told = [rows_of(at / "failures.csv") for at in (here, tmp_path / "there")]
    assert told[0] and [[row[name] for name in ("row", "status", "last_lines")] for row in told[0]] == [
        [row[name] for name in ("row", "status", "last_lines")] for row in told[1]
    ]


def test_sources_are_sent_where_a_worker_does_not_see_them(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (model / "data.txt").write_text("3")
    text = (
        "from helper import double\n\ndef simulate(a):\n    return {'y': double(a) * float(open('data.txt').read())}\n"
    )
    (model / "model.py").write_text(text)
    files = [model / name for name in ("model.py", "helper.py", "data.txt")]
    sources = bundle.sources_of(files)
    assert bundle.place(sources, b"") == str(model)
    sent = bundle.packed(sources)
    shutil.rmtree(model)
    bundle._are_at.cache_clear()
    assert bundle.place(sources, b"") is None
    spec = {
        "kind": "python",
        "target": f"{model}/model.py:simulate",
        "options": {},
        "dims": {},
        "vectors": {},
        "who": "it",
    }
    root = bundle.place(sources, sent)
    assert root is not None
    where = bundle.relocated(spec, sources, root)["target"]
    assert where != spec["target"] and Path(where.rpartition(":")[0]).is_file()
    head = {"spec": spec, "sources": list(sources), "versions": versions.versions("python"), "outputs": None,
            "keep": False, "taken": [], "key": "one", "slow": True, "timeout": None, "most": None}  # fmt: skip
    row = {"row": 0, "parameters": {"a": 2.0}, "seed": None}
    answer = task.run_task(task.encode(head) + task.encode(row))
    _, (done,) = task.read_answer(answer)
    assert done.status == Status.OK and done.y.tolist() == [12.0]
    shutil.rmtree(root)
    head_again, _ = task.read_answer(task.run_task(task.encode(head) + task.encode(row)))
    assert head_again["lacks"] == sources.digest


def test_files_that_were_changed_on_their_way_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("one")
    sources = bundle.sources_of([file])
    file.write_text("two")
    bundle._are_at.cache_clear()
    with pytest.raises(StageError, match=r"model\.py: what was sent is not what its digest says"):
        bundle.place(sources, bundle.packed(sources))


def test_rows_that_are_lost_go_elsewhere(tmp_path: Path, here: Path) -> None:
    name = pool(tmp_path, "losing")
    executor = _losing(name, 2)
    there = simulate(tmp_path / "there", "unsound", **UNSOUND, engine=name)
    assert executor.lost == 0 and alike(Simulations.load(here).to_xarray(), there.to_xarray())


def test_rows_that_are_lost_three_times_stay_pending_and_all_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pool(tmp_path, "losing")
    executor = _losing(name, 0)
    submit = executor.submit

    def lose_row_7(function: Any, sent: bytes, sources: bytes) -> Any:
        if b'"row":7,' in sent:
            executor.lost = 1
        return submit(function, sent, sources)

    monkeypatch.setattr(executor, "submit", lose_row_7)
    target = f"{shutil.copy(PLAIN, tmp_path)}:counted"
    with pytest.raises(StageError, match=r"1 rows \(7\) were lost 3 times.*stay pending.*the worker went down"):
        simulate(tmp_path / "there", "counted", simulator=target, num_simulations=32, engine=name)
    there = simulate(tmp_path / "there", "counted", simulator=target, num_simulations=32).to_xarray()
    assert (there["status"].values == Status.OK).all()
    assert len((tmp_path / "counted.txt").read_text().splitlines()) == 32 + 2  # and two first runs, none twice


def _losing(name: str, lost: int) -> Any:
    engine: Any = engine_of(name)
    engine._executor.lost = lost
    return engine._executor


def test_a_worker_with_other_versions_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "versions", lambda kind: versions.versions(kind) | {"numpy": "1.0"})
    with pytest.raises(StageError, match=r"would give other rows, since it has numpy 1\.0 \(here "):
        simulate(tmp_path / "there", "line", engine=pool(tmp_path, "threads"))


def test_a_file_that_cannot_be_imported_there_says_where_and_why(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("import nowhere\n\ndef simulate(slope, intercept):\n    return {'y': slope}\n")
    with pytest.raises(UserCodeError, match=r"(?s)on .*No module named 'nowhere'"):
        simulate(tmp_path / "there", "line", simulator=f"{file}:simulate", engine=pool(tmp_path, "threads"))


def test_a_slow_row_whose_answer_got_lost_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "SLOW", 0.0)
    target = f"{shutil.copy(PLAIN, tmp_path)}:counted"
    spec = {"kind": "python", "target": target, "options": {}, "dims": {}, "vectors": {}, "who": "it"}
    head = {"spec": spec, "sources": ["", {}, ""], "versions": versions.versions("python"), "outputs": None,
            "keep": False, "taken": [], "key": "one", "slow": True, "timeout": None, "most": None}  # fmt: skip
    row = {"row": 3, "parameters": {"slope": 2.0, "intercept": 0.0}, "seed": None}
    message = task.encode(head) + task.encode(row)
    first, again = task.read_answer(task.run_task(message)), task.read_answer(task.run_task(message))
    assert first[1][0].y.tolist() == again[1][0].y.tolist() and again[0]["rows"] == 0
    assert len((tmp_path / "counted.txt").read_text().splitlines()) == 1
    names = [task.identity("one", Wanted(number, row["parameters"], None)) for number in (3, 4)]
    task.run_task(task.encode(head | {"taken": names[:1]}) + task.encode(row | {"row": 4}))
    assert [file.name for file in (scratch() / "ended").iterdir()] == names[1:]


def test_blocks_are_some_seconds_of_work(tmp_path: Path) -> None:
    class Slots:
        words, number = "slots", 4

        def slots(self) -> int:
            return self.number

    slots = Slots()
    made: Any = elsewhere.Elsewhere(slots, {"kind": "python"}, [], None, None)  # type: ignore[arg-type]
    assert made.block(10_000, 9) == 1  # until it is known how long a row takes
    made.learn({"rows": 10, "seconds": 0.1})
    assert made.block(100_000, 9) == 2000  # 20 s
    assert made.block(1600, 9) == 200 and made.block(300, 9) == 100  # smaller ones at the end, but no crumbs
    slots.number = 6400
    assert made.block(10**9, 9) == 6000  # 60 s, or a scheduler would have 320 tasks a second
    made._seconds = 3600.0
    assert made.block(10_000, 9) == 1
    made._seconds = 1e-5
    assert made.block(10**9, 10**6) == 1  # an answer of 8 MB


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("local", "local"),
        ("dask", "dask"),
        ("dask:tcp://node7:8786", "dask:tcp://node7:8786"),
        ("dask:node7:8786", "dask:tcp://node7:8786"),
        ("dask:run/s.json", "dask:/project/run/s.json"),
        ("spool:blocks", "spool:/project/blocks"),
    ],
)
def test_an_engine_is_named_by_what_it_is_and_where(name: str, full: str) -> None:
    assert full_name(name, Path("/project")) == full


@pytest.mark.parametrize("name", ["dsk:tcp://node7:8786", "slurm", "engine.py", "spool"])
def test_what_is_no_engine_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=r'expected "local", "dask:ADDRESS"'):
        full_name(name, Path("/project"))


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "returned int; expected an executor"), ("nowhere", "defines no")]
)
def test_an_executor_that_is_none_is_a_mistake(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"simulate.engine: .*{said}"):
        simulate(tmp_path / "there", "line", engine=pool(tmp_path, name))


def test_an_engine_without_a_scheduler_file_says_how_there_is_one(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(StageError, match=r"no scheduler file .*s\.json: `dask scheduler --scheduler-file"):
        simulate(tmp_path / "there", "line", engine=f"dask:{tmp_path}/s.json")


def test_rows_of_a_simulator_in_jax_are_the_same_elsewhere(tmp_path: Path) -> None:
    engine, points = pool(tmp_path, "one"), np.random.default_rng(1).normal(size=(130, 2))

    def rows(name: str, **settings: Any) -> xr.Dataset:
        checked = helpers.problem(helpers.line(simulate={"num_simulations": 130} | settings))
        (tmp_path / name).mkdir()
        space = Space(checked.parameters)
        filled = fill(tmp_path / name, checked.simulate, space, 130, lambda a, b: points[a:b], Silent())
        return filled.simulations.to_xarray()

    assert alike(rows("here"), rows("there", engine=engine))


def test_failed_runs_of_a_program_bring_their_folders_home(tmp_path: Path) -> None:
    program = tmp_path / "model.sh"
    program.write_text('#!/bin/sh\necho "$1" > out.txt\ncase "$1" in -[1-9]*) echo too steep >&2; exit 3;; esac\n')
    program.chmod(0o700)
    command, outputs = [str(program), "{{ slope }}", "{{ intercept }}"], {"y": {"file": "out.txt", "pattern": "(.+)"}}
    settings = {"simulator": None, "options": None, "num_simulations": 16, "engine": pool(tmp_path, "threads")}
    checked = helpers.problem(helpers.line(simulate=settings | {"program": {"command": command, "outputs": outputs}}))
    points, space = np.random.default_rng(3).normal(size=(16, 2)), Space(checked.parameters)
    (tmp_path / "there").mkdir()
    backend = build_backend(checked.simulate, space)
    backend.know(Layout({"y": Output((), {})}))
    filled = fill(tmp_path / "there", checked.simulate, space, 16, lambda a, b: points[a:b], Silent(), backend=backend)
    rows = filled.simulations.to_xarray()
    failed = rows["slope"].values <= -1.0
    assert failed.any() and np.array_equal(rows["status"].values == Status.EXIT, failed)
    assert np.array_equal(rows["y"].values[~failed], rows["slope"].values[~failed])
    kept = {row["row"]: tmp_path / "there" / row["folder"] for row in rows_of(tmp_path / "there" / "failures.csv")}
    assert len(kept) == failed.sum()
    assert all((folder / "stderr").read_text() == "too steep\n" for folder in kept.values())
    assert not any((scratch() / "runs").iterdir())


def test_workers_that_have_all_left_are_waited_for_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "_DESERTED", 0.0)
    name, said = pool(tmp_path, "threads"), list[str]()
    engine: Any = engine_of(name)
    slots = iter([2, 2, 0, 0, 0, 0])
    monkeypatch.setattr(engine, "slots", lambda: next(slots, 2))
    engine.note = said.append
    made = elsewhere.Elsewhere(engine, {"kind": "python"}, [], None, None)
    for _ in range(8):
        made.refuse_gone()
    assert said == ["  pools.py:threads: no worker is left; waiting for one (start some)"]


def test_the_processes_of_a_pool_end_with_their_driver(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from simfer.stages.simulate.engines.wanted import is_wanted\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'))\n"
        "    assert pool.submit(is_wanted).result() is None\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # Its end of the pipe is read until all have closed theirs: those that it left behind too.
    command, nowhere = [sys.executable, str(script)], subprocess.DEVNULL
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=nowhere, text=True, timeout=60)
    assert done.returncode == -9 and done.stdout.strip().isdigit()
