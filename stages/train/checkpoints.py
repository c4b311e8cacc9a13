"""What a training that was killed goes on from: one file, replaced at once and never half written. No pickle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from simfer.stages.errors import StageError

SUFFIX = ".checkpoint"
_SECONDS = 20.0  # between two of them


class Checkpoint:
    """A file of a line of JSON and Equinox leaves after it."""

    def __init__(self, file: Path, seconds: float = _SECONDS) -> None:
        self._file, self._seconds, self._last = file.with_suffix(SUFFIX), seconds, time.monotonic()

    def header(self, members: int) -> dict[str, Any]:
        """Return what was said of the state; an empty table where there is none of so many members, by these versions.

        What another version wrote may be shaped otherwise, and would end in other numbers: training begins anew.
        """
        try:
            with self._file.open("rb") as file:
                found = json.loads(file.readline())
        except (OSError, ValueError):
            return {}
        return found if found.get("members") == members and found.get("versions") == _versions() else {}

    def load(self, skeleton: PyTree) -> PyTree:
        """Return the state, shaped as `skeleton`."""
        try:
            with self._file.open("rb") as file:
                file.readline()
                return eqx.tree_deserialise_leaves(file, skeleton)
        except Exception as error:
            raise StageError(f"{self._file} cannot be read ({error}); remove it, and training begins anew") from error

    def save(self, header: dict[str, Any], state: Callable[[], PyTree], now: bool = False) -> None:
        """Write the state, if enough time has passed or `now`."""
        if not now and time.monotonic() - self._last < self._seconds:
            return
        beside = self._file.with_name(f"{self._file.name}.new")
        with beside.open("wb") as file:
            file.write(json.dumps(header | {"versions": _versions()}).encode() + b"\n")
            eqx.tree_serialise_leaves(file, state())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)
        self._last = time.monotonic()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("jax", "equinox", "optax")}


def forget(folder: Path) -> None:
    """Remove the checkpoints of a folder: the training is done."""
    for file in folder.glob(f"*{SUFFIX}*"):
        file.unlink()
