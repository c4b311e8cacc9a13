"""Rows on disk: a Zarr store that is filled shard by shard, and that a killed run leaves ready to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import zarr
from jaxtyping import Float, Int

from simfer.stages.artifacts.arrays import DERIVATIVES, array, consolidate, create_array, put_coordinates
from simfer.stages.artifacts.simulations import ATTEMPT, SIMULATIONS, Simulations
from simfer.stages.model.outputs import Layout, Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress, Task, until_the_first
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block
from simfer.stages.simulate.engines.contract import LostRows
from simfer.stages.spans import span
from simfer.stages.threads import map_in_threads

_SHARD_BYTES = 2**23  # a shard is one chunk of each output, all of them together about this large
_SHARDS = 16  # or more, if each has rows enough: what a kill loses is the two that are being solved


class Filled(NamedTuple):
    """A store that is full: its rows, and what it took to solve those that it lacked."""

    simulations: Simulations
    num_solved: int
    seconds: float
    occupancy: float | None  # of the steps done in lanes, the share that took a row on; None where there are no lanes


def fill(
    folder: Path,
    settings: Simulate,
    space: Space,
    num: int,
    design: Callable[[int, int], Float[np.ndarray, "rows size"]],
    progress: Progress,
    stream: str = "simulate-0",
    backend: Backend | None = None,
) -> Filled:
    """Solve the rows that the store in `folder` lacks, those that fail once more if asked to, and close it.

    `design(start, stop)` gives the whitened points of those rows; `stream` names what they are for, and keeps the
    random numbers of a stochastic simulator apart from those of other streams. A `backend` takes the place of the one
    that the settings ask for.
    """
    with closing(backend or build_backend(settings, space)) as source:
        return _fill(folder, source, num, design, progress, stream)


def _fill(
    folder: Path,
    backend: Backend,
    num: int,
    design: Callable[[int, int], Float[np.ndarray, "rows size"]],
    progress: Progress,
    stream: str,
) -> Filled:
    backend.ready(progress)
    begun, settings, space = time.perf_counter(), backend.settings, backend.space.with_units(backend.parameters)
    store = _open(folder / SIMULATIONS, space, backend, num, settings)
    shards = [range(a, min(a + store.shard, num)) for a in range(0, num, store.shard)]
    there = {shard: store.has(shard) for shard in shards}
    again = {shard: backend.again(store.timed_out(shard), stream, folder) for shard in shards if there[shard]}
    missing = [rows for shard in shards if len(rows := again.get(shard, np.asarray(shard)))]
    solved, effort = sum(map(len, missing)), np.zeros(2, int)
    if num_again := sum(map(len, again.values())):
        progress.note(f"  {num_again:,} rows timed out sooner than they would now, and are run again")

    lost = list[LostRows]()

    def work(rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, "2"]:
        """Solve and write a shard, or some of its rows; what it took is all that is kept until those before ended."""
        z = np.asarray(design(int(rows[0]), int(rows[-1]) + 1))[rows - rows[0]]
        block = Block(z, rows, stream, store.shard, folder)
        try:
            attempts = backend.solve(block, told.tell)
        except LostRows as error:  # the others go on; what of this shard came back is in its journal
            lost.append(error)
            return np.zeros(2, int)
        store.write(rows, z if attempts.z is None else attempts.z, attempts)
        backend.written(block)
        return attempts.effort

    waits = "compiling the simulator and solving its first rows" if backend.has_solver else "running the first rows"
    with (
        progress.task("simulate", total=num, unit="rows") as task,
        until_the_first(progress, waits) as came,
    ):
        task.advance(num - solved)
        told = _Told(task, came)
        for each in map_in_threads(work, missing, backend.blocks_at_once, backend.close):
            effort += each
    if lost:
        raise lost[0]
    backend.finished(folder)
    consolidate(store.path)
    occupancy = float(effort[0] / effort[1]) if effort[1] else None
    return Filled(Simulations.load(folder), solved, time.perf_counter() - begun, occupancy)


class _Told:
    """Adds up what backends tell of rows that are done, from whichever thread."""

    def __init__(self, task: Task, came: Callable[[], None]) -> None:
        self._task, self._came, self._failed, self._lock = task, came, 0, Lock()

    def tell(self, rows: int, failed: int) -> None:
        self._came()
        with self._lock:
            self._failed += failed
            self._task.advance(rows, failed=self._failed)


class _Store:
    """The Zarr store of one artifact while it is being filled: one chunk of each array is one shard."""

    def __init__(self, path: Path, outputs: Sequence[str], parameters: Sequence[str]) -> None:
        self.path = path
        group = zarr.open_group(path, mode="r+")
        self._outputs, self._parameters = list(outputs), list(parameters)
        self._counts = [ATTEMPT] if ATTEMPT in group else []
        self._slopes = [name + DERIVATIVES for name in outputs if name + DERIVATIVES in group]
        names = [*outputs, *self._slopes, *parameters, *self._counts, "z", "num_steps", "status"]
        self._arrays = {name: array(group, name) for name in names}  # opened once: it takes as long as a small write
        self.shard = int(self._arrays["status"].chunks[0])

    def has(self, shard: range) -> bool:
        """Say whether a shard is complete: every chunk there and as it was written, and a status for every row."""
        index = shard.start // self.shard
        if not all(self._chunk(name, index).is_file() for name in self._arrays):
            return False
        try:  # a chunk that has rotted does not have its checksum, and is solved again
            read = {name: np.asarray(each[shard.start : shard.stop]) for name, each in self._arrays.items()}
        except (OSError, ValueError, RuntimeError):
            return False
        return bool((read["status"] != Status.PENDING).all())

    def _chunk(self, name: str, index: int) -> Path:
        inner = ["0"] * (len(self._arrays[name].shape) - 1)
        return Path(self.path, name, "c", str(index), *inner)

    def timed_out(self, shard: range) -> Int[np.ndarray, " rows"]:
        """Return the rows of a shard that timed out."""
        return shard.start + np.flatnonzero(
            np.asarray(self._arrays["status"][shard.start : shard.stop]) == Status.TIMEOUT
        )

    def write(self, numbers: Int[np.ndarray, " rows"], z: np.ndarray, attempts: Attempts) -> None:
        """Write rows of one shard; their statuses last, after all that they speak for."""
        rows, stretch = attempts.rows, slice(int(numbers[0]), int(numbers[-1]) + 1)
        at = stretch if len(numbers) == stretch.stop - stretch.start else numbers  # a whole chunk is not read first
        values = {**rows.outputs, **dict(zip(self._parameters, rows.theta.T, strict=True)), "z": z}
        values |= {name: rows.derivatives[name.removesuffix(DERIVATIVES)] for name in self._slopes}
        values |= dict.fromkeys(self._counts, attempts.attempt)
        with span("write"):
            for name, value in (values | {"num_steps": rows.num_steps, "status": rows.status}).items():
                self._arrays[name].oindex[at] = value


def _open(path: Path, space: Space, backend: Backend, num: int, settings: Simulate) -> _Store:
    outputs = backend.outputs()
    header = {"space": space.to_json(), "layout": Layout(outputs).to_json(), "num_simulations": num}
    header |= {"stochastic": True} if backend.stochastic else {}
    header |= {"derivatives": True} if settings.derivatives else {}
    header |= {"finished": backend.num_finished} if backend.num_finished else {}
    header |= {"foreign": backend.num_foreign} if backend.num_foreign else {}
    # The group's attributes are written after its arrays: a store without them was never begun properly.
    if not path.exists() or not _is_begun(path, header):
        _create(path, space, backend, num, header, settings)
    # Written at every opening: a coordinate that was lost with its checksum is there again.
    put_coordinates(zarr.open_group(path, mode="r+"), outputs, backend.coordinate_units)
    return _Store(path, list(outputs), space.names)


def _is_begun(path: Path, header: dict[str, Any]) -> bool:
    try:
        return bool(dict(zarr.open_group(path, mode="r").attrs) == header)
    except (OSError, ValueError, KeyError):
        return False


def _create(path: Path, space: Space, backend: Backend, num: int, header: dict[str, Any], settings: Simulate) -> None:
    outputs = backend.outputs()
    units = {name: prior.unit for name, prior in space.priors.items()}
    group = zarr.open_group(path, mode="w", zarr_format=3)
    shard = _shard(num, 8 * max(Layout(outputs).size, 1) * (1 + settings.derivatives * space.size), backend.least_rows)
    for name, output in outputs.items():
        shape, dims = (num, *output.shape), ("simulation", *output.dims)
        create_array(group, name, shape, shard, "float64", dimension_names=dims, attributes=_units(output.unit))
        if settings.derivatives:
            shape, dims = (num, space.size, *output.shape), ("simulation", "parameter", *output.dims)
            notes: dict[str, Any] = {"parameters": space.names, "comment": f"of {name} by each parameter"}
            notes["units_by_parameter"] = [f"({output.unit or 1}) / ({unit or 1})" for unit in units.values()]
            create_array(group, name + DERIVATIVES, shape, shard, "float64", dimension_names=dims, attributes=notes)
    for name, unit in units.items():
        create_array(group, name, (num,), shard, "float64", dimension_names=("simulation",), attributes=_units(unit))
    create_array(group, "z", (num, space.size), shard, "float64", dimension_names=("simulation", "parameter"))
    create_array(group, "num_steps", (num,), shard, "int32", dimension_names=("simulation",))
    if settings.retry is not None:
        notes = {"comment": "the attempt that gave the row, its steps among it: 2 where simulate.retry solved it again"}
        create_array(group, ATTEMPT, (num,), shard, "int8", dimension_names=("simulation",), attributes=notes)
    meanings = {"flag_meanings": " ".join(s.name.lower() for s in Status), "flag_values": [int(s) for s in Status]}
    create_array(group, "status", (num,), shard, "int8", dimension_names=("simulation",), attributes=meanings)
    group.attrs.update(header)


def _shard(num: int, row_bytes: int, least: int) -> int:
    """Return how many rows a shard has; all have about as many, so that the last one is no odd remainder."""
    rows = max(least, min(_SHARD_BYTES // row_bytes, -(-num // _SHARDS)))
    return -(-num // max(num // rows, 1))


def _units(unit: str) -> dict[str, str]:
    return {"units": unit} if unit else {}
