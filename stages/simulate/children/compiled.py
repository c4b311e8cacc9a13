"""A simulator in JAX, in a process of its own on a worker: a row there is a block of them, solved in compiled calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.compiled import Compiled
from simfer.stages.simulate.backends.contract import Attempts, Block, Rows


class Solving:
    """What solves blocks of one config."""

    leaves_folders = False

    def __init__(self, spec: Mapping[str, Any]) -> None:
        settings = Simulate.model_validate_json(json.dumps(spec["settings"]))
        self._backend = Compiled(settings, Space.from_json(spec["space"]))
        self.expected = _AsItIs()

    def facts(self) -> dict[str, Any]:
        """Say nothing: who sends blocks has built the simulator too."""
        return {}

    def particulars(self) -> dict[str, Any]:
        """Say nothing of the last block."""
        return {}

    def run(self, row: int, block: Mapping[str, Any], seed: int | None, folder: str = "") -> np.ndarray:
        """Solve a block."""
        numbers = np.array(block["numbers"])
        asked = Block(np.array(block["z"], float), numbers, block["stream"], len(numbers))
        return flat(self._backend.solve(asked, lambda rows, failed: None))


class _AsItIs:
    def flat(self, found: np.ndarray) -> np.ndarray:
        return found


def flat(attempts: Attempts) -> np.ndarray:
    """Return rows as one array of numbers."""
    rows = attempts.rows
    columns = [rows.theta, *rows.outputs.values(), *rows.derivatives.values(), rows.status, rows.num_steps,
               attempts.attempt, attempts.effort, rows.steps_done]  # fmt: skip
    return np.concatenate([np.asarray(each, float).ravel() for each in columns])


def unflat(values: np.ndarray, num: int, shapes: Mapping[str, tuple[int, ...]], size: int, slopes: bool) -> Attempts:
    """Return such an array as rows again: `num` of them, of `size` parameters and outputs of these shapes."""
    at = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        count = int(np.prod(shape, dtype=int))
        at += count
        return values[at - count : at].reshape(shape)

    theta, outputs = take(num, size), {name: take(num, *shape) for name, shape in shapes.items()}
    derivatives = {name: take(num, size, *shape) for name, shape in shapes.items()} if slopes else {}
    status, steps = take(num).astype(np.int8), take(num).astype(np.int32)
    attempt, effort = take(num).astype(np.int8), take(2).astype(int)
    rows = Rows(theta, outputs, derivatives, status, steps, values[at:].astype(int))
    return Attempts(rows, attempt, effort)
