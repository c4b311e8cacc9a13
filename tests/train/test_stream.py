"""Rows that do not fit into memory are learned from disk, piece by piece, and memory stays flat."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.artifacts.arrays import put_coordinates
from simfer.stages.artifacts.training_set import DATASET, TEST, TrainingSet
from simfer.stages.dataset.stage import _folds
from simfer.stages.dataset.writer import Writer
from simfer.stages.emulator.networks import build_networks
from simfer.stages.errors import StageError
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.settings import Dataset, Train, TrainConfig
from simfer.stages.train.descent import descend
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit
from simfer.stages.train.scaling import prepare
from simfer.stages.train.stream import Stream
from tests import helpers
from tests.train.test_stage import SMALL, curve


def streamed(num: int, piece: int, memory: int) -> tuple[Stream, Rows, list[int]]:
    rows, fold = curve(num)
    held = Rows(np.asarray(rows.x), np.asarray(rows.y))
    fold = np.where(np.arange(num) % 7 == 3, TEST, fold)
    read: list[int] = []

    def part(start: int, stop: int) -> Rows:
        read.append(stop - start)
        return held.pick(slice(start, stop))

    return Stream(part, fold, piece, memory), held, read


def test_windows_go_through_all_rows_and_show_no_member_its_own_fold() -> None:
    stream, held, read = streamed(1000, 64, 64 * 4 * 8 * 8)
    feed, number = stream.feed(np.array([1, 2])), {tuple(x): i for i, x in enumerate(held.x.tolist())}
    assert feed.window is not None
    for member, own in enumerate((1, 2)):
        stops = [number[tuple(x)] for x in np.asarray(feed.rows.x)[feed.stops[member]].tolist()]
        assert set(stream.fold[stops]) == {own}
    read.clear()
    seen: set[int] = set()
    for look in range(16):  # a window is one of 16 pieces
        rows, trains = feed.window(look)
        assert rows.x.shape == (64, 2)
        here = np.array([number[tuple(x)] for x in rows.x.tolist()])
        for member, own in enumerate((1, 2)):
            assert not {TEST, own} & set(stream.fold[here[trains[member]]])
            seen |= set(here[trains[member]].tolist())
    assert seen == set(np.flatnonzero(stream.fold != TEST).tolist())
    assert max(read) <= 64


def test_a_window_is_the_same_whenever_it_is_asked_for() -> None:
    stream, _, _ = streamed(1000, 64, 64 * 4 * 8 * 8)
    one, other = stream.feed(np.array([1])), stream.feed(np.array([1]))
    assert one.window is not None and other.window is not None
    first = [one.window(look)[0].x for look in range(6)]
    assert np.array_equal(first[5], other.window(5)[0].x)
    assert not np.array_equal(first[0], first[1])


def test_a_stream_is_learned_from_as_rows_in_memory_are() -> None:
    stream, held, _ = streamed(2000, 64, 2000 * 4 * 8)
    settings = Train(**(SMALL | {"steps": 1000, "learning_rate": 1e-2, "finish_steps": 50}))
    history = fit(settings, stream, stream.fold, {}, Silent()).history
    assert history is not None and history.steps[-1] == 1000  # no finish
    seen = stream.fold != TEST
    whole = fit(settings, held.pick(seen), stream.fold[seen], {}, Silent()).history
    assert whole is not None
    before_finish = whole.validation[whole.steps <= 1000].min(axis=0)
    assert (history.validation.min(axis=0) < 3.0 * before_finish).all()


def test_a_window_has_the_networks_precision() -> None:
    stream, _, _ = streamed(400, 64, 64 * 4 * 8 * 8)
    seen = set()

    def loss(network: Any, rows: Rows, robust: Any) -> Any:
        seen.add((str(rows.x.dtype), str(rows.y.dtype)))
        return jnp.mean((jax.vmap(network)(rows.x) - rows.y) ** 2)

    settings = Train(**(SMALL | {"dtype": "float32", "steps": 100})).descending(64)
    keys = jax.random.split(jax.random.key(0), 2)
    networks = build_networks("mlp", SMALL["options"], stream.sizes, keys, "float32", {})
    descend(settings, networks, loss, stream.feed(np.array([1, 2])), keys, Silent(), "train")
    assert seen == {("float32", "float32")}


def test_a_share_of_the_rows_is_streamed_without_its_test_rows() -> None:
    dataset = TrainingSet.load(helpers.line_run(until="dataset").folders["dataset"], 0.25)
    last = np.flatnonzero(dataset.points()[1] != TEST)[-1]
    whole, streamed = (prepare(TrainConfig(train=Train(memory=n)), dataset) for n in (10**9, 4000))
    assert isinstance(streamed.rows, Stream) and isinstance(whole.rows, Rows)
    assert len(streamed.fold) == last + 1 < 51
    assert len(whole.rows.x) == (streamed.fold != TEST).sum()
    feed = streamed.rows.feed(np.array([1]))
    assert feed.window is not None
    for look in range(9):
        rows, trains = feed.window(look)
        trained = {tuple(x) for x in np.asarray(rows.x)[trains[0]].tolist()}
        assert trained <= {tuple(x) for x in np.asarray(streamed.rows.read(0, last + 1).x).tolist()}


def test_a_window_without_a_row_to_train_on_is_refused() -> None:
    stream, _, _ = streamed(1000, 1, 64)
    window = stream.feed(np.array([1])).window
    assert window is not None
    with pytest.raises(StageError, match=r"train\.memory: got 64 bytes"):
        for look in range(20):
            window(look)


def test_a_run_whose_rows_do_not_fit_says_so_and_passes_on_an_emulator() -> None:
    result = helpers.line_run("train.memory=10000", "train.finish_steps=0", "train.steps=800", until="train")
    assert result.summaries["train"]["tables"]["held-out error"][0]["unexplained_variance"] < 1e-2


def held(folder: Path, num: int) -> int:
    """Return the most bytes that a process had in arrays while it wrote rows of 0.5 kB and went through them twice."""
    space = Space(helpers.problem(helpers.line()).parameters)
    layout = Layout({"y": Output(("x",), {"x": np.arange(64.0)})})
    folder.mkdir()
    tracemalloc.start()
    writer = Writer(folder / DATASET, layout, space, Dataset(), num)
    put_coordinates(writer.group, layout.outputs, {})
    for at in range(0, num, 128):
        z = np.random.default_rng(at).normal(size=(128, 2))
        writer.append(z, z[:, :1] + np.sin(z[:, 1:] + np.linspace(0, 3, 64)), _folds(Dataset(), at + np.arange(128)))
    writer.close()
    stream = prepare(TrainConfig(train=Train(memory=2**20)), TrainingSet.load(folder)).rows
    assert isinstance(stream, Stream)
    window = stream.feed(np.array([1, 2])).window
    assert window is not None
    length = len(window(0)[0].x)
    for look in range(1, 2 * num // length):
        window(look)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_rows_four_times_as_many_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simfer.stages.dataset.writer._BLOCK", 128)  # rows that lie together on disk
    held(tmp_path / "first", 4096)  # what is imported and kept at the first time
    few, many = held(tmp_path / "few", 4096), held(tmp_path / "many", 16384)
    assert many - few < 132 * (16384 - 4096)  # places and folds: a quarter of what the rows themselves take


LARGE = """
import resource, sys
from simfer.pipeline import runtime
runtime.prepare()
from pathlib import Path
import numpy as np
from simfer.stages.train import stage as train
from simfer.stages.model.outputs import Layout
from simfer.stages.artifacts.arrays import put_coordinates
from simfer.stages.dataset.stage import _folds
from simfer.stages.dataset.writer import Writer
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.settings import Dataset
from simfer.stages.settings import Train
from simfer.stages.settings import TrainConfig
from simfer.stages.model.outputs import Output
from tests import helpers

