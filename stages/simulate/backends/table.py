"""Finished runs as a backend: alone, or as the first rows of an ensemble that a simulator goes on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simfer.stages.errors import Mistake, StageError
from simfer.stages.model.outputs import Output, Status
from simfer.stages.model.space import Space
from simfer.stages.model.units import contradict
from simfer.stages.progress import Progress
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.behind import FIRST, Behind
from simfer.stages.simulate.backends.contract import Attempts, Backend, Block, Rows
from simfer.stages.simulate.finished.runs import FinishedRuns, open_runs

_LEAST = 1024


class Table(Backend):
    """Rows of a table, each where its own parameters are, wherever rows were asked for."""

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        assert settings.table is not None
        self.runs: FinishedRuns = open_runs(settings.table, space)

    @property
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter -> its unit."""
        return self.runs.parameters

    @property
    def stochastic(self) -> bool:
        """Whether the runs are random."""
        return self.runs.table.random

    @property
    def coordinate_units(self) -> Mapping[str, str]:
        """Unit of each coordinate, where it is known."""
        return self.runs.coordinate_units

    @property
    def num_finished(self) -> int:
        """How many of the first rows are finished runs."""
        return len(self.runs)

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return _LEAST

    def outputs(self) -> dict[str, Output]:
        """Describe each output."""
        return self.runs.outputs

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Read the rows of a block, which are consecutive ones."""
        if block.stream != FIRST:
            raise StageError("there is no simulator that could be run, but a table of finished runs alone")
        theta, z, outputs, status = self.runs.read(int(block.numbers[0]), int(block.numbers[-1]) + 1)
        tell(len(z), int((status != Status.OK).sum()))
        none = np.zeros(len(z), np.int32)
        rows = Rows(theta, outputs, {}, status, none, np.zeros(1, int))
        return Attempts(rows, np.ones(len(z), np.int8), np.zeros(2, int), z)

    def mistakes(self, progress: Progress) -> list[Mistake]:
        """Say what was read, whose columns were looked at when it was opened."""
        progress.note(f"simulate.table: {self.runs.words()}")
        return []


class TableFirst(Behind):
    """The rows of a table, and after them those of a simulator that gives the same outputs."""

    def __init__(self, table: Table, simulator: Backend) -> None:
        super().__init__(len(table.runs), simulator, counts_anew=True)
        self.table = table

    @property
    def num_finished(self) -> int:
        """How many of the first rows are finished runs."""
        return self.num

    def read(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Give rows of the table, their outputs in the simulator's order."""
        part = self.table.solve(block, tell)
        outputs = {name: part.rows.outputs[name] for name in self.outputs()}
        return part._replace(rows=part.rows._replace(outputs=outputs))

    def mistakes(self, progress: Progress) -> list[Mistake]:
        """List where the table's outputs are not the simulator's."""
        found = [*self.simulator.mistakes(progress), *self.table.mistakes(progress)]
        units = {**self.simulator.parameters, **self.simulator.coordinate_units}
        return found or unlike(self.table.runs, self.outputs(), units)


def unlike(runs: FinishedRuns, simulated: Mapping[str, Output], units: Mapping[str, str]) -> list[Mistake]:
    """List the outputs of a simulator that a table lacks, or has at other coordinates, and what is in other units.

    Args:
        runs: The table.
        simulated: Each output of the simulator.
        units: Those of its parameters and coordinates.
    """
    table, found = runs.outputs, []
    for name, unit in {**units, **{name: output.unit for name, output in simulated.items()}}.items():
        if contradict(there := runs.units.get(name, ""), unit):
            what = f'{name} is there in "{there}", and in "{unit}" for the simulator; expected the same'
            found.append(Mistake("simulate.table", what))
    for name, output in simulated.items():
        own = table.get(name)
        if own is None:
            what = f"there is no output {name}, which the simulator gives (its outputs: {', '.join(table)})"
            found.append(Mistake("simulate.table", what))
        elif own.dims != output.dims or not all(_same(own.coords[dim], output.coords[dim]) for dim in own.dims):
            what = f"{name} is there {_words(own)}, and from the simulator {_words(output)}; expected the same"
            found.append(Mistake("simulate.table", what))
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == np.shape(other) and bool(np.allclose(one, other, rtol=1e-9, atol=0.0))


def _words(output: Output) -> str:
    axes = [f"{dim} = {', '.join(f'{at:g}' for at in output.coords[dim][:4])}" + ", ..." * (len(output.coords[dim]) > 4)
            for dim in output.dims]  # fmt: skip
    return "along " + "; ".join(axes) if axes else "a number"
