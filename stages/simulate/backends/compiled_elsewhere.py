"""Simulators in JAX on other machines: blocks of rows go to the workers of an engine, which compile for themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simfer.stages.errors import StageError, UserCodeError
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Simulate, closure
from simfer.stages.settings.fields import Code
from simfer.stages.simulate.backends.compiled import Compiled
from simfer.stages.simulate.backends.contract import Attempts, Block
from simfer.stages.simulate.children.compiled import unflat
from simfer.stages.simulate.children.supervisor import Done, Wanted
from simfer.stages.simulate.engines import engine_of
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.elsewhere import Elsewhere

_LEAST, _MOST = 64, 4096  # rows that go out together
_BLOCKS = 4
_OURS = "engine", "table", "workers", "timeout", "rows_per_worker"  # of no interest to who solves rows
_FLAGS = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "TF_CPP_MIN_LOG_LEVEL",
)


class CompiledElsewhere(Compiled):
    """Rows of a simulator in JAX, solved by the workers of an engine; each uses all cores that it may."""

    blocks_at_once = _BLOCKS

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        engine = engine_of(settings.engine)
        assert engine is not None
        self._engine: Engine = engine

    @cached_property
    def _slots(self) -> Elsewhere:
        spec = {
            "kind": "jax",
            "who": "your simulator",
            "settings": self.settings.model_dump(mode="json", exclude_unset=True, exclude=set(_OURS)),
            "space": self.space.to_json(),
            "environment": {name: os.environ[name] for name in _FLAGS if name in os.environ},
        }
        spec = json.loads(json.dumps(spec))
        return Elsewhere(self._engine, spec, self._files(), None, None)

    def _files(self) -> list[Path]:
        files = [Path(file) for file in self.settings.depends_on]
        if Code.is_own(self.settings.simulator):
            files += closure(Path(self.settings.simulator.rpartition(":")[0]))
        return files

    @property
    def least_rows(self) -> int:
        """The fewest rows that are worth a block."""
        return max(super().least_rows, _LEAST * self._engine.slots())

    def ready(self, progress: Progress) -> None:
        """Wait until there is a worker."""
        self._engine.note = progress.note
        self._engine.ready(progress.note)

    def solve(self, block: Block, tell: Callable[[int, int], Any]) -> Attempts:
        """Have the rows of a block solved, in parts that keep all slots busy."""
        num = max(_LEAST, min(_MOST, -(-len(block.z) // max(self._engine.slots(), 1))))
        parts = {int(block.numbers[at]): slice(at, at + num) for at in range(0, len(block.z), num)}
        wanted = [Wanted(first, _message(block, part), None) for first, part in parts.items()]
        solved = dict[int, Attempts]()

        def take(done: Done) -> None:
            solved[done.number] = attempts = self._read(done, block.numbers[parts[done.number]])
            tell(len(attempts.attempt), int((attempts.rows.status != Status.OK).sum()))

        self._slots.run(wanted, None, take)
        joined: Attempts = _joined([solved[first] for first in parts])
        return joined

    def _read(self, done: Done, numbers: np.ndarray) -> Attempts:
        where = f"rows {numbers[0]} to {numbers[-1]}, on {done.host}"
        if done.status == Status.RAISED:
            raise UserCodeError(f"{where}: {done.reason}")
        if done.status not in (Status.OK, Status.NOT_FINITE):
            raise StageError(f"{where}: {done.reason}\n{done.tail}".rstrip())
        shapes = {name: output.shape for name, output in self.outputs().items()}
        return unflat(done.y, len(numbers), shapes, len(self.space.names), self.settings.derivatives)

    def close(self) -> None:
        """Take back what was handed out."""
        if "_slots" in self.__dict__:
            self._slots.close()


def _message(block: Block, part: slice) -> dict[str, Any]:
    return {"z": block.z[part].tolist(), "numbers": block.numbers[part].tolist(), "stream": block.stream}


def _joined(parts: list[Attempts]) -> Any:
    rows = jax.tree.map(lambda *each: np.concatenate(each), *[part.rows for part in parts])
    attempt, effort = np.concatenate([part.attempt for part in parts]), sum(part.effort for part in parts)
    return Attempts(rows, attempt, np.asarray(effort))
