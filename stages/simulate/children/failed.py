"""How a run fails by its own fault, and how a process is tied to its parent."""

from __future__ import annotations

import ctypes
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


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (Linux alone)."""
    if _LIBC is not None:
        _LIBC.prctl(_DEATH, signal.SIGKILL)
