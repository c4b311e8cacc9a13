"""Any executor of concurrent.futures: Parsl, MPI, loky, made by a function of the user's."""

from __future__ import annotations

import importlib.util
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from simfer.stages.cores import num_cores
from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.task import run_task

_SLOTS = "slots", "num_workers", "_max_workers"  # where executors have the number of their workers


class Executors(Engine):
    """What "file.py:make" returns, and returns anew when it broke."""

    def __init__(self, file: Path, name: str) -> None:
        self.words = f"{file.name}:{name}"
        spec = importlib.util.spec_from_file_location(f"simfer_engine_{file.stem}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._make: Any = getattr(module, name, None)
        if self._make is None:
            raise ConfigError([Mistake("simulate.engine", f"{file.name} defines no {name}")])
        self._lock, self._executor = Lock(), self._made()

    def _made(self) -> Executor:
        made = self._make()
        if not isinstance(made, Executor) and not hasattr(made, "submit"):
            what = f"{self.words} returned {type(made).__name__}; expected an executor of concurrent.futures"
            raise ConfigError([Mistake("simulate.engine", what)])
        executor: Executor = made
        return executor

    def slots(self) -> int:
        """Count its workers, as the executor has them: `slots`, if it is said there."""
        told = (getattr(self._executor, name, None) for name in _SLOTS)
        return next((int(number) for number in told if isinstance(number, int) and number > 0), num_cores())

    def submit(self, task: bytes, sources: bytes) -> Future[bytes]:
        """Submit to it; to a new one if it broke, as a pool of processes does when one of them is killed."""
        with self._lock:
            try:
                return self._executor.submit(run_task, task, sources)
            except BrokenExecutor:
                self._let_go()
                self._executor = self._made()
                return self._executor.submit(run_task, task, sources)

    def _let_go(self) -> None:
        with suppress(Exception):  # of whatever kind it is
            self._executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Shut the executor down."""
        self._let_go()
