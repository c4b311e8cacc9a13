"""Load a name from a registry table, or from a file that the user typed in the config."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model import beside
from simfer.stages.model.flags import kept


def resolve(name: str, table: Mapping[str, str], where: str = "") -> Any:
    """Return what `name` stands for: an entry of `table`, or `Name` in "file.py:Name".

    Raises ConfigError, with the place `where` in the config, if the file has no such name, or changes how JAX computes.
    What the file itself raises while it is read goes through.
    """
    module, _, attribute = table.get(name, name).rpartition(":")
    if name in table:
        return getattr(importlib.import_module(module), attribute)
    found = getattr(_load(Path(module), where), attribute, None)
    if found is None:
        raise ConfigError([Mistake(where, f"{Path(module).name} defines no {attribute}")])
    return found


def _load(file: Path, where: str) -> ModuleType:
    # Two plug-ins may share a file name; the digest of the path keeps their modules apart.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file, loader=beside.Sources(name, str(file), file.parent))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with kept(f"{file.name}, or what it imports,", where), beside.modules_of(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        beside.forget([file.resolve()])  # what it had imported by then, too
        raise
    return module
