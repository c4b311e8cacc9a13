"""The files that a user's code consists of, found by reading its imports: nothing is imported to find them.

What the imports say is read too: names that Simfer gave under others before it was one package.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

_FORMERLY = "stages", "pipeline"  # what is simfer.stages and simfer.pipeline now
_TREE = Path(__file__).resolve().parents[1]  # where both lie, if that is a checkout
# What a user's code may have had from elsewhere. Not imported: it is there already, and it imports this for the types.
_PUBLIC = frozenset(sys.modules["simfer"].__all__)


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
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."), folder)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node, file, folder)


def _tree(file: Path) -> ast.Module:
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


def outdated(file: Path) -> Iterator[tuple[int, str, str]]:
    """Find the imports of Simfer's names from where they were: the line's number, the line, and what to write now."""
    folder = file.resolve().parent
    imports = [node for node in ast.walk(_tree(file)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in imports:
        if (old := _formerly(node)) and not _is_the_user_s(folder, old):
            yield node.lineno, ast.unparse(node), _now(node)


def _formerly(node: ast.Import | ast.ImportFrom) -> str | None:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    tops = [name.partition(".")[0] for name in names if isinstance(node, ast.Import) or node.level == 0]
    return next((top for top in tops if top in _FORMERLY), None)


def _is_the_user_s(folder: Path, name: str) -> bool:
    places = [folder / name, folder / f"{name}.py"]
    return any(place.exists() and place.resolve() != _TREE / name for place in places)


def _now(node: ast.Import | ast.ImportFrom) -> str:
    names = [alias for alias in node.names if alias.name in _PUBLIC] if isinstance(node, ast.ImportFrom) else []
    if not names or len(names) < len(node.names):
        return "from simfer import ... (`import simfer; help(simfer)` names all that there is)"
    return ast.unparse(ast.ImportFrom("simfer", names, 0))
