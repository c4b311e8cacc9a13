"""The contract between whoever has rows and all that is done with them: whitened points in, rows with statuses out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Simulate


class Rows(NamedTuple):
    """Solved rows as NumPy arrays: the free parameters' values, outputs by name, a `Status`, and solver steps."""

    theta: Float[np.ndarray, "rows size"]
    outputs: dict[str, Float[np.ndarray, "rows ..."]]
    derivatives: dict[str, Float[np.ndarray, "rows size ..."]]  # of the outputs by theta; empty if not asked for
    status: Int[np.ndarray, " rows"]
    num_steps: Int[np.ndarray, " rows"]
    steps_done: Int[np.ndarray, " calls"]  # in all lanes, those that were idle too; 0 where there are no lanes


class Attempts(NamedTuple):
    """Rows as the last attempt at each left them, its steps with them."""

    rows: Rows
    attempt: Int[np.ndarray, " rows"]  # 1 or 2
    effort: Int[np.ndarray, "2"]  # steps of all attempts that took a row on, and those done in lanes, idle ones too
    z: Float[np.ndarray, "rows size"] | None = None  # where the rows lie, if not exactly where they were asked for


class Block(NamedTuple):
    """Rows that are asked for together."""

    z: Float[np.ndarray, "rows size"]
    numbers: Int[np.ndarray, " rows"]  # of the rows in their stream
    stream: str  # what they are for: "simulate-0", "check-1", "calibrate"; random numbers are told apart by it
    like: int = 0  # rows of a usual block, if this one has fewer
    folder: Path | None = None  # of the artifact, where what is finished of a block may be kept until it is whole


class Backend(abc.ABC):
    """Who gives rows of one config. Row i depends on the config, the stream and i alone.

    A row's own failure is a `Status`, never an exception. An exception means that no row can be had: a `ConfigError`
    where the config is at fault, a `StageError` where rows have to be waited for, or a machine is at fault.
    """

    blocks_at_once = 2  # while one is written, or waits for its last rows, the other keeps the cores busy

    def __init__(self, settings: Simulate, space: Space) -> None:
        self.settings, self.space = settings, space

    @property
    @abc.abstractmethod
    def parameters(self) -> Mapping[str, str]:
        """Name of each parameter that the simulator takes -> its unit ("" where none is known)."""

    @property
    def stochastic(self) -> bool:
        """Whether rows are random."""
        return False

    @property
    def coordinate_units(self) -> Mapping[str, str]:
        """Unit of each coordinate, where it is known."""
        return {}

    @property
    def num_finished(self) -> int:
        """How many of the first rows are finished runs, which lie as somebody chose and in whatever order."""
        return 0

    @property
    def num_foreign(self) -> int:
        """How many of the last rows are points that nobody asked for."""
        return 0

    @property
    @abc.abstractmethod
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""

    @abc.abstractmethod
    def outputs(self) -> dict[str, Output]:
        """Describe each output, in the order in which they are stored."""

    @abc.abstractmethod
    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Give the rows of a block, in its order; `tell(rows, failed)` says of some of them that they are done."""

    @property
    def has_solver(self) -> bool:
        """Whether [simulate.solver] and [simulate.retry] have a part in the rows."""
        return False

    def ready(self, progress: Progress) -> None:  # noqa: B027
        """Wait until somebody is there who can give rows."""

    def mistakes(self, progress: Progress) -> list[Mistake]:
        """Look at the simulator before anything is built on it, and list what is wrong; then `outputs` is known.

        One that can only be known by running it is run here, at the prior's median, and what it gave is noted.
        """
        return []

    def know(self, layout: Layout) -> None:  # noqa: B027
        """Take the outputs from rows that are there already, in place of a first run."""

    def again(self, timed_out: Int[np.ndarray, " rows"], stream: str, folder: Path) -> Int[np.ndarray, " more"]:
        """Return those of a stream's rows that timed out in an artifact not yet finished, and now have more time."""
        return timed_out[:0]

    def written(self, block: Block) -> None:  # noqa: B027
        """Hear that a block is in the store."""

    def finished(self, folder: Path) -> None:  # noqa: B027
        """Hear that all blocks are, in the artifact's folder."""

    def close(self) -> None:  # noqa: B027
        """Let go of what the rows needed: processes, connections."""
