"""What has to be so before JAX computes anything, and what the work ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, compilations
from simfer.pipeline.chain import SimferError, num_cores
from simfer.pipeline.manifest import file_digest

# A loop without matrix products becomes one piece of machine code, however large its arrays. By default XLA runs what
# is in each turn piece by piece, shared out among threads: that costs more than what the lanes of an ensemble do.
_WHOLE_LOOPS = "xla_backend_extra_options", "xla_cpu_small_while_loop_byte_threshold=1000000000"
_started_in: int | None = None  # the process in which JAX was first seen at work
_NARROW = "float32", "complex64", "int32"  # what JAX makes of numbers unless it is told otherwise
_PACKAGES = ("jax", "jaxlib", "equinox", "optax", "diffrax", "numpyro", "zarr", "numpy", "simfer")


def prepare() -> None:
    """Set JAX to all of its bits, a device per core, whole loops and a cache of programs, imported before or not.

    XLA reads its flags when the first array is made: one who imports JAX first, and makes none, has them too.

    Raises:
        SimferError: Arrays in 32 bits were made already; what was computed with them would stay inexact. Or this is a
            fork of a process in which JAX was at work.
    """
    _refuse_forks()
    os.environ["JAX_ENABLE_X64"] = "1"
    # XLA's alarms ("Constant folding an instruction is taking > 1s") are logged as errors; what is one is raised, too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # NumPyro imports tqdm, which in a notebook asks for widgets; Simfer draws no bar of its.
    warnings.filterwarnings("ignore", "IProgress not found")
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in (("xla_force_host_platform_device_count", num_cores()), _WHOLE_LOOPS):
        if f"--{name}" not in flags:
            flags = f"{flags} --{name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags
    # Programs side by side each hold one of XLA's threads while others do their parts: of LAPACK over many small
    # matrices, if all are held, none comes to an end. On one core there is one program, and nobody to share it with:
    # a step of NUTS that is shared out waits for the other thread to be woken, and takes up to twice as long.
    os.environ.setdefault("PJRT_NPROC", str(num_cores() + 1 if num_cores() > 1 else 1))
    # An accelerator rounds the factors of products of 32 bits to fewer unless it is told not to; and JAX takes three
    # quarters of its memory at once, of which worker processes, or a second run, then have nothing.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    compilations.keep()
    jax = sys.modules.get("jax")
    if jax is not None and not jax.config.jax_enable_x64:
        _refuse_narrow(jax)
        jax.config.update("jax_enable_x64", True)
    if jax is not None and jax.config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", os.environ["JAX_DEFAULT_MATMUL_PRECISION"])


def _refuse_forks() -> None:
    """Stop in a process that was forked from one in which JAX was at work: it would wait for threads not copied."""
    global _started_in
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is None or not getattr(bridge, "backends_are_initialized", lambda: False)():
        return
    _started_in = _started_in or os.getpid()
    if _started_in != os.getpid():
        raise SimferError(
            "this process was forked from one in which JAX had computed something, and JAX would wait here for threads "
            'that a fork does not copy. Start processes by multiprocessing.get_context("spawn"), or run `simfer`'
        )


def _refuse_narrow(jax: Any) -> None:
    """Stop where JAX made arrays in 32 bits: whether by default or by choice, they do not tell.

    Nothing is said of types that are nobody's default (bfloat16), nor of keys, which are uint32 in any case.
    """
    narrow = [array for array in jax.live_arrays() if str(array.dtype) in _NARROW]
    if narrow:
        shown = ", ".join(f"{array.dtype}{list(array.shape)}" for array in narrow[:3])
        raise SimferError(
            f"JAX holds arrays in 32 bits, in which ODE solvers and samplers lose their way: {len(narrow)}, such as "
            f'{shown}. Start Python again, and import what you need from simfer, or write jax.config.update("'
            'jax_enable_x64", True), before the first of them is made.'
        )


def forget_edited(files: Collection[Path]) -> None:
    """Have the user's modules imported anew if one was edited since it was run (as it is from a notebook)."""
    executed = chain.executed()
    if any(executed.get(file, now) != now for file, now in ((file, file_digest(file)) for file in files)):
        chain.forget({*executed, *files})


def refuse_narrow() -> None:
    """Stop if JAX was set to 32 bits since `prepare`, as by a method of the user's: what it computed is not kept."""
    jax = sys.modules.get("jax")
    if jax is not None and not jax.config.jax_enable_x64:
        jax.config.update("jax_enable_x64", True)
        raise SimferError(
            "JAX was set to 32 bits while this ran, and nothing of it was kept: take jax.config.update("
            '"jax_enable_x64", False) out of your code, or out of what it calls'
        )


def device() -> str:
    """Describe what the last stage ran on; JAX starts its devices if it has not, so ask only after a stage."""
    if "jax" not in sys.modules:
        return f"{platform.machine()} x {num_cores()}"
    jax = sys.modules["jax"]
    chosen = jax.config.jax_default_device
    devices = jax.devices(getattr(chosen, "platform", chosen))
    return f"{devices[0].device_kind} x {len(devices)}"


def precision() -> str:
    """Return the type that JAX gives to numbers, which is float64 in whatever is kept."""
    jax = sys.modules.get("jax")
    return "float32" if jax is not None and not jax.config.jax_enable_x64 else "float64"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on, without importing them."""
    return {"python": platform.python_version(), **{name: found for name in _PACKAGES if (found := _version(name))}}


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # with all of `email`: a help has no use for it

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
