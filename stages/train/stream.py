"""Rows that do not fit into memory: read from disk in shuffled pieces while the last ones are trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from simfer.stages.artifacts.training_set import TEST
from simfer.stages.errors import StageError
from simfer.stages.train.feed import Feed, Rows, Window, stack

_SHARE = 8  # of the memory: the window in use, the next one, copies of either, and the rows that stop members


class Stream(NamedTuple):
    """A training set on disk: `read(start, stop)` gives rows, `piece` many lie together there."""

    read: Callable[[int, int], Rows]
    fold: Int[np.ndarray, " n"]
    piece: int
    memory: int
    seed: int = 0

    @property
    def sizes(self) -> tuple[int, int]:
        """Return how many numbers a network is given, and how many it gives."""
        return self.read(0, 1).sizes

    def feed(self, held_out: Int[np.ndarray, " members"]) -> Feed:
        """Give each member windows on the rows that it may see; of the others, as many stop it as there is room for."""
        most = max(self.memory // (_SHARE * 8 * self.read(0, 1).num_values), 1)
        stop_at = np.flatnonzero(np.isin(self.fold, held_out) & (self.fold != TEST))
        stop_at = stop_at[np.linspace(0, len(stop_at) - 1, min(most, len(stop_at))).astype(int)]
        rows, fold = self._pick(stop_at), self.fold[stop_at]
        windows = _Windows(self, held_out, most)
        stops = stack(fold == m for m in held_out)
        return Feed(rows, stops, np.zeros((len(held_out), 1), int), windows)

    def _pick(self, at: Int[np.ndarray, " k"]) -> Rows:
        parts = [
            self.read(start, min(start + self.piece, len(self.fold))).pick(here - start)
            for start in range(0, len(self.fold), self.piece)
            if len(here := at[(start <= at) & (at < start + self.piece)])
        ]
        return joined(parts)


class _Windows:
    """Window i is made of pieces i k to (i + 1) k of all that there are, shuffled anew when each had its turn."""

    def __init__(self, stream: Stream, held_out: Int[np.ndarray, " members"], most: int) -> None:
        self._stream, self._held_out = stream, held_out
        self._length = min(stream.piece, most, len(stream.fold))
        self._pieces = -(-len(stream.fold) // self._length)
        self._count = min(max(most // self._length, 1), self._pieces)
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Window]] | None = None

    def __call__(self, look: int) -> Window:
        """Return a window, and begin to read the one after it."""
        window = self._next[1].result() if self._next and self._next[0] == look else self._read(look)
        self._next = (look + 1, self._thread.submit(self._read, look + 1))
        return window

    def _read(self, look: int) -> Window:
        starts = [self._length * self._piece(look * self._count + k) for k in range(self._count)]
        last = len(self._stream.fold) - self._length  # where the last piece begins: it shares rows with the one before
        spans = [(start, start + self._length) for start in np.minimum(starts, last).tolist()]
        rows = joined([self._stream.read(*span) for span in spans])
        fold = np.concatenate([self._stream.fold[slice(*span)] for span in spans])
        size = len(fold)
        trains = [np.flatnonzero((fold != m) & (fold != TEST)) for m in self._held_out]
        if not all(map(len, trains)):
            raise StageError(
                f"train.memory: got {self._stream.memory:,} bytes, room for {size} rows at a time, and of some that "
                "lie together none is to be trained on; expected room for more"
            )
        return rows, np.stack([np.resize(each, size) for each in trains])

    def _piece(self, turn: int) -> int:
        epoch, at = divmod(turn, self._pieces)
        return int(np.random.default_rng((self._stream.seed, epoch)).permutation(self._pieces)[at])


def joined(parts: list[Rows]) -> Rows:
    """Put rows together, one after another."""
    return jax.tree.map(lambda *each: np.concatenate(each), *parts)
