"""Chains in a file: where each of them stands, so that a run that was killed, or a longer one, goes on from there."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

CHAINS = "chains.npz"
_SECONDS = 5.0  # between two writings at least: no number depends on it
_STEP, _STATE, _BEGUN, _SECONDS_SPENT = "step_", "state_", "begun", "seconds"

Steps = dict[str, np.ndarray]  # by the name of a statistic, with leading axes (chain, step)


class Chains:
    """The steps that chains have taken and the states that they stand in, kept in a file or nowhere.

    Numbers alone are in it, no code: a state is read back into the shape of one that was just begun.
    """

    def __init__(self, file: Path | None, *begun: np.ndarray) -> None:
        """Keep chains in a file; `begun` is all that they begin from, and others begin from something else."""
        self.file, self.seconds, self._written = file, 0.0, time.monotonic()
        self._begun = sha256(b"".join(str(part.shape).encode() + part.tobytes() for part in begun)).hexdigest()

    def restore(self, states: Sequence[Any]) -> tuple[list[Any], list[Steps]]:
        """Return the states and the steps of the file; those just begun, and no steps, where it has none of these."""
        stored = self._read()
        leaves, structure = jax.tree.flatten(list(states))
        if stored is None or str(stored[_BEGUN]) != self._begun:
            return list(states), []
        found = [stored[f"{_STATE}{i}"] for i in range(len(leaves)) if f"{_STATE}{i}" in stored]
        if len(found) < len(leaves) or not all(map(_fits, found, leaves)):
            return list(states), []  # of another version of the library that they are of
        self.seconds = float(stored[_SECONDS_SPENT])
        steps = {name.removeprefix(_STEP): array for name, array in stored.items() if name.startswith(_STEP)}
        back = [_unpacked(array, leaf) for array, leaf in zip(found, leaves, strict=True)]
        return jax.tree.unflatten(structure, back), [steps]

    def save(self, states: Sequence[Any], stretches: Sequence[Steps], seconds: float, *, now: bool = False) -> None:
        """Write states and steps, whole or not at all; not yet if that was done just before, unless `now`."""
        if self.file is None or not (now or time.monotonic() - self._written > _SECONDS):
            return
        arrays: dict[str, Any] = {_STEP + name: values for name, values in joined(stretches).items()}
        arrays |= {f"{_STATE}{i}": _packed(leaf) for i, leaf in enumerate(jax.tree.leaves(list(states)))}
        half = self.file.with_name(f"{self.file.name}.partial")
        with half.open("wb") as stream:
            np.savez(stream, **(arrays | {_BEGUN: np.array(self._begun), _SECONDS_SPENT: np.array(seconds)}))
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(self.file)
        self._written = time.monotonic()

    def _read(self) -> Mapping[str, np.ndarray] | None:
        if self.file is None or not self.file.is_file():
            return None
        try:
            with self.file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile):
            return None
        return found if {_BEGUN, _SECONDS_SPENT} <= found.keys() else None


def joined(stretches: Sequence[Steps]) -> Steps:
    """Put stretches of steps one after another."""
    return {name: np.concatenate([part[name] for part in stretches], axis=1) for name in stretches[0]}


def _is_key(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _packed(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _fits(array: np.ndarray, leaf: Array) -> bool:
    packed = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return array.shape == packed.shape and array.dtype == packed.dtype


def _unpacked(array: np.ndarray, leaf: Array) -> Array:
    return jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(leaf) else jnp.asarray(array)
