"""How a run fails by its own fault, and how a process is tied to its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from simfer.stages.model.outputs import Status

_DEATH = 1  # PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Failed(Exception):
    """A simulation failed and says how: a `Status`, and words."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Unreachable(Exception):
    """What gives the rows cannot be reached: no row is at fault."""


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends, however that happens (Linux alone)."""
    if _LIBC is not None:
        _LIBC.prctl(_DEATH, by)


def take_group_along() -> None:
    """Have this process end with its parent, and with it all that it started, none of which knows of the parent."""
    signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(0, signal.SIGKILL))
    die_with_parent(signal.SIGTERM)
