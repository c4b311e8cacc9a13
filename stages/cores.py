"""The cores that this process may use: fewer than the machine has, in a job of a cluster or a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def num_cores() -> int:
    """Count the cores that this process may use: those it is bound to, and no more than its control group's share.

    Returns:
        The number of threads that compute without waiting for one another, at least 1.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(ceil(share) for share in _shares())]))


def _shares() -> Iterator[float]:
    """Yield the cores' worth of time that the process's control group and those above it are held to (Linux, v2)."""
    with suppress(OSError, StopIteration):
        line = next(line for line in _OWN.read_text().splitlines() if line.startswith("0::"))
        own = Path(line.removeprefix("0::").lstrip("/"))
        for group in (own, *own.parents):
            with suppress(OSError, ValueError):  # no limit is "max"; without a file there is none
                quota, period = (_GROUPS / group / "cpu.max").read_text().split()
                yield int(quota) / int(period)
