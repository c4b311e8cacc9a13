"""A worker's own folder, for what can be made again: sources that were sent, runs, rows whose answer got lost."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_DAY = 24 * 3600.0


@lru_cache(maxsize=1)
def scratch() -> Path:
    """Return the folder, below SIMFER_SCRATCH or where temporary files lie; nobody else may write there."""
    folder = Path(os.environ.get("SIMFER_SCRATCH") or tempfile.gettempdir()) / f"simfer-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or folder.is_symlink():
        raise PermissionError(f"{folder} is somebody else's, or others may write there; set SIMFER_SCRATCH")
    for old in (folder / "ended").glob("*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _DAY:
                old.unlink()
    return folder
