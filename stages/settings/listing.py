"""One line on each name that a config can use."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from simfer.stages.settings import NOISE
from simfer.stages.settings.names import ARCHITECTURES, SIMULATORS
from simfer.stages.settings.prior_table import PRIORS


def describe(table: str) -> dict[str, str]:
    """Describe the names of a table: `simulators`, `architectures`, `noise` or `priors`."""
    if table == "priors":
        return {name: f"{family.summary} ({', '.join(family.arguments)})" for name, family in PRIORS.items()}
    if table == "noise":
        arguments = {name: ", ".join(f for f in model.model_fields if f != "dist") for name, model in NOISE.items()}
        return {
            name: f"{_first_line(model.__doc__)} ({arguments[name]})" if arguments[name] else _first_line(model.__doc__)
            for name, model in NOISE.items()
        }
    return _classes({"simulators": SIMULATORS, "architectures": ARCHITECTURES}[table])


def _classes(table: Mapping[str, str]) -> dict[str, str]:
    # Read, not imported: a list must not wait for JAX.
    found = {}
    for name, place in table.items():
        module, _, attribute = place.rpartition(":")
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        found[name] = _first_line(ast.get_docstring(classes[attribute]))
    return found


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
