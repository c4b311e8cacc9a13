"""What XLA compiled is kept in the user's cache folder: the next run of the same shapes compiles nothing again."""

from __future__ import annotations

import gc
import glob
import hashlib
import os
import platform
import re
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

_MAX_BYTES = 512 * 2**20  # a run leaves five to twenty MB
_SWEPT = ".swept"  # when what was long not asked for was last looked for: once a day
_BROKEN = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")
_DAY = 24 * 3600.0
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_OFF = "0", "false", "False"
# Half of what is compiled takes XLA less than the second that JAX would have it take; together they are seconds.
_JAX = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


def keep() -> None:
    """Have JAX keep what it compiles, in a folder of its own for each kind of machine.

    Nobody's choice is passed over: `JAX_COMPILATION_CACHE_DIR` names another folder, and
    `JAX_ENABLE_COMPILATION_CACHE=0` keeps nothing. Where the folder cannot be written, nothing is kept either.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or os.environ.get("JAX_ENABLE_COMPILATION_CACHE") in _OFF:
        return
    try:
        folder = cache_folder() / _machine()
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
    except (OSError, RuntimeError):  # not writable, or a user without a home
        return
    _mend_in(folder)
    settings = _JAX | {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    jax = sys.modules.get("jax")
    if jax is not None:  # it read the environment when it was imported
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _mend_in(folder: Path) -> None:
    """Remove what is broken (its process was killed while it wrote) as JAX warns of it: then it is written anew.

    JAX itself writes nothing where something is, and would warn for ever. It names the program, and no file.
    """
    show: Any = warnings.showwarning
    if getattr(show, "mends", None) == folder:
        return

    def mend(message: Any, *about: Any, **more: Any) -> None:
        if broken := _BROKEN.match(str(message)):
            for file in folder.glob(f"{glob.escape(broken[1])}-*"):
                file.unlink(missing_ok=True)
        show(message, *about, **more)

    mend.mends = folder  # type: ignore[attr-defined]
    warnings.showwarning = mend


def make_room() -> None:
    """Let go of what is compiled, where this process is at a third of the memory maps that Linux lets it have.

    A program takes fifty of them or more, and JAX keeps every one: an hour of flows came to 65,530, at which LLVM ends
    the process. What is needed again is in the cache on disk.
    """
    try:
        most = int(_MOST_MAPS.read_text())
        with _MAPS.open("rb") as maps:
            held = sum(1 for _ in maps)
    except (OSError, ValueError):  # no Linux
        return
    if held > most // 3 and "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


def cache_folder() -> Path:
    """Return where compiled programs are kept: below the folder that the system has for what can be made again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "simfer" / "compiled"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simfer" / "compiled"


def _machine() -> str:
    """Name what machine code depends on beside the program and XLA's flags, which JAX has in its keys.

    A home folder may be shared by machines with other processors; what one cannot run it must never be given.
    """
    from importlib.metadata import version

    parts = version("jaxlib"), platform.machine(), _processor()
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return the processor's model and instructions as Linux tells them, or else the machine's name."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        first = lines[: lines.index("")] if "" in lines else lines
        told = [line for line in first if line.startswith(("flags", "Features", "model name", "CPU part"))]
        if told:
            return "\n".join(told)
    return platform.node()


def _sweep(root: Path) -> None:
    """Remove what was longest not asked for, until what is kept is no larger than it may be."""
    swept = root / _SWEPT
    if swept.exists() and time.time() - swept.stat().st_mtime < _DAY:
        return
    swept.touch()
    files = sorted((file for file in root.glob("*/*") if file.is_file()), key=_last_used, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > _MAX_BYTES:
            file.unlink(missing_ok=True)


def _last_used(file: Path) -> float:
    return max(file.stat().st_atime, file.stat().st_mtime)
