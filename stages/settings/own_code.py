"""What a name in a user's file is, read and not run: code for JAX, or plain Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def is_plain(target: str) -> bool:
    """Say whether "file.py:Name" is a function, or a class that inherits nothing of Simfer's: plain Python."""
    file, _, name = target.rpartition(":")
    try:
        stat = Path(file).stat()
        return _is_plain(file, name, stat.st_mtime_ns)
    except (OSError, SyntaxError, ValueError):  # running it will say so
        return False


@lru_cache(maxsize=32)
def _is_plain(file: str, name: str, edited: int) -> bool:
    body = ast.parse(Path(file).read_bytes()).body
    return _plain(name, body, Path(file).parent)


def _plain(name: str, body: list[ast.stmt], folder: Path) -> bool:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return True
        if isinstance(node, ast.ClassDef) and node.name == name:
            return all(_plain_base(base, body, folder) for base in node.bases)
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == name for at in node.targets):
            return True
    return False


def _plain_base(base: ast.expr, body: list[ast.stmt], folder: Path) -> bool:
    while isinstance(base, (ast.Attribute, ast.Subscript)):
        base = base.value
    if not isinstance(base, ast.Name):
        return False
    origin = next(_origins(base.id, body), None)
    if origin is None:
        return base.id in ("object", "Exception") or _plain(base.id, body, folder)
    top = origin.split(".")[0]
    is_local = not top or (folder / f"{top}.py").exists() or (folder / top).is_dir()
    return top not in ("simfer", "equinox") and not is_local


def _origins(name: str, body: list[ast.stmt]) -> Iterator[str]:
    """Yield the modules that a name is imported from."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if (each.asname or each.name.split(".")[0]) == name)
        elif isinstance(node, ast.ImportFrom) and any((each.asname or each.name) == name for each in node.names):
            yield node.module or "" if not node.level else ""
