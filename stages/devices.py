"""Which device computes: accelerators what there is much of, the processor beside them what there is little of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import BoundedSemaphore, local
from typing import Any

import jax

from simfer.stages.cores import num_cores

# A processor's program is run by the thread that calls it: where XLA hands it to its own, those are handed out among
# the programs side by side, and what is wanted next waits for one to be woken. Read when the first array is made.
jax.config.update("jax_cpu_enable_async_dispatch", False)
_bridge = sys.modules.get("jax._src.xla_bridge")
_STARTED = bool(getattr(_bridge, "backends_are_initialized", lambda: False)())  # by others: XLA read none of our flags
_own = local()  # to each thread


def chosen() -> Any:
    """Return the device that computes whatever there is, or its kind; None where nobody chose."""
    config: Any = jax.config
    return config.jax_default_device


def platform() -> str:
    """Return the kind of device that arrays are made on: cpu, gpu or another of JAX's."""
    device = chosen()
    return jax.default_backend() if device is None else str(getattr(device, "platform", device))


def local_devices() -> list[Any]:
    """Return the devices of this kind that a computation may be shared out among: all accelerators, or a processor.

    A processor's are its cores, among which threads share out by themselves.
    """
    found = jax.local_devices(backend=platform())
    return found[:1] if platform() == "cpu" else found


def num_programs() -> int:
    """Return how many programs a processor runs side by side; an accelerator serves one at a time."""
    return min(num_cores(), _most_programs()) if platform() == "cpu" else 1


@contextmanager
def running() -> Iterator[None]:
    """Wait until a program may be run beside those that run, whichever threads these are in; it is to end within."""
    if platform() != "cpu" or getattr(_own, "running", False):  # what runs may be tracing, and ask for another
        yield
        return
    with _slots():
        _own.running = True
        try:
            yield
        finally:
            _own.running = False


@cache
def _slots() -> BoundedSemaphore:
    return BoundedSemaphore(_most_programs())


@cache
def _most_programs() -> int:
    """Return how many programs XLA can run at once: fewer than it has threads.

    Where programs hold all of them, none comes to an end that has LAPACK work on many small matrices: it waits for a
    thread to do its parts.
    """
    asked = os.environ.get("PJRT_NPROC", "")
    threads = int(asked) if asked.isdigit() and not _STARTED else num_cores()
    return max(1, max(threads, len(jax.local_devices(backend="cpu"))) - 1)


@contextmanager
def on_processor() -> Iterator[None]:
    """Have what is within computed on the processor, in all threads, though there is an accelerator.

    An accelerator compiles a program for seconds, and serves a few numbers no faster. Nobody's choice is passed over:
    a default device that is set (`JAX_DEFAULT_DEVICE=gpu`) computes all.
    """
    processor = None
    if chosen() is None and jax.default_backend() != "cpu":
        with suppress(RuntimeError):  # left out by JAX_PLATFORMS
            processor = jax.local_devices(backend="cpu")[0]
    if processor is None:
        yield
        return
    jax.config.update("jax_default_device", processor)
    try:
        yield
    finally:
        jax.config.update("jax_default_device", None)
