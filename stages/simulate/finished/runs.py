"""Finished runs as rows: parameters in the whitened space, outputs, and how each ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from simfer.stages.model.outputs import Output, Status
from simfer.stages.model.space import Space
from simfer.stages.settings import RunTable
from simfer.stages.settings.parameters import Parameters
from simfer.stages.simulate.finished.columns import Columns
from simfer.stages.simulate.finished.opening import open_files
from simfer.stages.simulate.finished.statuses import statuses

_BLOCK = 16384  # runs that are looked at together
_FAR = 6.230  # of a standard normal; a Sobol sequence has nothing beyond it either
_NEAR = 1e-6  # of a prior's spread: what is as near to its end as this is at the end


class Finished(NamedTuple):
    """Some runs."""

    theta: Float[np.ndarray, "rows names"]
    z: Float[np.ndarray, "rows size"]
    outputs: dict[str, Float[np.ndarray, "rows ..."]]
    status: Int[np.ndarray, " rows"]


class FinishedRuns:
    """The runs of a table that lie within the priors, in the order of the table."""

    def __init__(self, table: RunTable, space: Space) -> None:
        self.table, self.space, self.file = table, space, open_files(table, space)
        self.columns = Columns.of(self.file, table, space)
        self.outputs: dict[str, Output] = {name: each.output for name, each in self.columns.outputs.items()}
        self._kept = np.concatenate(list(self._within()))
        if not len(self._kept):
            self.file.refuse(
                f"none of its {self.file.num} runs lies within the priors; see [parameters], and its columns"
            )

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_outside(self) -> int:
        """The number of runs that lie outside a prior, and are left out."""
        return self.file.num - len(self)

    @property
    def parameters(self) -> dict[str, str]:
        """The unit of each parameter, where the table knows it."""
        in_file = {name: self.file.columns[column].unit for name, column in self.columns.parameters.items()}
        units = {name: self.table.units.get(name, unit) for name, unit in in_file.items()}
        return units | dict.fromkeys(self.space.fixed, "")

    @property
    def coordinate_units(self) -> dict[str, str]:
        """The unit of each coordinate, where it is known."""
        dims = {dim for output in self.outputs.values() for dim in output.dims}
        units = {dim: self.table.units.get(dim, self.file.coordinate_units.get(dim, "")) for dim in dims}
        return {dim: unit for dim, unit in units.items() if unit}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each parameter, output and coordinate, where it is known."""
        outputs = {name: output.unit for name, output in self.outputs.items()}
        return {**self.parameters, **self.coordinate_units, **outputs}

    def words(self) -> str:
        """Say in a line what was read."""
        shapes = {name: "" if not o.dims else " along " + ", ".join(o.dims) for name, o in self.outputs.items()}
        many = [f"{name}{shape}" for name, shape in shapes.items()]
        outputs = ", ".join(many[:6]) + (f", and {len(many) - 6} more" if len(many) > 6 else "")
        names = ", ".join(self.space.names)
        left = self.columns.left_out
        words = f"{self.file.num:,} runs of {names}; outputs: {outputs}" + (
            f"; left out: {', '.join(left)}" if left else ""
        )
        outside = f"; {self.num_outside:,} runs lie outside the priors and are left out" if self.num_outside else ""
        return words + outside

    def read(self, start: int, stop: int) -> Finished:
        """Read the runs from `start` to `stop`, counted without those outside the priors."""
        rows = self._kept[start:stop]
        first, last = int(rows[0]), int(rows[-1]) + 1
        names = [
            *self.columns.parameters.values(),
            *(c for each in self.columns.outputs.values() for c in each.columns),
        ]
        told = [self.columns.status] if self.columns.status else []
        read = {name: values[rows - first] for name, values in self.file.read(first, last, names, told).items()}
        theta = np.stack([read[column] for column in self.columns.parameters.values()], axis=1)
        outputs = {name: each.values(read) for name, each in self.columns.outputs.items()}
        status = statuses(read[told[0]]) if told else np.zeros(len(rows), np.int8)
        finite = np.all([np.isfinite(y).reshape(len(y), -1).all(axis=1) for y in outputs.values()], axis=0)
        status = np.where((status == Status.OK) & ~finite, np.int8(Status.NOT_FINITE), status)
        return Finished(theta, self._whitened(theta)[0], outputs, status)

    def _within(self) -> Iterator[Int[np.ndarray, " kept"]]:
        """Yield the numbers of the runs within the priors, block by block; refuse parameters that are no numbers."""
        for start in range(0, self.file.num, _BLOCK):
            stop = min(start + _BLOCK, self.file.num)
            read = self.file.read(start, stop, [*self.columns.parameters.values(), *self.columns.fixed.values()])
            for name, column in (self.columns.parameters | self.columns.fixed).items():
                if (wrong := ~np.isfinite(read[column])).any():
                    row = start + int(wrong.argmax())
                    self.file.refuse(f"got no number for the parameter {name}; take the run out, or give it one", row)
            self._agree(start, read)
            theta = np.stack([read[column] for column in self.columns.parameters.values()], axis=1)
            yield start + np.flatnonzero(self._whitened(theta)[1])

    def _agree(self, start: int, read: dict[str, np.ndarray]) -> None:
        for name, column in self.columns.fixed.items():
            value = self.space.fixed[name]
            if (wrong := ~np.isclose(read[column], value, rtol=1e-9, atol=0.0)).any():
                row = int(wrong.argmax())
                what = f"got {name} = {read[column][row]:g}, and the config has it fixed at {value:g}; give it a prior"
                self.file.refuse(what, start + row)

    def _whitened(self, theta: np.ndarray) -> tuple[Float[np.ndarray, "rows size"], Bool[np.ndarray, " rows"]]:
        """Return whitened points, and which lie within the priors: those at a bound do, and are drawn in a little."""
        count = len(theta)
        filled = 1 << max(count - 1, 63).bit_length()  # so that few sizes are compiled
        theta = np.pad(theta, [(0, filled - count), (0, 0)], mode="edge")
        z, within = self._whitened_all(theta)
        return z[:count], within[:count]

    def _whitened_all(self, theta: np.ndarray) -> tuple[Float[np.ndarray, "rows size"], Bool[np.ndarray, " rows"]]:
        z = np.asarray(self.space.whiten(dict(zip(self.space.names, theta.T, strict=True))))
        far = ~(np.abs(z) <= _FAR)
        if not far.any():
            return z, np.ones(len(z), bool)
        drawn = np.where(np.isnan(z), 0.0, np.clip(z, -_FAR, _FAR))
        ones = np.ones((2, self.space.size)) * np.array([[-1.0], [1.0]])
        spread = np.abs(np.diff(np.asarray(self.space.theta(ones)), axis=0))[0]
        gap = np.abs(np.asarray(self.space.theta(drawn)) - theta)
        return drawn, (gap <= _NEAR * np.maximum(spread, 1e-300)).all(axis=1) | ~far.any(axis=1)


def open_for(parameters: Parameters, table: RunTable) -> FinishedRuns:
    """Open the table of a config's parameters."""
    return open_runs(table, Space(parameters))


def open_runs(table: RunTable, space: Space) -> FinishedRuns:
    """Open a table; the same one again as long as its files are the same, since it is looked through once."""
    seen = tuple((stat.st_mtime_ns, stat.st_size) for stat in (Path(file).stat() for file in table.files))
    return _opened(table.model_dump_json(), json.dumps(space.to_json()), seen)


@lru_cache(maxsize=4)
def _opened(table: str, space: str, seen: object) -> FinishedRuns:
    return FinishedRuns(RunTable.model_validate_json(table), Space.from_json(json.loads(space)))
