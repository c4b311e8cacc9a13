"""Who is alive, as a shared folder tells it: each touches a file of its own, and clocks are compared to no others."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_BEAT = 5.0  # seconds
_DEAD = 60.0  # seconds without a beat; file systems of clusters show a change late


class Heartbeat:
    """This process's own file, touched as long as it lives."""

    def __init__(self, folder: Path, content: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self.file.write_text(content)
        self._is_over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def name(self) -> str:
        """What others know this process by."""
        return self.file.name

    def _beat(self) -> None:
        while not self._is_over.wait(_BEAT):
            with suppress(OSError):
                self.file.touch()

    def is_alive(self, other: Path) -> bool:
        """Say whether another process is alive: by its number on this machine, by its last touch on others."""
        try:
            age = self.file.stat().st_mtime - other.stat().st_mtime
        except OSError:
            return False
        host, pid, _ = other.name.rsplit("-", 2)
        if host == socket.gethostname():
            return _runs(int(pid))
        return age < _DEAD

    def end(self) -> None:
        """Say that it is over."""
        self._is_over.set()
        self.file.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):  # one that is dead and not waited for
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
