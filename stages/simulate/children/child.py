"""What runs in a child: it is told what to simulate, and then row after row, until its pipe is closed."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from simfer.stages.model.outputs import Status
from simfer.stages.simulate.children.failed import Failed, Unreachable, die_with_parent, take_group_along
from simfer.stages.simulate.children.frames import Frame, Reader, encode, write_all
from simfer.stages.simulate.children.returned import BadOutput, Expected
from simfer.stages.simulate.children.templates import TemplateError

KINDS = {
    "python": "simfer.stages.simulate.children.experiments:simulation_of",
    "jax": "simfer.stages.simulate.children.compiled:Solving",
    "http": "simfer.stages.simulate.children.servers:Server",
    "program": "simfer.stages.simulate.children.programs:Program",
}
_TAIL = 4096  # bytes of what a row said last
_MACHINE = errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EROFS
_LONGEST = 4000  # characters of a reason


def main(wanted: int, answers: int) -> None:
    """Read what is wanted from one pipe, and answer into another."""
    parent = os.getppid()
    die_with_parent()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    reader, simulation = Reader(), None
    while data := os.read(wanted, 1 << 20):
        reader.feed(data)
        for frame in reader.frames():
            if simulation is None:
                simulation = _begun(frame, answers)
            elif "outputs" in frame.table:
                simulation.expected = Expected(frame.table["outputs"])
            else:
                write_all(answers, _answer(simulation, frame))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)  # what it started too


def _begun(frame: Frame, answers: int) -> Any:
    """Make what simulates, and say what it takes; what it raises ends the child, its traceback in the log."""
    spec: Mapping[str, Any] = frame.table
    module, _, name = KINDS[spec["kind"]].partition(":")
    try:
        simulation = getattr(import_module(module), name)(spec)
        if simulation.leaves_folders:
            take_group_along()  # no hook in a program's own start, which would have to be forked for it: twice as dear
        write_all(answers, encode(simulation.facts()))
    except BaseException as error:  # sys.exit() in the user's file, too
        said = str(error) if spec["kind"] == "http" else _last_lines(error)  # there the code is ours
        write_all(answers, encode({"error": said}))
        raise SystemExit(0) from None
    return simulation


def _answer(simulation: Any, frame: Frame) -> bytes:
    """Run one row: whatever comes of it is an answer."""
    os.ftruncate(1, 0)  # the log is that of the row alone
    table, numbers, begun = frame.table, np.zeros(0), time.perf_counter()
    answer: dict[str, Any] = {"row": table["row"], "status": int(Status.OK), "reason": ""}
    try:
        found = simulation.run(table["row"], table["parameters"], table["seed"], table["folder"])
        if simulation.expected is None:
            answer |= {"outputs": found.describe(), "units": found.units}
            numbers = Expected(answer["outputs"]).flat(found)
        else:
            numbers = simulation.expected.flat(found)
        if not np.isfinite(numbers).all():
            answer |= {"status": int(Status.NOT_FINITE), "reason": "an output is NaN or infinite"}
    except BadOutput as error:
        answer |= {"status": int(Status.BAD_OUTPUT), "reason": str(error)}
    except Failed as error:
        answer |= {"status": int(error.status), "reason": str(error)}
    except Unreachable as error:
        answer |= {"status": int(Status.OTHER), "reason": str(error), "machine": str(error)}
    except TemplateError as error:
        answer |= {"status": int(Status.OTHER), "reason": str(error)}
    except BaseException as error:  # sys.exit() and a KeyboardInterrupt of the user's own, too
        if isinstance(error, OSError) and error.errno in _MACHINE:
            answer["machine"] = str(error)
        answer |= {"status": int(Status.RAISED), "reason": _last_lines(error)}
    sys.stdout.flush()
    sys.stderr.flush()
    if answer["status"] == Status.OK:
        if simulation.leaves_folders:
            simulation.clean(table["folder"])
        answer |= simulation.particulars()
    else:
        answer["tail"] = last_lines(1)
    return encode(answer | {"seconds": time.perf_counter() - begun}, numbers)


def last_lines(log: int) -> str:
    """Return the end of a log."""
    size = os.lseek(log, 0, os.SEEK_END)
    return os.pread(log, _TAIL, max(size - _TAIL, 0)).decode(errors="replace").strip()


def _last_lines(error: BaseException) -> str:
    """Return the end of a traceback: the user's own frames, and what was raised."""
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if "simfer/stages/simulate/children" not in each.filename
    ]
    lines = [*traceback.format_list(frames), *traceback.format_exception_only(error)]
    return "".join(lines)[-_LONGEST:].rstrip()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
