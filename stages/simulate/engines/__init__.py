"""Who drains rows that run outside this process: each kind of engine is one file here, and one line of this table.

Below every engine, user code runs in a supervised child, one row at a time; above it, the driver alone writes the
store. So an engine is no more than slots, and a way to have `task.run_task` called in them.
"""

from __future__ import annotations

import atexit
from importlib import import_module
from pathlib import Path
from typing import Any

from simfer.stages.settings.engines import LOCAL
from simfer.stages.simulate.engines.contract import Engine

ENGINES: dict[str, str] = {
    "dask": "simfer.stages.simulate.engines.dask:Dask",
    "spool": "simfer.stages.simulate.engines.spool:Spool",
}
_open: dict[str, Engine] = {}  # those of this process: to connect takes longer than a small stage


def engine_of(name: str | None) -> Engine | None:
    """Return the engine of that name, connected; None where rows run on this machine.

    Args:
        name: "dask" or "dask:ADDRESS", "spool:FOLDER", "file.py:make"; "local" or None for this machine.

    Raises:
        StageError: It cannot be reached.
    """
    if name is None or name == LOCAL:
        return None
    if name in _open and not _open[name].gone():
        return _open[name]
    kind, _, where = name.partition(":")
    if kind in ENGINES:
        module, _, attribute = ENGINES[kind].partition(":")
        made: Any = getattr(import_module(module), attribute)
        engine: Engine = made(where)
    else:
        from simfer.stages.simulate.engines.executors import Executors

        file, _, attribute = name.rpartition(":")
        engine = Executors(Path(file), attribute)
    _open[name] = engine
    return engine


def close_all() -> None:
    """Let go of every engine that this process is connected to."""
    while _open:
        _open.popitem()[1].close()


atexit.register(close_all)
