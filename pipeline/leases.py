"""Leases: what a run still needs of a store, so that no sweep takes it from under the run.

A lease is a file `.leases/<id>` with a fingerprint on each line, locked by the run for as long as it goes on: it ends
with the process, however that ends. Leases are written, and folders swept, by whoever holds `.locks/leases`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from simfer.pipeline.locks import lock

_SECONDS_WITHOUT_LOCKS = 24 * 3600  # that a lease is believed where the file system cannot say who holds it


class Lease:
    """What one run needs; nothing is written before there is something to hold."""

    def __init__(self, root: Path) -> None:
        self._root, self._held, self._file = root, set[str](), _folder(root) / uuid4().hex
        self._descriptor: int | None = None

    def hold(self, fingerprint: str) -> None:
        """Keep an artifact, whole or yet to be built, from being swept while the run goes on."""
        if fingerprint in self._held:
            return
        # A store that cannot be written to is none that this user sweeps: what is read there needs no lease.
        with suppress(PermissionError, FileNotFoundError, OSError), alone(self._root):
            if self._descriptor is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                with suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._descriptor, f"{fingerprint}\n".encode())
            self._held.add(fingerprint)

    def end(self) -> None:
        """Let go of everything."""
        if self._descriptor is not None:
            self._file.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor, self._held = None, set()


@contextmanager
def lease(root: Path) -> Iterator[Lease]:
    """Open a lease that ends with the block."""
    opened = Lease(root)
    try:
        yield opened
    finally:
        opened.end()


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only one who writes leases, or who looks at them in order to sweep."""
    with lock(root / ".locks" / "leases", lambda: None):
        yield


def leased(root: Path) -> set[str]:
    """Return the fingerprints that runs hold now; the files of runs that have ended are removed."""
    held: set[str] = set()
    for file in _folder(root).glob("*"):
        with suppress(FileNotFoundError):
            if _is_alive(file):
                held |= set(file.read_text(encoding="ascii", errors="replace").split())
            else:
                file.unlink(missing_ok=True)
    return held


def _is_alive(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime < _SECONDS_WITHOUT_LOCKS
    finally:
        os.close(descriptor)
    return False


def _folder(root: Path) -> Path:
    return root / ".leases"
