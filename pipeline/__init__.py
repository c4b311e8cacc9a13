"""Simfer's machinery: config, plan, cache, command line. `run` and `load` are the way in from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simfer.pipeline.results import Result, load, run

__all__ = ["Result", "load", "run"]


def __getattr__(name: str) -> Any:
    """Import the way in when it is used: the command line answers `--help` without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simfer.pipeline import results

    return getattr(results, name)
