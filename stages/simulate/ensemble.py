"""Many simulations at once, by their kind: ODEs in lanes, any other function in vmapped blocks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from simfer.stages.devices import local_devices, num_programs, platform, running
from simfer.stages.model.plugins import resolve
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.backends.contract import Rows as Rows
from simfer.stages.simulate.backends.lanes import LANES, Lanes, choose_kind
from simfer.stages.simulate.derivatives import with_derivatives
from simfer.stages.simulate.simulators.base import Simulator
from simfer.stages.simulate.simulators.experiments import Experiments
from simfer.stages.simulate.simulators.vectors import with_vectors
from simfer.stages.threads import map_in_threads

_FILLED = 4  # times as many rows as there are, at most


def build_simulator(settings: Simulate) -> Simulator:
    """Build the simulator that the config names, with its options."""
    return assemble(resolve(settings.simulator, SIMULATORS), settings)


def assemble(make: Any, settings: Simulate) -> Simulator:
    """Make a simulator of its class: one, or one for each experiment as a whole."""
    make = with_vectors(make, settings.vectors)
    if not settings.experiments:
        simulator: Simulator = make(**settings.options)
        return simulator
    parts = {name: make(**settings.options | options) for name, options in settings.experiments.items()}
    return Experiments(parts, tuple(settings.each))


def build_ensemble(settings: Simulate, space: Space) -> Ensemble:
    """Return the ensemble of a config; the same one again for the same config, since it takes seconds to compile."""
    made = resolve(settings.simulator, SIMULATORS)
    return _built(made, settings.model_dump_json(exclude_unset=True), json.dumps(space.to_json()), platform())


@lru_cache(maxsize=8)
def _built(made: Any, settings: str, space: str, _: str) -> Ensemble:
    config = Simulate.model_validate_json(settings)
    return Ensemble(assemble(made, config), config, Space.from_json(json.loads(space)))


def least_rows(settings: Simulate) -> int:
    """Return the fewest rows that are worth a call of an ensemble; with less to do, a device would idle."""
    fewest = 64 if platform() == "cpu" else LANES * len(local_devices())
    return max(fewest, 2 * (settings.batch_size or 0))


class Ensemble:
    """A simulator, ready to solve many whitened points.

    Rows are shared out among threads, one for each core, since compiled code lets go of Python's lock; on accelerators,
    of which each serves one caller at a time, among those (all of them, if left out).
    """

    def __init__(self, simulator: Simulator, settings: Simulate, space: Space, devices: Sequence[Any] = ()) -> None:
        self.simulator, self.settings, self.space = simulator, settings, space
        self._kind = choose_kind(simulator, settings)
        backend = platform()
        self._devices = devices or local_devices()
        self._workers = num_programs() if len(self._devices) == 1 else 1
        values, seed = jax.eval_shape(space.values, np.zeros((1, space.size))), self.seeds(np.arange(1), "")
        row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (values, seed))
        self._most_rows = self._kind.most_rows_on(backend, *row)
        solve = self._rows
        if len(self._devices) > 1:
            mesh, rows = Mesh(np.array(self._devices), ("rows",)), PartitionSpec("rows")
            # Each device goes round its own loops: nothing is sent between them.
            solve = jax.shard_map(solve, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
        self._solve, self._sizes = jax.jit(solve), set[int]()

    def __call__(
        self,
        z: Float[np.ndarray, "rows size"],
        rows: Int[np.ndarray, " rows"],
        stream: str = "simulate-0",
        like: int = 0,
    ) -> Rows:
        """Solve whitened points, by what is compiled for `like` of them if they are fewer.

        A stochastic simulator's key is folded from the seed, the stream and the row's number: rows of two streams (of
        two rounds, or of a training set and a check) share no random number.
        """
        size, seeds = self._size(max(len(z), like)), self.seeds(rows, stream)
        parts = [tuple(_padded(each[at : at + size], size) for each in (z, np.ones(len(z), bool), seeds))
                 for at in range(0, len(z), size)]  # fmt: skip

        def solve(part: Any) -> Any:
            with running():
                return jax.device_get(self._solve(*part))

        solved = list(map_in_threads(solve, parts, self._workers))
        joined: Rows = jax.tree.map(lambda *each: np.concatenate(each), *solved)
        return jax.tree.map(lambda leaf: leaf[: len(z)], joined)._replace(steps_done=joined.steps_done)

    def _size(self, num: int) -> int:
        """Return how many rows go into one compiled call: powers of two, so that few are compiled.

        Where rows that fill a call up cost next to nothing, a later round's fewer rows are solved by what is there.
        """
        share = -(-num // (self._workers * len(self._devices)))
        wanted = min(self._most_rows, max(8, 1 << (share - 1).bit_length()))
        there = [size for size in self._sizes if wanted <= size <= _FILLED * wanted]
        size = min(there, default=wanted) if isinstance(self._kind, Lanes) else wanted
        self._sizes.add(size)
        return len(self._devices) * size

    def seeds(self, rows: Int[np.ndarray, " rows"], stream: str) -> Any:
        """Return each row's random key, as data; of no length where nothing is random."""
        if not self.simulator.stochastic:
            return np.zeros((len(rows), 0), np.uint32)
        base = jax.random.fold_in(jax.random.key(self.settings.seed), zlib.crc32(stream.encode()))
        return np.asarray(jax.random.key_data(jax.vmap(lambda row: jax.random.fold_in(base, row))(rows)))

    def _rows(self, z: Float[Array, "rows size"], real: Bool[Array, " rows"], seeds: Array) -> Rows:
        solve, values = partial(self._kind, real=real, seeds=seeds), self.space.values(z)
        if self.settings.derivatives:
            solution, done, derivatives = with_derivatives(solve, values, self.space.names)
        else:
            (solution, done), derivatives = solve(values), {}
        outputs, status, num_steps = solution
        return Rows(self.space.theta(z), outputs, derivatives, status, num_steps, done[None])  # type: ignore[arg-type]


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))
