"""What the imports of a user's code say: names that Simfer gave under others before it was one package."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from simfer.pipeline.chain import tree

_FORMERLY = "stages", "pipeline"  # what is simfer.stages and simfer.pipeline now
_TREE = Path(__file__).resolve().parents[1]  # where both lie, if that is a checkout
# What a user's code may have had from elsewhere. Not imported: it is there already, and it imports this for the types.
_PUBLIC = frozenset(sys.modules["simfer"].__all__)


def outdated(file: Path) -> Iterator[tuple[int, str, str]]:
    """Find the imports of Simfer's names from where they were: the line's number, the line, and what to write now."""
    folder = file.resolve().parent
    imports = [node for node in ast.walk(tree(file)) if isinstance(node, (ast.Import, ast.ImportFrom))]
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
