"""Many simulations at once: blocks of rows, each block one vmapped solve of a fixed size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from stages.parameters import Space
from stages.plugins import resolve
from stages.settings import Simulate
from stages.simulators import SIMULATORS
from stages.simulators.base import Simulator


class Rows(NamedTuple):
    """Solved rows as NumPy arrays: outputs by name, a `Status` each, and the solver steps taken."""

    outputs: dict[str, Float[np.ndarray, "rows ..."]]
    status: Int[np.ndarray, " rows"]
    num_steps: Int[np.ndarray, " rows"]


def build_simulator(settings: Simulate) -> Simulator:
    """Build the simulator that the config names, with its options."""
    simulator: Simulator = resolve(settings.simulator, SIMULATORS)(**settings.options)
    return simulator


def build_ensemble(
    settings: Simulate, space: Space, stream: str = "simulate-0"
) -> Callable[[Float[np.ndarray, "rows size"], int], Rows]:
    """Return a function of whitened rows and the first one's number that solves them.

    Row i of a stochastic simulator has the key that is folded from the seed, the stream and i: rows of two streams
    (of two rounds, or of a training set and a check) share no random number. A vmapped adaptive solve runs
    until its slowest lane ends, so blocks are small; they are drained by a thread for each core, since the compiled
    code lets go of Python's lock.
    """
    simulator, size = build_simulator(settings), settings.batch_size
    seed = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(stream.encode()))

    def solve_row(z: Float[Array, " size"], row: Int[Array, ""]) -> tuple[dict[str, Array], Array, Array]:
        key = jax.random.fold_in(seed, row) if simulator.stochastic else None
        return tuple(simulator.solve(space.values(z), settings.solver, key))  # type: ignore[return-value]

    solve_block = jax.jit(jax.vmap(solve_row))

    def solve(z: Float[np.ndarray, "rows size"], start: int = 0) -> Rows:
        count = len(z)
        # The last block is filled up with copies of its last row: one shape, one compilation.
        at = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)
        blocks = [(z[rows], start + rows) for rows in at]
        first = jax.device_get(solve_block(*blocks[0]))  # compiles once, before the threads begin
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            rest = threads.map(lambda block: jax.device_get(solve_block(*block)), blocks[1:])
            outputs, status, steps = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], first, *rest)
        return Rows(outputs, status, steps)

    return solve
