"""What simulators that are not JAX have in common: one row at a time in a child, a journal, and reasons of failures."""

from __future__ import annotations

import abc
import json
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.cores import num_cores
from simfer.stages.errors import Mistake, StageError
from simfer.stages.model.outputs import Layout, Output, Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress, Silent
from simfer.stages.settings import Simulate
from simfer.stages.settings.engines import LOCAL
from simfer.stages.simulate.backends import failed_rows, journal
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows
from simfer.stages.simulate.children.slots import Slots
from simfer.stages.simulate.children.supervisor import Child, Done, Wanted
from simfer.stages.simulate.engines import engine_of
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.elsewhere import Elsewhere

_FOLDERS = 20  # of failed runs that are kept
_ALIKE = 20  # rows that all fail in one way, the first of all: so will the others
_FIRST = "simulate-0"  # the stream that they are of
_BLOCKS = 8  # at once where others run them: all slots of a cluster, and one that is slow holds none of them up
_known: dict[str, dict[str, Any]] = {}  # what simulators said of themselves, or showed when they were tried


class RowByRow(Backend):
    """Rows of whatever runs outside this process, each in a supervised child."""

    who: ClassVar[str]
    where: ClassVar[str] = "simulate.simulator"

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        self._failed_alike: list[Done] | None = []
        if settings.engine not in (None, LOCAL):
            self.blocks_at_once = _BLOCKS
        self._lock = Lock()

    @abc.abstractmethod
    def spec(self) -> dict[str, Any]:
        """Say in plain data what a child needs to know to run a row."""

    def files(self) -> list[Path]:
        """List the files that another machine needs to run a row."""
        return [Path(file) for file in self.settings.depends_on]

    @cached_property
    def _engine(self) -> Engine | None:
        return engine_of(self.settings.engine)

    @property
    def num_slots(self) -> int:
        """How many rows run at a time."""
        if self._engine:
            return max(self._engine.slots(), 1)
        return self.settings.workers or num_cores()

    @cached_property
    def _slots(self) -> Slots | Elsewhere:
        timeout, most = self.settings.timeout, self.settings.rows_per_worker
        if self._engine:
            spec = self.spec() | {"who": self.who, "threads": 1}
            return Elsewhere(self._engine, spec, self.files(), timeout, most, num_folders=_FOLDERS)
        threads = max(1, num_cores() // self.num_slots)
        spec = self.spec() | {"who": self.who, "threads": threads}
        return Slots(lambda: Child(spec, timeout, most), self.num_slots)

    def ready(self, progress: Progress) -> None:
        """Wait until an engine has a worker."""
        if self._engine:
            self._engine.note = progress.note
            self._engine.ready(progress.note)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        key = json.dumps(self.spec(), sort_keys=True, default=str)
        if key not in _known:
            _known[key] = dict(self._slots.begin())
        return _known[key]

    @property
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter that the simulator takes -> its unit."""
        given = [*self.space.names, *self.space.fixed]
        known = dict(self._facts["parameters"])
        known |= {name: "" for name in given if self._facts["any"] and name not in known}
        return {name: unit for name, unit in known.items() if name in given or name not in self._facts["optional"]}

    @property
    def stochastic(self) -> bool:
        """Whether it takes a seed."""
        return bool(self._facts["stochastic"])

    @property
    def coordinate_units(self) -> Mapping[str, str]:
        """Unit of each coordinate, where it is known."""
        return dict(self._facts.get("units") or {})

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block: as many as keep the children busy."""
        return max(16, 4 * self.num_slots)

    def outputs(self) -> dict[str, Output]:
        """Describe each output, as it says itself or as a first run showed."""
        if self._facts["outputs"] is None and (found := self.mistakes(Silent())):
            raise StageError(found[0].what)
        return dict(Layout.from_json(self._facts["outputs"]).outputs)

    def know(self, layout: Layout) -> None:
        """Take what it gives from rows that are there, in place of a first run."""
        self._facts["outputs"] = layout.to_json()

    def mistakes(self, progress: Progress) -> list[Mistake]:
        """Run it at the prior's median, twice, and say what it gave."""
        values = self._values(np.zeros((1, self.space.size)))[0]
        seed = self._seed("probe", 0)
        rows: dict[int, Done] = {}
        with TemporaryDirectory(prefix="simfer-") as folder:
            twice = [Wanted(number, values, seed, str(Path(folder, str(-number)))) for number in (-1, -2)]
            self._slots.run(twice, self._facts["outputs"], lambda done: rows.update({done.number: done}))
        first, again = rows[-1], rows[-2]
        at = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
        for done in (first, again):
            if done.status != Status.OK:
                host = f" on {done.host}" if self._engine else ""
                what = f"a first run of {self.who}{host}, at the priors' medians ({at}), failed: {told(done)}"
                return [Mistake(self.where, what)]
        if self._facts["outputs"] is None:
            self._facts["outputs"], self._facts["units"] = first.more["outputs"], first.more["units"]
        progress.note(f"  a first run of {self.who}, at the priors' medians: {at}; {first.seconds:.3g} s")
        for name, output in self.outputs().items():
            progress.note(f"    gives {name}{_shown(output)}")
        if not np.array_equal(first.y, again.y):
            most = np.abs(first.y - again.y).max()
            what = (
                f"two runs of {self.who} at the same parameters ({at}) differ, by {most:.3g} at most. If it is random, "
                f"let its random numbers come of a seed that it is given: {self.how_to_seed}; if not, something is "
                "left over from one run to the next"
            )
            return [Mistake(self.where, what)]
        return []

    how_to_seed: ClassVar[str] = "an argument `seed`"

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Run the rows of a block that its journal lacks."""
        kept = journal.Journal(block.folder, block.stream, int(block.numbers[0])) if block.folder else None
        numbers = block.numbers.tolist()
        done = {n: row for n, row in (kept.rows() if kept else {}).items() if n in set(numbers) and self._stands(row)}
        tell(len(done), sum(row.status != Status.OK for row in done.values()))
        if block.stream == _FIRST and any(row.status == Status.OK for row in done.values()):
            self._failed_alike = None
        values = dict(zip(numbers, self._values(block.z), strict=True))
        runs = self._runs(block)
        wanted = [Wanted(n, each, self._seed(block.stream, n), str(runs / f"{n // 1000:06d}" / str(n)))
                  for n, each in values.items() if n not in done]  # fmt: skip

        def take(row: Done) -> None:
            if machine := row.more.get("machine"):
                raise StageError(
                    f"row {row.number} could not be run here, through no fault of its own: {machine}. What is finished "
                    "is kept; mend that, and run the same command again"
                )
            with self._lock:
                if row.status != Status.OK and block.folder:
                    row = self._kept(row, Path(wanted_folder[row.number]), block.folder)
                if kept:
                    kept.add(row)
                done[row.number] = row
                tell(1, int(row.status != Status.OK))
                self._stop_if_alike(row, values[row.number], block.stream)

        wanted_folder = {each.number: each.folder for each in wanted}
        try:
            self._slots.run(wanted, self._described(), take)
        finally:
            if kept:
                kept.close()
        rows = [done[n] for n in numbers]
        if block.folder:
            with self._lock:  # of blocks that end at the same time
                failed_rows.add(block.folder, rows, values, self.space)
        return self._attempts(block, rows)

    def one(self, stream: str, number: int, z: Float[np.ndarray, " size"]) -> Wanted:
        """Return one row of a stream as a child is asked for it."""
        return Wanted(number, self._values(z[None])[0], self._seed(stream, number))

    def again(self, timed_out: Int[np.ndarray, " rows"], stream: str, folder: Path) -> Int[np.ndarray, " more"]:
        """Return the rows that timed out sooner than they would now."""
        if not len(timed_out):
            return timed_out
        lasting = failed_rows.lasting(folder, self.settings.timeout)
        more = np.array([number for number in timed_out if number not in lasting], int)
        if len(more) and stream == _FIRST:  # chosen because they failed alike, which says nothing of all others
            self._failed_alike = None
        return more

    def _stands(self, row: Done) -> bool:
        return row.status != Status.TIMEOUT or failed_rows.is_long(row.seconds, self.settings.timeout)

    def _runs(self, block: Block) -> Path:
        """Return where runs that need a folder have theirs, while they run."""
        return (block.folder or Path(gettempdir())) / "runs"

    def _kept(self, row: Done, run: Path, folder: Path) -> Done:
        """Keep the folder of a failed run, if it has one and is among the first."""
        if not run.is_dir():
            return row
        failed = folder / "failed"
        if failed.is_dir() and len(list(failed.iterdir())) >= _FOLDERS:
            shutil.rmtree(run, ignore_errors=True)
            return row
        failed.mkdir(exist_ok=True)
        place = failed / f"row-{row.number}"
        shutil.rmtree(place, ignore_errors=True)
        for link in run.iterdir():  # what was linked is the user's, and no part of the artifact
            if link.is_symlink():
                link.unlink()
        run.rename(place)
        return row._replace(more={**row.more, "folder": f"failed/{place.name}"})

    def written(self, block: Block) -> None:
        """Remove a block's journal."""
        if block.folder:
            journal.Journal(block.folder, block.stream, int(block.numbers[0])).remove()

    def finished(self, folder: Path) -> None:
        """Remove what was kept for the case of a kill."""
        journal.clear(folder)
        shutil.rmtree(folder / "runs", ignore_errors=True)
        failed_rows.tidy(folder)

    def close(self) -> None:
        """End all children, whatever they are at."""
        if "_slots" in self.__dict__:
            self._slots.close()

    def _described(self) -> Mapping[str, Any]:
        self.outputs()
        described: Mapping[str, Any] = self._facts["outputs"]
        return described

    def _values(self, z: Float[np.ndarray, "rows size"]) -> list[dict[str, float]]:
        taken, values = self.parameters, self.space.values(z)  # there may be others, which are of priors alone
        columns = {name: np.asarray(each, float).tolist() for name, each in values.items() if name in taken}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _seed(self, stream: str, row: int) -> int | None:
        if not self.stochastic:
            return None
        entropy = (self.settings.seed, zlib.crc32(stream.encode()), row)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)  # fits any language's whole numbers

    def _derivatives(self, rows: Sequence[Done], layout: Layout) -> dict[str, np.ndarray]:
        """Return the derivatives that rows carry, where they are asked for."""
        if not self.settings.derivatives:
            return {}
        flat = np.full((len(rows), len(self.space.names), layout.size), np.nan)
        for i, row in enumerate(rows):
            for j, name in enumerate(self.space.names):
                if slopes := row.more.get("slopes"):
                    flat[i, j] = slopes[name]
        shape = flat.shape[:2]
        return {name: flat[:, :, at].reshape(*shape, *layout.outputs[name].shape) for name, at in layout.slices.items()}

    def _stop_if_alike(self, row: Done, values: Mapping[str, float], stream: str) -> None:
        """Stop where the first rows of all failed in one way: the config is at fault, and time is dear."""
        if self._failed_alike is None or stream != _FIRST:
            return
        if row.status == Status.OK or any(row.status != other.status for other in self._failed_alike):
            self._failed_alike = None
            return
        self._failed_alike.append(row)
        if len(self._failed_alike) == _ALIKE:
            at = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
            raise StageError(
                f"the first {_ALIKE} rows all failed alike ({name_of(row.status)}), so no more are run. "
                f"One of them, row {row.number} ({at}): {told(row)}"
            )

    def _attempts(self, block: Block, rows: Sequence[Done]) -> Attempts:
        layout, num = Layout(self.outputs()), len(rows)
        flat = np.full((num, layout.size), np.nan)
        for i, row in enumerate(rows):
            if len(row.y) == layout.size:
                flat[i] = row.y
        outputs = {name: flat[:, at].reshape(num, *layout.outputs[name].shape) for name, at in layout.slices.items()}
        status = np.array([row.status for row in rows], np.int8)
        theta, z = np.asarray(self.space.theta(block.z), float), None
        written = [row.more.get("theta") for row in rows]
        if any(each is not None for each in written):
            theta = np.array([[(each or {}).get(name, t) for name, t in zip(self.space.names, old, strict=True)]
                              for each, old in zip(written, theta, strict=True)])  # fmt: skip
            z = np.asarray(self.space.whiten(dict(zip(self.space.names, theta.T, strict=True))))
        slopes, steps = self._derivatives(rows, layout), np.zeros(num, np.int32)
        found = Rows(theta, outputs, slopes, status, steps, np.zeros(1, int))
        return Attempts(found, np.ones(num, np.int8), np.zeros(2, int), z)


def told(row: Done) -> str:
    """Say how a row ended, with its last lines."""
    return f"{name_of(row.status)}: {row.reason}" + (f"\nIts last lines were:\n{row.tail}" if row.tail else "")


def name_of(status: int) -> str:
    """Return a status as a reader has it: bad output."""
    return Status(status).name.lower().replace("_", " ")


def _shown(output: Output) -> str:
    if not output.dims:
        return f", a number{' in ' + output.unit if output.unit else ''}"
    axes = [f"{len(at)} along {dim}, {at[0]:g} to {at[-1]:g}" for dim, at in output.coords.items() if len(at)]
    return f": {'; '.join(axes)}{', in ' + output.unit if output.unit else ''}"