folder, num, memory = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
problem = helpers.problem(helpers.line())
space, layout = Space(problem.parameters), Layout({"y": Output(("x",), {"x": np.arange(64.0)}, "")})
(folder / "in").mkdir(parents=True)
writer = Writer(folder / "in" / "dataset.zarr", layout, space, Dataset(), num)
put_coordinates(writer.group, layout.outputs, {})
rng, grid = np.random.default_rng(0), np.linspace(0, 3, 64)
for at in range(0, num, 8192):
    z = rng.normal(size=(min(8192, num - at), 2))
    writer.append(z, z[:, :1] + np.sin(z[:, 1:] + grid), _folds(Dataset(), np.arange(at, at + len(z))))
writer.close()
small = {"architecture": "mlp", "options": {"width": 8, "depth": 1}, "ensemble_size": 2, "steps": 800}
config = TrainConfig(train=Train(**small, memory=memory))
(folder / "out").mkdir()
train.run(config, {"dataset": [folder / "in"]}, folder / "out", Silent())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(folder: Path, num: int, memory: str) -> int:
    """Return the most MB that a training on 0.5 kB rows held."""
    command = [sys.executable, "-c", LARGE, str(folder), str(num), memory]
    done = subprocess.run(command, cwd=helpers.ROOT, timeout=900, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_memory_stays_flat_on_rows_four_times_the_memory_allowed(tmp_path: Path) -> None:
    fits = peak(tmp_path / "fits", 30_000, "32 MB")  # 16 MB of rows
    assert peak(tmp_path / "streams", 240_000, "32 MB") < fits + 64  # 128 MB
