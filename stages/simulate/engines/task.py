"""What a worker does, whatever engine it is of: some rows of one simulator, each in a supervised child below it.

It takes bytes and gives bytes, so that no engine pickles more than those; an exception out of here is the machine's.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from simfer.stages.errors import UserCodeError
from simfer.stages.model.outputs import Status
from simfer.stages.simulate.children.frames import Frame, Reader, encode
from simfer.stages.simulate.children.slots import Slots
from simfer.stages.simulate.children.supervisor import Child, Closed, Done, Wanted
from simfer.stages.simulate.engines import bundle, wanted
from simfer.stages.simulate.engines.scratch import scratch
from simfer.stages.simulate.engines.versions import versions

SLOW = 1.0  # seconds: a row that took longer is on the worker's disk before anybody is told
_LARGEST = 2**22  # bytes of a failed run's folder that are sent back
_idle: dict[str, list[Slots]] = {}  # children without work, by what they were begun with
_lock = threading.Lock()


class Cancelled(Exception):
    """Nobody wants the answer any more."""


def run_task(task: bytes, sources: bytes = b"", is_wanted: Callable[[], bool] | None = None) -> bytes:
    """Run the rows of a task; answer what this worker lacks, or how each row ended.

    Args:
        task: A message that says what simulates, and one for each row.
        sources: The simulator's files, where a worker asked for them.
        is_wanted: Whether somebody still waits for the answer, asked while rows run.
    """
    head, *rows = _messages(task)
    told, here = head.table, {"host": socket.gethostname(), "pid": os.getpid()}
    if (own := versions(told["spec"]["kind"])) != told["versions"]:
        return encode(here | {"differs": own})
    files = bundle.Sources(*told["sources"])
    root = bundle.place(files, sources)
    if root is None:
        return encode(here | {"lacks": files.digest})
    spec = bundle.relocated(told["spec"], files, root)
    try:
        return _run(spec, told, [_wanted(each) for each in rows], is_wanted or wanted.is_wanted(), here)
    except UserCodeError as error:
        return encode(here | {"error": str(error)})


def _run(
    spec: dict[str, Any],
    told: dict[str, Any],
    rows: Sequence[Wanted],
    is_wanted: Callable[[], bool] | None,
    here: dict[str, Any],
) -> bytes:
    begun, answers, again = time.perf_counter(), list[bytes](), list[Wanted]()
    place, ended = scratch() / "runs" / uuid4().hex, scratch() / "ended"
    # Of a first run nothing is kept, and of rows that are known to be fast it is not worth the while.
    names = {row.number: identity(told["key"], row) for row in rows if told["slow"] and row.number >= 0}
    for row in rows:
        if row.number in names and (kept := _kept(ended / names[row.number])) is not None:
            answers.append(kept)  # it had ended before, and its worker with it
        else:
            again.append(row._replace(folder=str(place / str(row.number))))

    def take(done: Done) -> None:
        answers.append(_answer(done, place / str(done.number) if told["keep"] else None))
        if done.number in names and done.seconds > SLOW and done.status == Status.OK:
            _keep(ended / names[done.number], answers[-1])

    try:
        with _children(spec, told) as slots, _watch(slots, is_wanted):
            if not rows:
                return encode(here | {"facts": slots.begin()})
            slots.run(again, told["outputs"], take)
    except Closed:
        raise Cancelled from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name in told["taken"]:
        (ended / name).unlink(missing_ok=True)
    return encode(here | {"seconds": time.perf_counter() - begun, "rows": len(again)}) + b"".join(answers)


def end_children() -> None:
    """End the children that are without work."""
    with _lock:
        children = [each for name in list(_idle) for each in _idle.pop(name)]
    for each in children:
        each.close()


def read_answer(answer: bytes) -> tuple[dict[str, Any], list[Done]]:
    """Read what a task answered: what the worker said of itself, and how each row ended."""
    head, *rows = _messages(answer)
    return head.table, [Done(y=each.numbers, **each.table) for each in rows]


def identity(key: str, row: Wanted) -> str:
    """Name a row by all that its result depends on; `key` is that of the simulator."""
    text = json.dumps([key, row.number, row.parameters, row.seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def unpack_run(packed: str, folder: Path) -> None:
    """Write a failed run's folder, which came with its row."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as file:
        file.extractall(folder)  # which leaves ".." and absolute paths out


def _messages(data: bytes) -> list[Frame]:
    reader = Reader()
    reader.feed(data)
    return list(reader.frames())


def _wanted(frame: Frame) -> Wanted:
    return Wanted(frame.table["row"], frame.table["parameters"], frame.table["seed"])


def _answer(done: Done, folder: Path | None) -> bytes:
    more = dict(done.more)
    if folder and done.status != Status.OK and folder.is_dir():
        more["run"] = _packed(folder)
    table = {**done._asdict(), "more": more}
    del table["y"]
    return encode(table, done.y)


def _packed(folder: Path) -> str:
    """Return the files of a run, the small ones first, as many as may be sent."""
    files = sorted((each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()),
                   key=lambda each: each.stat().st_size)  # fmt: skip
    out, size = io.BytesIO(), 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for each in files:
            size += each.stat().st_size
            if size > _LARGEST:
                break
            packed.write(each, each.relative_to(folder).as_posix())
    return base64.b64encode(out.getvalue()).decode()


def _kept(file: Path) -> bytes | None:
    try:
        answer = file.read_bytes()
    except OSError:
        return None
    return answer if len(_messages(answer)) == 1 else None  # with its checksum


def _keep(file: Path, answer: bytes) -> None:
    """Put a slow row on the disk before it is told: whoever runs it again after a loss finds it."""
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f".{file.name}-{uuid4().hex[:8]}")
    with partial.open("wb") as out:
        out.write(answer)
        out.flush()
        partial.rename(file)  # from here on no kill takes it away; a machine that goes down might, until
        os.fsync(out.fileno())


@contextmanager
def _children(spec: dict[str, Any], told: dict[str, Any]) -> Iterator[Slots]:
    """Lend a child that was begun for the same simulator; those of other simulators are ended."""
    key = json.dumps([spec, told["timeout"], told["most"]], sort_keys=True)
    with _lock:
        others = [each for name in list(_idle) if name != key for each in _idle.pop(name)]
        free = _idle.get(key, [])
        slots = free.pop() if free else Slots(lambda: Child(spec, told["timeout"], told["most"]), 1)
    for other in others:
        other.close()
    try:
        yield slots
    except BaseException:
        slots.close()
        raise
    with _lock:
        _idle.setdefault(key, []).append(slots)


@contextmanager
def _watch(slots: Slots, is_wanted: Callable[[], bool] | None) -> Iterator[None]:
    """End what runs when nobody waits for it any more: no engine stops a task that has begun."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(1.0):
            if not is_wanted():  # type: ignore[misc]
                slots.close()
                return

    if is_wanted is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
