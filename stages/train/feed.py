"""The rows that networks learn from: held whole, or read a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Window = tuple["Rows", Int[np.ndarray, "members n"]]


class Rows(NamedTuple):
    """Network inputs and scaled outputs, and the derivatives of these by those where they are known."""

    x: Float[Array, "n size"]
    y: Float[Array, "n outputs"]
    slopes: Float[Array, "n size outputs"] | None = None
    real: Bool[Array, " n"] | None = None  # which rows count, where others fill them up

    def pick(self, at: Any) -> Rows:
        """Return some of the rows."""
        return jax.tree.map(lambda part: part[at], self)

    @property
    def sizes(self) -> tuple[int, int]:
        """Return how many numbers a network is given, and how many it gives."""
        return self.x.shape[1], self.y.shape[1]

    @property
    def num_values(self) -> int:
        """Return how many numbers there are in all."""
        return sum(part.size for part in jax.tree.leaves(self))

    def filled(self, size: int) -> Rows:
        """Return the rows, and after them the first ones again, until there are so many."""
        more = size - len(self.x)
        return self if more == 0 else jax.tree.map(lambda part: np.concatenate([part, part[:more]]), self)

    def typed(self, dtype: str) -> Rows:
        """Return the rows as arrays of JAX."""
        return jax.tree.map(lambda part: jax.device_put(np.asarray(part, dtype)), self)


class Feed(NamedTuple):
    """Rows, and which are whose: all of them, or those that stop members and windows on the others."""

    rows: Rows
    stops: Int[np.ndarray, "members m"]
    trains: Int[np.ndarray, "members n"]
    window: Callable[[int], Window] | None = None  # what to train on until look i, in place of `rows` and `trains`

    def members(self, order: Int[np.ndarray, " k"]) -> Feed:
        """Return the feed of some members, of one perhaps several times."""
        window = self.window
        if window is None:
            return self._replace(stops=self.stops[order], trains=self.trains[order])

        def of_these(look: int) -> Window:
            rows, trains = window(look)
            return rows, trains[order]

        return self._replace(stops=self.stops[order], trains=self.trains[order], window=of_these)


def padded_size(count: int) -> int:
    """Return for how many rows to compile where there are `count`: few numbers, which the next round has as well."""
    power = 1 << (count - 1).bit_length()
    step = power if power <= 4096 else power // 16  # of many rows no more than an eighth is added
    return -(-count // step) * step


def whole(rows: Rows, fold: Int[np.ndarray, " n"], held_out: Iterable[int]) -> Feed:
    """Let each member train on all rows but those of one fold, which stop it."""
    numbers = list(held_out)
    return Feed(rows, stack(fold == m for m in numbers), stack(fold != m for m in numbers))


def stack(masks: Iterable[Bool[np.ndarray, " n"]]) -> Int[np.ndarray, "members n"]:
    """Turn masks into rows of indices, the shorter ones filled up from their own beginning."""
    picked = [np.flatnonzero(mask) for mask in masks]
    longest = max(map(len, picked))
    return np.stack([np.resize(each, longest) for each in picked])
