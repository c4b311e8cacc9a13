"""How a command ends: its exit code, an error in words, and the one JSON object of `--json`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from simfer.pipeline import machine, runtime, stopping
from simfer.pipeline.chain import ConfigError, SimferError, UsageError

if TYPE_CHECKING:
    from simfer.pipeline.runner import Outcome, RunResult

Answer = dict[str, Any]


@contextmanager
def answering(as_json: bool = False) -> Iterator[Answer]:
    """Run a command's body: a user's mistake ends in words and an exit code, only a bug of ours in a traceback."""
    answer: Answer = {}
    try:
        with machine.in_words(), stopping.last_words(lambda: _print_stopped(as_json)):
            runtime.prepare()  # before anything can import JAX
            yield answer
        code = 0
    except typer.Exit as stop:
        code = stop.exit_code
    except SimferError as error:
        code = error.exit_code
        answer["error"] = _in_json(error)
        print(_in_words(error), file=sys.stderr)
    except KeyboardInterrupt:
        _print_stopped(as_json)
        raise typer.Exit(stopping.exit_code()) from None
    except (Exception, SystemExit) as error:  # a library that calls sys.exit() has not done what was asked
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
            _hang_up()  # whoever read this has read enough, as `head` has
        if as_json:
            _print({"exit_code": 1, "error": _in_json(error)})
        if isinstance(error, SystemExit):
            raise RuntimeError(f"sys.exit({error.code!r}) was called") from error
        raise
    if as_json:
        _print({"exit_code": code} | answer)
    raise typer.Exit(code)


def _hang_up() -> NoReturn:
    """End as programs do whose pipe was closed, and let the interpreter find nothing more to write into it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(128 + signal.SIGPIPE) from None


def _print_stopped(as_json: bool) -> None:
    """Say how to go on; a terminal that has hung up hears nothing of it."""
    again = shlex.join(["simfer", *sys.argv[1:]])
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # the cursor, which a bar may have hidden
    with suppress(OSError):
        print(
            f"{shown}\nInterrupted. Nothing that was finished is lost; go on with: {again}", file=sys.stderr, flush=True
        )
        if as_json:
            error = {"kind": "interrupted", "message": "interrupted"}
            _print({"exit_code": stopping.exit_code(), "error": error})


def in_json(result: RunResult) -> Answer:
    """Return what a run came to: the verdict, and every step with its folder and summary."""
    return {"passed": result.passed, "steps": [_step(outcome) for outcome in result.outcomes]}


def _step(outcome: Outcome) -> Answer:
    link = outcome.step.link
    return {
        "stage": link.stage,
        "round": link.round,
        "cached": outcome.cached,
        "fingerprint": outcome.step.fingerprint,
        "folder": str(outcome.folder),
        "seconds": outcome.manifest["seconds"],
        "summary": outcome.summary,
    }


def _in_words(error: SimferError) -> str:
    if isinstance(error, ConfigError):
        count = "1 mistake" if len(error.mistakes) == 1 else f"{len(error.mistakes)} mistakes"
        what = "command" if isinstance(error, UsageError) else "config"
        return f"The {what} cannot be run, {count}:\n" + "\n".join(f"  {line}" for line in str(error).splitlines())
    return str(error)


def _in_json(error: BaseException) -> Answer:
    mistakes = [{"where": each.where, "what": each.what} for each in getattr(error, "mistakes", [])]
    return {"kind": type(error).__name__, "message": str(error)} | ({"mistakes": mistakes} if mistakes else {})


def _print(answer: Answer) -> None:
    print(json.dumps(answer, indent=1, ensure_ascii=False), flush=True)
