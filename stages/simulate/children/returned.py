"""What a simulation returned, as named arrays with dimensions, coordinates and units; checked against the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class BadOutput(Exception):
    """What a simulation gave cannot be read, or is not what the others gave."""


class Value(NamedTuple):
    """One output of one simulation."""

    dims: tuple[str, ...]
    values: np.ndarray
    unit: str = ""


class Returned(NamedTuple):
    """All that one simulation returned."""

    outputs: dict[str, Value]
    coords: dict[str, np.ndarray]
    units: dict[str, str]  # of coordinates, where they are told

    def describe(self) -> dict[str, Any]:
        """Describe the outputs in plain data, as a `Layout` is stored."""
        coords = {dim: self.along(dim) for value in self.outputs.values() for dim in value.dims}
        return {
            name: {
                "dims": list(value.dims),
                "coords": {dim: coords[dim].tolist() for dim in value.dims},
                "unit": value.unit,
            }
            for name, value in self.outputs.items()
        }

    def along(self, dim: str) -> np.ndarray:
        """Return the coordinates along a dimension: 0, 1, 2, ... where none were given."""
        if dim in self.coords:
            return self.coords[dim]
        return np.arange(
            next(v.values.shape[v.dims.index(dim)] for v in self.outputs.values() if dim in v.dims), dtype=float
        )


def read(value: Any, dims: Mapping[str, list[str]]) -> Returned:
    """Read what a function returned: a dict of numbers, arrays and (dims, values), or an xarray Dataset.

    `dims` names the axes of outputs that do not name their own.
    """
    if value is None:
        raise BadOutput("it returned None; is a `return` missing?")
    if type(value).__module__.startswith("xarray") and hasattr(value, "data_vars"):
        return _of_dataset(value)
    if not isinstance(value, Mapping):
        raise BadOutput(f"it returned {_kind(value)}; expected a dict of named numbers or arrays, or an xarray Dataset")
    named = {str(name): _value(str(name), each, dims.get(str(name))) for name, each in value.items()}
    axes = {dim for name, each in named.items() for dim in each.dims if dim != name}
    coords = {name: each.values for name, each in named.items() if name in axes}
    outputs = {name: each for name, each in named.items() if name not in axes}
    units = {name: named[name].unit for name in coords if named[name].unit}
    return _sound(Returned(outputs, coords, units))


def _of_dataset(value: Any) -> Returned:
    outputs = {
        str(name): Value(tuple(map(str, each.dims)), _numbers(str(name), each.values), str(each.attrs.get("units", "")))
        for name, each in value.data_vars.items()
    }
    coords = {str(dim): _numbers(str(dim), value.coords[dim].values) for dim in value.dims if dim in value.coords}
    units = {name: str(value.coords[name].attrs.get("units", "")) for name in coords}
    return _sound(Returned(outputs, coords, {name: unit for name, unit in units.items() if unit}))


def _value(name: str, value: Any, dims: list[str] | None) -> Value:
    unit = ""
    if type(value).__module__.startswith("xarray") and hasattr(value, "dims"):
        return Value(tuple(map(str, value.dims)), _numbers(name, value.values), str(value.attrs.get("units", "")))
    if isinstance(value, tuple) and len(value) in (2, 3) and _names(value[0]) is not None:
        dims, unit = _names(value[0]), str(value[2].get("units", "")) if len(value) == 3 else ""
        value = value[1]
    numbers = _numbers(name, value)
    if dims is None:
        dims = [f"{name}_{i}" for i in range(numbers.ndim)]
    if len(dims) != numbers.ndim:
        raise BadOutput(
            f"output {name}: got {numbers.ndim} axes, of shape {numbers.shape}, and {len(dims)} names: {dims}"
        )
    return Value(tuple(dims), numbers, unit)


def _names(given: Any) -> list[str] | None:
    if isinstance(given, str):
        return [given]
    return list(given) if isinstance(given, (list, tuple)) and all(isinstance(each, str) for each in given) else None


def _numbers(name: str, value: Any) -> np.ndarray:
    if isinstance(value, (str, bytes)) or value is None:
        raise BadOutput(f"output {name}: got {value!r}, expected a number or an array of numbers")
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError):
        raise BadOutput(f"output {name}: got {_kind(value)}, expected a number or an array of numbers") from None


def _sound(found: Returned) -> Returned:
    if not found.outputs:
        raise BadOutput("it returned no output")
    lengths: dict[str, int] = {dim: len(np.atleast_1d(values)) for dim, values in found.coords.items()}
    for name, (dims, values, _) in found.outputs.items():
        for dim, length in zip(dims, values.shape, strict=True):
            if lengths.setdefault(dim, length) != length:
                raise BadOutput(f"output {name}: got {length} values along {dim}, which has {lengths[dim]} elsewhere")
    return found


def _kind(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) < 60 else shown[:57] + '...'}"


class Expected:
    """What every simulation must give: the outputs, shapes and coordinates of the first."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.described = described
        self.shapes = {
            name: tuple(len(each["coords"][dim]) for dim in each["dims"]) for name, each in described.items()
        }
        self.coords = {dim: np.asarray(at, float) for each in described.values() for dim, at in each["coords"].items()}

    @property
    def dims(self) -> dict[str, list[str]]:
        """Names of the axes of each output."""
        return {name: list(each["dims"]) for name, each in self.described.items()}

    def flat(self, found: Returned) -> np.ndarray:
        """Return the outputs in one flat vector; raise where they are not what was expected."""
        if missing := [name for name in self.shapes if name not in found.outputs]:
            raise BadOutput(f"output {missing[0]} is missing; got {', '.join(found.outputs)}")
        if extra := [name for name in found.outputs if name not in self.shapes]:
            raise BadOutput(f"output {extra[0]} is there, and was not where it was first run, at the priors' medians")
        for name, shape in self.shapes.items():
            if found.outputs[name].values.shape != shape:
                raise BadOutput(
                    f"output {name}: got shape {found.outputs[name].values.shape}, expected {shape} as in the first run"
                )
        for dim, given in found.coords.items():
            if dim in self.coords and not _same(given, self.coords[dim]):
                raise BadOutput(
                    f"coordinate {dim}: got {_few(given)}, expected {_few(self.coords[dim])} as in the first run; let "
                    "every run give its outputs at the same places"
                )
        return np.concatenate([found.outputs[name].values.reshape(-1) for name in self.shapes])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-12 * float(np.abs(b).max(initial=0.0))))


def _few(values: np.ndarray) -> str:
    shown = [f"{value:.6g}" for value in np.atleast_1d(values)[:4]]
    return f"[{', '.join(shown)}{', ...' if np.size(values) > 4 else ''}] ({np.size(values)})"
