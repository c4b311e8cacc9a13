"""Runs of the fake chain, killed at a given file operation; `python -m tests.campaign.kills` prints what came of them.

A process of its own, which has not imported JAX, so that each run may be a fork: thousands take minutes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from simfer.pipeline import cli
from simfer.pipeline.manifest import file_digest
from tests import fakes

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "fcntl.flock", "os.link")
_LEFT = (".building-*", ".old-*", "*.partial", ".manifest.json")


def run(*arguments: str, kill_at: int | None = None) -> int:
    """Run a command in a fork, killed before its n-th change of a file; return its exit code, or -9."""
    child = os.fork()
    if child == 0:
        if kill_at is not None:
            _die_at(kill_at)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            try:
                cli.app([*arguments], prog_name="simfer")
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except BaseException:
                os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return -signal.SIGKILL if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _die_at(number: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in _CHANGES:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class Scenario:
    """A store as it is before a command, the command, and what the store must hold once that was run to its end."""

    def __init__(self, folder: Path, name: str, begin: Callable[[Path, str], None], *command: str) -> None:
        self.folder, self.name, self.command = folder, name, command
        self.project = folder / "project"
        self.project.mkdir(parents=True)
        self.config = str(fakes.write_project(self.project))
        self.begun, self.store = folder / "begun", folder / "store"
        begin(self.begun, self.config)
        assert run("run", self.config, "--store", str(folder / "right"), "--quiet") == 0
        self.right = artifacts(folder / "right")
        self.outside = artifacts(self.project)

    def attempt(self, number: int, ends: Counter[str]) -> bool:
        """Kill the command at its n-th change, then run to the end; return whether there was such a change."""
        shutil.rmtree(self.store, ignore_errors=True)
        if self.begun.exists():
            shutil.copytree(self.begun, self.store, symlinks=True)
        if run(*self.command, self.config, "--store", str(self.store), kill_at=number) != -signal.SIGKILL:
            return False
        ends["tried"] += 1
        if run("run", self.config, "--store", str(self.store), "--quiet") != 0:
            ends["traceback"] += 1
        elif run("clean", self.config, "--store", str(self.store)) != 0 or self.left():
            ends["left"] += 1
        elif artifacts(self.store) != self.right:
            ends["wrong"] += 1
        else:
            ends["right"] += 1
        ends["outside"] += artifacts(self.project) != self.outside
        return True

    def left(self) -> list[Path]:
        """List what is in the store that no one needs any more."""
        return [path for pattern in _LEFT for path in self.store.rglob(pattern)]


def artifacts(folder: Path) -> dict[str, str]:
    """Return the digest of each file of what is published, but for manifests and reports, which know the time."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json" and not _knows_the_time(path.relative_to(folder))
    }


def _knows_the_time(file: Path) -> bool:
    return file.parts[0] == "reports" or any(part.startswith(".") for part in file.parts)


def nothing(store: Path, config: str) -> None:
    """Begin without a store."""


def finished(store: Path, config: str) -> None:
    """Begin with all that there is to build."""
    assert run("run", config, "--store", str(store), "--quiet") == 0


def damaged(store: Path, config: str) -> None:
    """Begin with a file of the first stage, and one of the third, changed."""
    finished(store, config)
    for stage in ("simulate", "train"):
        next(path for path in (store / stage).rglob("*.txt")).write_text("rotten")


def crowded(store: Path, config: str) -> None:
    """Begin with artifacts that nobody needs, too."""
    finished(store, config)
    assert run("run", config, "--store", str(store), "--quiet", "--set", "simulate.seed=9") == 0


SCENARIOS: dict[str, tuple[Callable[[Path, str], None], tuple[str, ...]]] = {
    "a first run": (nothing, ("run",)),
    "--redo": (finished, ("run", "--redo", "dataset")),
    "a repair": (damaged, ("run",)),
    "clean": (crowded, ("clean",)),
}


def campaign(folder: Path, most: int) -> dict[str, Counter[str]]:
    """Kill each scenario's command at every change of a file, or at so many of them at random."""
    found = {}
    for name, (begin, command) in SCENARIOS.items():
        scenario, ends = Scenario(folder / name, name, begin, *command), Counter[str]()
        numbers = list(range(1, 10_000)) if not most else sorted(random.Random(name).sample(range(1, 60), most))
        for number in numbers:
            if not scenario.attempt(number, ends) and not most:
                break
        found[name] = ends
    return found


if __name__ == "__main__":
    fakes.install()
    print(json.dumps(campaign(Path(sys.argv[1]), int(sys.argv[2]))))
