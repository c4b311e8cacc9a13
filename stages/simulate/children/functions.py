"""A user's Python function or class, called with named numbers: what the child does for each row."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simfer.stages.simulate.children.returned import Expected, Returned, read

_WHOLE = "parameters"  # the argument that takes all parameters as one dict


class Function:
    """The function, or an object of the class, that "file.py:Name" names."""

    leaves_folders = False

    def __init__(self, spec: Mapping[str, Any], made: Any = None) -> None:
        made = made or named(spec["target"])
        self._options, self._dims, self._vectors = dict(spec["options"]), dict(spec["dims"]), dict(spec["vectors"])
        self._is_class = inspect.isclass(made)
        self._call = made(**self._options) if self._is_class else made
        if self._is_class and not callable(self._call):
            self._call = self._call.simulate
        signature = inspect.signature(self._call)
        self._names = list(signature.parameters)
        self._takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        self._whole = self._names[:1] == [_WHOLE]
        self._needed = [
            each.name
            for each in signature.parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        ]
        self.expected: Expected | None = None

    def facts(self) -> dict[str, Any]:
        """Say what it takes and, where it says so itself, what it gives."""
        owner = getattr(self._call, "__self__", self._call)
        units = getattr(owner, "parameters", {}) if self._is_class or hasattr(self._call, "parameters") else {}
        units = dict(units) if isinstance(units, Mapping) else {}
        own = [name for name in self._names if name not in self._options and name not in ("seed", _WHOLE)]
        optional = [name for name in own if name not in self._needed]
        described = getattr(owner, "outputs", None) if self._is_class else None
        taken = {name: str(units.get(name, "")) for name in (units or own)}
        return {
            "parameters": {number: unit for name, unit in taken.items() for number in self._numbers(name)},
            "any": self._takes_all or (self._whole and not units),
            "optional": [] if units else [number for name in optional for number in self._numbers(name)],
            "stochastic": "seed" in self._names,
            "outputs": _described(described()) if described is not None else None,
        }

    def _numbers(self, name: str) -> list[str]:
        """Return the numbers that an array is made of; of what is none, its own name."""
        if name not in self._vectors:
            return [name]
        from simfer.stages.model.vectors import numbers_of

        return numbers_of(self._vectors[name])

    def _with_arrays(self, parameters: dict[str, float]) -> dict[str, Any]:
        """Put arrays in the place of the numbers that they are made of."""
        if not self._vectors:
            return dict(parameters)
        from simfer.stages.model.vectors import gathered, numbers_of

        parts = {number for formulas in self._vectors.values() for number in numbers_of(formulas)}
        found = gathered(parameters, self._vectors, np)
        return {name: value for name, value in found.items() if name not in parts}

    def particulars(self) -> dict[str, Any]:
        """Say what a driver should know of the last row: nothing."""
        return {}

    def run(self, row: int, parameters: dict[str, float], seed: int | None, folder: str = "") -> Returned:
        """Call it once."""
        arrays = self._with_arrays(parameters)
        given: dict[str, Any] = {_WHOLE: arrays} if self._whole else arrays
        if not self._is_class:
            given |= self._options
        if seed is not None and "seed" in self._names:
            given["seed"] = seed
        dims = self._dims if self.expected is None else self.expected.dims | self._dims
        return read(self._call(**given), dims)


def named(target: str) -> Any:
    """Return what "file.py:Name" names, in whose folder the process is from then on."""
    file, _, name = target.rpartition(":")
    os.chdir(Path(file).parent)  # files beside it are opened by their names, wherever the command is typed
    return getattr(_load(Path(file)), name)


def _load(file: Path) -> Any:
    sys.path.insert(0, str(file.parent))
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _described(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `outputs()` says: an `Output` for each, or (dims, coords) or (dims, coords, unit)."""
    described = {}
    for name, each in outputs.items():
        dims, coords, unit = (each.dims, each.coords, each.unit) if hasattr(each, "dims") else (*each, "")[:3]
        dims = [dims] if isinstance(dims, str) else list(dims)
        described[str(name)] = {"dims": dims, "coords": {d: [float(x) for x in coords[d]] for d in dims}, "unit": unit}
    return described
