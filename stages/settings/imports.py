"""The files that a user's code consists of, found by reading its imports: nothing is imported to find them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def closure(plugin: Path) -> list[Path]:
    """List `plugin` and every file in its folder, or below, that it imports directly or through others."""
    folder = plugin.resolve().parent
    found, waiting = set[Path](), [plugin.resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imported(file, folder))
    return sorted(found)


def _imported(file: Path, folder: Path) -> Iterator[Path]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."), folder)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node, file, folder)


def tree(file: Path) -> ast.Module:
    """Parse a file; nothing of one that cannot be parsed."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # running it will say so; until then its own digest is all there is to know
        return ast.Module([], [])


def _from(node: ast.ImportFrom, file: Path, folder: Path) -> Iterator[Path]:
    base = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else folder
    parts = node.module.split(".") if node.module else []
    yield from _files(base, parts, folder)
    for alias in node.names:
        # Any of them may be a module; a star takes those that the package's __all__ names, so take them all.
        names = [near.stem for near in base.joinpath(*parts).glob("*.py")] if alias.name == "*" else [alias.name]
        for name in names:
            yield from _files(base, [*parts, name], folder)


def _files(base: Path, parts: list[str], folder: Path) -> Iterator[Path]:
    """Yield what importing a dotted name runs: the __init__.py of every package on the way, then the module."""
    if base.is_relative_to(folder):
        for depth in range(len(parts) + 1):
            place = base.joinpath(*parts[:depth])
            package, module = place / "__init__.py", place.with_suffix(".py")
            if package.is_file() and (depth or base != folder):
                yield package
            elif depth and module.is_file():
                yield module
