"""What has to be so before JAX computes anything, and what the work ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from simfer.pipeline.chain import SimferError, num_cores
from simfer.pipeline.manifest import file_digest

_imported: dict[Path, str] = {}  # user's files -> their digests when they were last imported
# A loop without matrix products becomes one piece of machine code, however large its arrays. By default XLA runs what
# is in each turn piece by piece, shared out among threads: that costs more than what the lanes of an ensemble do.
_WHOLE_LOOPS = "xla_backend_extra_options", "xla_cpu_small_while_loop_byte_threshold=1000000000"
_PACKAGES = ("jax", "jaxlib", "equinox", "optax", "diffrax", "numpyro", "zarr", "numpy", "simfer")


def prepare() -> None:
    """Set JAX to 64 bits, a device per core and whole loops; refuse to go on where it was imported in 32 bits.

    XLA reads its flags when the first array is made: one who imports JAX first, and makes none, has them too.
    """
    if "jax" not in sys.modules:
        os.environ.setdefault("JAX_ENABLE_X64", "1")
    elif not sys.modules["jax"].config.jax_enable_x64:
        raise SimferError(
            "JAX was imported with 32-bit numbers, in which ODE solvers and samplers lose their way. "
            'Write jax.config.update("jax_enable_x64", True) right after `import jax`.'
        )
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in (("xla_force_host_platform_device_count", num_cores()), _WHOLE_LOOPS):
        if f"--{name}" not in flags:
            flags = f"{flags} --{name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags


def forget_edited(files: Collection[Path]) -> None:
    """Have the user's modules imported anew if one was edited since they were (as it is from a notebook)."""
    digests = {file: file_digest(file) for file in files}
    if any(_imported.get(file, digest) != digest for file, digest in digests.items()):
        known = {str(file) for file in (*_imported, *files)}
        for name, module in list(sys.modules.items()):
            if str(Path(getattr(module, "__dict__", {}).get("__file__") or "").resolve()) in known:
                del sys.modules[name]
    _imported.update(digests)


def device() -> str:
    """Describe what the last stage ran on; JAX starts its devices if it has not, so ask only after a stage."""
    if "jax" not in sys.modules:
        return f"{platform.machine()} x {num_cores()}"
    devices = sys.modules["jax"].devices()
    return f"{devices[0].device_kind} x {len(devices)}"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on, without importing them."""
    return {"python": platform.python_version(), **{name: found for name in _PACKAGES if (found := _version(name))}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def revision(folder: Path) -> str | None:
    """Return the git revision of a folder ("-dirty" where files differ from it), if it is under git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def prepare_quietly() -> None:
    """Prepare, and leave it to a run to refuse a JAX that is in 32 bits already."""
    with suppress(SimferError):
        prepare()
