"""The emulator architectures a config can name. A new one is one file here and one line in this table."""

from __future__ import annotations


def __getattr__(name: str) -> object:
    # The base class needs JAX; whoever only reads the table must not wait for it.
    if name == "Architecture":
        from simfer.stages.emulator.architectures.base import Architecture

        return Architecture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
