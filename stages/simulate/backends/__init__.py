"""Where rows come from: each kind of simulator is one file here, and one line of this table."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from simfer.stages.errors import StageError
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.settings.engines import LOCAL
from simfer.stages.simulate.backends.contract import Backend

BACKENDS: dict[str, str] = {
    "jax elsewhere": "simfer.stages.simulate.backends.compiled_elsewhere:CompiledElsewhere",
    "jax": "simfer.stages.simulate.backends.compiled:Compiled",
    "http": "simfer.stages.simulate.backends.http:Http",
    "program": "simfer.stages.simulate.backends.program:Program",
    "python": "simfer.stages.simulate.backends.python:Python",
    "table": "simfer.stages.simulate.backends.table:Table",
}


def build_backend(settings: Simulate, space: Space) -> Backend:
    """Return what gives rows of a config: a `Backend` of the kind that `Simulate.kind` says, after a table's if any."""
    if settings.kind == "ask":
        raise StageError("runs for this are not asked for: it takes a simulator that can be run, or finished runs")
    is_sent = settings.kind == "jax" and settings.engine not in (None, LOCAL)
    backend = _built("jax elsewhere" if is_sent else settings.kind, settings, space)
    if settings.table is None or settings.kind == "table":
        return backend
    from simfer.stages.simulate.backends.table import Table, TableFirst

    return TableFirst(Table(settings, space), backend)


def _built(kind: str, settings: Simulate, space: Space) -> Backend:
    module, _, name = BACKENDS[kind].partition(":")
    made: Any = getattr(import_module(module), name)
    backend: Backend = made(settings, space)
    return backend
