"""Simfer's machinery: config, plan, cache, command line. `run` and `load` are the way in from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simfer.pipeline.results import Result, load, run

if (
    __name__ != "simfer.pipeline"
):  # found because the folder lies on Python's path: its classes would be others than Simfer's
    raise ImportError("this is simfer.pipeline; what there is to import is in simfer: from simfer import run")

__all__ = ["Result", "load", "run"]


def __getattr__(name: str) -> Any:
    """Import the way in when it is used: the command line answers `--help` without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simfer.pipeline import results

    return getattr(results, name)
