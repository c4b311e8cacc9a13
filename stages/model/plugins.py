"""Load a name from a registry table, or from a file that the user typed in the config."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from simfer.stages.errors import ConfigError, Mistake


def resolve(name: str, table: Mapping[str, str], where: str = "") -> Any:
    """Return what `name` stands for: an entry of `table`, or `Name` in "file.py:Name".

    Raises ConfigError, with the place `where` in the config, if the file has no such name. What the file itself
    raises while it is read goes through.
    """
    module, _, attribute = table.get(name, name).rpartition(":")
    if name in table:
        return getattr(importlib.import_module(module), attribute)
    found = getattr(_load(Path(module)), attribute, None)
    if found is None:
        raise ConfigError([Mistake(where, f"{Path(module).name} defines no {attribute}")])
    return found


def _load(file: Path) -> ModuleType:
    # Two plug-ins may share a file name; the digest of the path keeps their modules apart.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _beside(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let a plug-in import the modules beside it, and forget them after: another folder may have others so named."""
    before, writes = set(sys.modules), sys.dont_write_bytecode
    # Compiled files are matched by whole seconds: a quick edit could run as the code before it.
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).is_relative_to(folder) and "site-packages" not in origin:
                del sys.modules[name]
