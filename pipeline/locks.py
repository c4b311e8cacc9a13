"""Locks between processes, which die with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`; yield whether it is ours alone, which some file systems cannot grant.

    A lock that another process holds is waited for, which `on_wait` is told first. Without `on_wait`, `Busy` is raised.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # as in /proc, where there are no folders but the system's
        raise PermissionError(errno.EACCES, "no folder can be made here", str(path.parent)) from None
    descriptor, alone = _acquire(path, on_wait)
    try:
        yield alone
    finally:
        if alone:
            path.unlink(missing_ok=True)
        os.close(descriptor)


class Busy(Exception):
    """Another process holds the lock."""


def _acquire(path: Path, on_wait: Callable[[], None] | None) -> tuple[int, bool]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            alone = _flock(descriptor, on_wait)
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever held it before has unlinked it: then what we hold is a lock that no one else can see.
        if not alone or _is_still(descriptor, path):
            return descriptor, alone
        os.close(descriptor)
        on_wait = on_wait and _silent


def _silent() -> None:
    """Say nothing: the wait has been announced."""


def _flock(descriptor: int, on_wait: Callable[[], None] | None) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if on_wait is None:
            raise Busy from None
        on_wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
