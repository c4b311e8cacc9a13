"""What a user's code looks at besides its arguments: files and the environment, which no fingerprint sees.

Files are those that are opened while the code is tried; what reads the environment is found in its text.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from simfer.stages.model import beside
from simfer.stages.settings import Problem

_SYSTEM = tuple({sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/etc"})
_READERS = {"environ", "environb", "getenv"}
_watched: dict[Path, tuple[Path, bool]] | None = None  # files -> the code that opened them, and whether to write
_is_hooked = False


@contextmanager
def watched() -> Iterator[dict[Path, tuple[Path, bool]]]:
    """Note the files that the user's code opens meanwhile, each with the file of the code, and whether to write."""
    global _watched, _is_hooked
    if not _is_hooked:
        sys.addaudithook(_hook)  # for as long as the process lives: Python has no way to take one back
        _is_hooked = True
    _watched = {}
    try:
        yield _watched
    finally:
        _watched = None


def remarks(config: Problem, opened: dict[Path, tuple[Path, bool]]) -> list[str]:
    """Say what the user's code looks at that is in no fingerprint."""
    named = [each.depends_on for each in (config.simulate, config.train, config.infer)]
    data = [str(each.file) for each in config.observation.sources.values()]
    declared = {Path(file) for files in (*named, data) for file in files}
    code = [
        config.simulate.simulator,
        config.infer.model,
        *config.train.tried,
        *(noise.dist for noise in config.noise.values()),
        *(each.function for each in config.derived.values()),
    ]
    folders = {Path(each.rpartition(":")[0]).parent for each in code if ":" in each}
    own = [file for file in beside.executed() if any(file.is_relative_to(folder) for folder in folders)]
    return [*_on_files(opened, declared), *_on_environment(own)]


def _on_files(opened: dict[Path, tuple[Path, bool]], declared: set[Path]) -> Iterator[str]:
    for file, (code, writes) in opened.items():
        if writes:
            yield f"{code.name} writes {file}: it is called when it is traced, and not for each row"
        elif file not in declared:
            yield (
                f"{code.name} reads {file}, which is not in simulate.depends_on: when that file changes, what was made "
                "with it will be taken for up to date"
            )


def _on_environment(executed: Iterable[Path]) -> Iterator[str]:
    for file in executed:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in _READERS]
        if lines:
            yield (
                f"{file.name}, line {lines[0]}, looks at the environment, which is in no fingerprint: make it an "
                "option (simulate.options)"
            )


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None or event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    code = _code_that_asks()
    if code is None:
        return
    file, flags = Path(os.fsdecode(arguments[0])).absolute(), arguments[2]
    if _is_not_theirs(file) or file.suffix in (".py", ".pyc") or not file.is_file():
        return
    writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    _watched[file.resolve()] = (code, writes)


def _is_not_theirs(file: Path) -> bool:
    """Say whether a file is the system's, or one that JAX keeps compiled code in and reads when it likes."""
    compiled: str = getattr(jax.config, "jax_compilation_cache_dir", None) or ""
    return str(file).startswith(_SYSTEM) or (bool(compiled) and file.is_relative_to(Path(compiled).absolute()))


def _code_that_asks() -> Path | None:
    """Return the user's file on the stack that is nearest to what happens; None where there is none."""
    known, frame = beside.executed(), sys._getframe(2)
    while frame is not None:
        if (file := Path(frame.f_code.co_filename)) in known:
            return file
        frame = frame.f_back  # type: ignore[assignment]
    return None
