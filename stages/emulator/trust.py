"""Whether a header can be that of an emulator: a file that came from elsewhere may have been written by anyone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simfer.stages.model.transforms import TRANSFORMS

_MOST_OPTION = 100_000  # units of a layer, at most
_MOST_LAYERS = 1000
_FAMILIES = ("normal", "uniform")
_LARGEST = 2**28  # bytes of a header
Test = Callable[[Any], bool]


def read_json(text: bytes) -> dict[str, Any]:
    """Parse a header; raise ValueError where that cannot be, however the text is made."""
    if len(text) > _LARGEST:
        raise ValueError(f"{len(text)} bytes, more than any that Simfer writes")
    try:
        stored = json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    if not isinstance(stored, dict):
        raise ValueError(f"got {type(stored).__name__}, expected a table")
    return stored


def wrong(header: Mapping[str, Any], leaves_bytes: int) -> str:
    """Say which entry is not as Simfer writes it, or asks for more than the arrays' file can hold."""
    for name, test in _ENTRIES.items():
        if name in header and not test(header[name]):
            return f"{name} is {str(header[name])[:60]!r}"
    outputs = sum(_size(output) for output in header["layout"].values())
    rows = header["num_rows"] * (outputs + len(header["space"]["order"]))
    if 8 * rows > leaves_bytes or header["num_members"] > leaves_bytes:
        return (
            f"num_rows = {header['num_rows']} and num_members = {header['num_members']} are not in {leaves_bytes} bytes"
        )
    return ""


def _size(output: Mapping[str, Any]) -> int:
    size = 1
    for dim in output["dims"]:
        size *= len(output["coords"][dim])  # of Python's own numbers, which do not overflow
    return size


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _table_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _is_output(value: Any) -> bool:
    if not (isinstance(value, dict) and _is_text(value.get("unit")) and _list_of(_is_text)(value.get("dims"))):
        return False
    coords = value.get("coords")
    return isinstance(coords, dict) and all(_is_coordinate(coords.get(dim)) for dim in value["dims"])


def _is_coordinate(value: Any) -> bool:
    if not (isinstance(value, list) and value and all(type(each) in (int, float) for each in value)):
        return False
    return bool(np.isfinite(np.asarray(value, float)).all())


def _is_space(value: Any) -> bool:
    if not (
        isinstance(value, dict) and isinstance(value.get("priors"), dict) and _table_of(_is_finite)(value.get("fixed"))
    ):
        return False
    order = value.get("order")
    return isinstance(order, list) and bool(order) and all(map(_is_text, order)) and set(order) == set(value["priors"])


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e308


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_option, value))
    return value is None or isinstance(value, (bool, str)) or (_is_finite(value) and abs(value) <= _MOST_OPTION)


def _are_options(value: Any) -> bool:
    if not _table_of(_is_option)(value):
        return False
    depth = value.get("depth")
    return depth is None or not isinstance(depth, (int, float)) or depth <= _MOST_LAYERS


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and _list_of(lambda n: type(n) is int and 0 <= n < 2**40)(value[0])
    )


_ENTRIES: dict[str, Test] = {
    "architecture": _is_text,
    "options": _are_options,
    "num_members": _is_count,
    "num_rows": _is_count,
    "num_scattered": lambda value: value is None or _is_count(value),
    "dtype": lambda value: value in ("float32", "float64"),
    "training_seconds": _is_finite,
    "space": _is_space,
    "layout": lambda value: bool(value) and _table_of(_is_output)(value),
    "transform": _table_of(lambda value: isinstance(value, str) and value in TRANSFORMS),
    "floor": _is_finite,
    "families": _list_of(lambda value: value in _FAMILIES),
    "leaves": lambda value: value is None or _list_of(_is_shape)(value),
    "pca": _table_of(_is_count),
    "coordinate_units": _table_of(_is_text),
    "versions": _table_of(_is_text),
}
