"""The modules beside a user's file: each folder's are its own, whenever they are imported, and what ran is known.

Two folders may both have a `helper.py`. So a folder's modules are in `sys.modules` only while code of that folder
imports: when its file is read, and whenever a function of it comes to an `import` of its own.
"""

from __future__ import annotations

import builtins
import hashlib
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from threading import RLock
from types import CodeType, ModuleType
from typing import Any

_modules: dict[Path, dict[str, ModuleType]] = {}  # by folder and by name, those that are not in use just now
_executed: dict[Path, str] = {}  # files -> the digest of their text as it was run
_entered: list[Path] = []  # the folders whose modules are in use
_lock = RLock()
_OURSELVES = __name__.partition(".")[0]


def executed() -> dict[Path, str]:
    """Return the digest of every file of the user's as it was when it was run, which need not be what it is now."""
    return dict(_executed)


def forget(files: Collection[Path]) -> None:
    """Have these files, and all that lie in the same folders, imported anew."""
    with _lock:
        for folder in list(_modules):
            if any(file.is_relative_to(folder) for file in files):
                del _modules[folder]
        for file in files:
            _executed.pop(file, None)
        _take_out(lambda module: _origin(module) in files)


@contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """Let a folder's modules be imported by their names, and forget these after: another folder may have them too."""
    folder = folder.resolve()
    with _lock:
        if _entered[-1:] == [folder]:
            yield
            return
        hidden = _take_out(lambda module: _is_of(module, folder))  # theirs who run us, which may be older
        sys.modules.update(_modules.get(folder, {}))
        finder = _Beside(folder)
        sys.meta_path.insert(_before_path(), finder)
        sys.path.insert(0, str(folder))
        _entered.append(folder)
        PathFinder.invalidate_caches()  # or a file that was written a moment ago is not found
        try:
            yield
        finally:
            _entered.pop()
            sys.path.remove(str(folder))
            sys.meta_path.remove(finder)
            _modules[folder] = _take_out(lambda module: _is_of(module, folder))
            sys.modules.update(hidden)


class Sources(SourceFileLoader):
    """Runs a file from its text, never from a compiled copy, and remembers what the text was."""

    def __init__(self, fullname: str, path: str, folder: Path) -> None:
        super().__init__(fullname, path)
        self._folder = folder

    def get_code(self, fullname: str) -> CodeType | None:
        """Compile the text. A compiled file is matched by whole seconds: a quick edit could run as what was before."""
        path = self.get_filename(fullname)
        text = self.get_data(path)
        _executed[Path(path).resolve()] = hashlib.sha256(text).hexdigest()
        code: CodeType = self.source_to_code(text, path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run it, its functions' own imports bound to the folder."""
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _importer(self._folder)}
        super().exec_module(module)


def _importer(folder: Path) -> Callable[..., Any]:
    def import_beside(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0
    ) -> Any:
        top = name.partition(".")[0]
        if level == 0 and not (folder / f"{top}.py").is_file() and not (folder / top).is_dir():
            return builtins.__import__(name, globals, locals, fromlist, level)
        with modules_of(folder):
            return builtins.__import__(name, globals, locals, fromlist, level)

    return import_beside


class _Beside(MetaPathFinder):
    """Finds modules in one folder and its packages, and gives them to `Sources`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python would, but in this folder alone."""
        spec = PathFinder.find_spec(fullname, [str(self._folder)] if path is None else path)
        if spec is None or spec.origin is None or fullname.partition(".")[0] == _OURSELVES:
            return None
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = Sources(fullname, spec.origin, self._folder)
        return spec


def _before_path() -> int:
    return sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)


def _take_out(which: Callable[[ModuleType], bool]) -> dict[str, ModuleType]:
    taken = {name: module for name, module in list(sys.modules.items()) if which(module)}
    for name in taken:
        del sys.modules[name]
    return taken


def _is_of(module: ModuleType, folder: Path) -> bool:
    """Say whether a module is one that its name leads to from this folder."""
    origin, parts = _origin(module), module.__name__.split(".")
    if origin is None or parts[0] == _OURSELVES:
        return False
    return origin in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py"))


def _origin(module: ModuleType) -> Path | None:
    origin = getattr(module, "__dict__", {}).get("__file__")
    return Path(origin).resolve() if isinstance(origin, str) else None
