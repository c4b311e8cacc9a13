"""Dask distributed: a scheduler by its address or its file, and workers that the user starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from simfer.stages.errors import ConfigError, Mistake, StageError
from simfer.stages.simulate.engines.contract import Engine
from simfer.stages.simulate.engines.task import run_task

_CONNECT = 20.0  # seconds
_FRESH = 2.0  # seconds for which the number of workers is believed
_AWAY = 15.0  # seconds without the scheduler after which it is taken for gone
_LOOPBACK = "tcp://127.", "tcp://localhost", "inproc://", "tls://", "ucxx://127."


class Dask(Engine):
    """A cluster of Dask's, whatever it runs on."""

    def __init__(self, where: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            what = 'dask needs distributed, which is not installed: pip install "simfer[dask]"'
            raise ConfigError([Mistake("simulate.engine", what)]) from None
        given: dict[str, Any] = {"scheduler_file": where} if _is_file(where) else {"address": where or None}
        if not where and not _configured():
            what = (
                'got "dask" alone, expected an address or a scheduler file: dask:tcp://HOST:8786, '
                "dask:scheduler.json; or DASK_SCHEDULER_ADDRESS in the environment"
            )
            raise ConfigError([Mistake("simulate.engine", what)])
        if _is_file(where) and not Path(where).exists():
            raise StageError(f"no scheduler file {where}: `dask scheduler --scheduler-file {where}` writes it")
        try:
            self._client: Any = Client(timeout=_CONNECT, set_as_default=False, name="simfer", **given)
        except (OSError, TimeoutError) as error:
            raise StageError(f"no Dask scheduler answers at {where or _configured()}: {error}") from None
        self._address = str(self._client.scheduler_info(n_workers=0)["address"])
        self.words = f"Dask {self._address}"
        self._seen, self._asked, self._workers = time.monotonic(), -_FRESH, dict[str, int]()

    def slots(self) -> int:
        """Count the threads of its workers, as they were a moment ago: to ask is a message to the scheduler."""
        if time.monotonic() - self._asked > _FRESH and self._client.status == "running":
            with suppress(Exception):  # the scheduler may be away
                self._workers = dict(self._client.nthreads())
            self._asked = time.monotonic()
        return sum(self._workers.values())

    def submit(self, task: bytes, sources: bytes) -> Future[bytes]:
        """Submit to the scheduler; equal tasks are not one, as Dask would have it.

        Its own executor lets a result go when nobody refers to its future any more: until then the scheduler keeps it,
        fetched or not, and has it computed once more where the worker that holds it dies.
        """
        remote = self._client.submit(run_task, task, sources, pure=False)
        answer: Future[bytes] = Future()
        self._client.loop.add_callback(_hand_over, remote, answer)
        answer.add_done_callback(partial(_let_go, remote))
        return answer

    def deaths(self, error: BaseException) -> int:
        """Count the workers that the scheduler lost with a task before it gave it up; none while it is away itself."""
        if self._client.status != "running":
            return 0
        return 3 if type(error).__name__ == "KilledWorker" else 1

    def gone(self) -> str:
        """Say that the scheduler is gone: with it goes all that it knew, and nothing that is here."""
        status = self._client.status
        if status == "running":
            self._seen = time.monotonic()
        elif status == "closed" or time.monotonic() - self._seen > _AWAY:
            return (
                f"the scheduler of {self.words} is gone. What is finished is kept: start a scheduler and workers "
                "again, and run the same command"
            )
        return ""

    def help(self) -> str:
        """Say how workers are started."""
        return f"start some: dask worker {self._address} --nthreads 1 --memory-limit 0"

    def ready(self, note: Callable[[str], None]) -> None:
        """Wait for a worker, as a job in a queue does."""
        if not self.slots():
            note(f"  {self.words}: no worker yet; waiting for one ({self.help()})")
        while not self.slots():
            if said := self.gone():
                raise StageError(said)
            time.sleep(1.0)
        note(f"  {self.words}: {len(self._workers)} workers, {self.slots()} slots")
        if not self._address.startswith(_LOOPBACK):
            note("  it is reached without TLS: whoever reaches it too can run code in your name")

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception, CancelledError):
            self._client.close(timeout=5)


async def _hand_over(remote: Any, answer: Future[bytes]) -> None:
    """Wait on the client's loop for what a task gives, and pass it on."""
    try:
        result: bytes = await remote
    except CancelledError:  # the scheduler is gone, or nobody waits any more
        answer.cancel()
        answer.set_running_or_notify_cancel()
    except Exception as error:
        if answer.set_running_or_notify_cancel():
            answer.set_exception(error)
    else:
        if answer.set_running_or_notify_cancel():
            answer.set_result(result)


def _let_go(remote: Any, answer: Future[bytes]) -> None:
    """Have the scheduler forget a task."""
    with suppress(Exception):  # the scheduler may be away
        remote.cancel() if answer.cancelled() and remote.status != "cancelled" else remote.release()


def _is_file(where: str) -> bool:
    return bool(where) and "://" not in where and (where.endswith(".json") or "/" in where)


def _configured() -> str:
    import dask

    return str(dask.config.get("scheduler-address", None) or "")
