"""Vectors made of numbers that have a name each: `effect` of `effect[0]`, `effect[1]` and so on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from simfer.stages.settings.expressions import parse

_NUMBER = re.compile(r"(.+)\[(\d+)\]")


def of_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Return vectors by name with the names of their numbers in order, where all from 0 on are there."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _NUMBER.fullmatch(name):
            found.setdefault(match[1], {})[int(match[2])] = name
    return {
        name: [numbers[i] for i in range(len(numbers))]
        for name, numbers in found.items()
        if set(numbers) == set(range(len(numbers)))
    }


def spread(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return named values with the numbers of arrays in their place, where those are among the names."""
    found = dict(values)
    for vector, numbers in of_names(names).items():
        if vector in found and vector not in names:
            array = found.pop(vector)
            found |= {number: array[..., i] for i, number in enumerate(numbers)}
    return found


def numbers_of(formulas: Any) -> list[str]:
    """List the parameters that an array is made of, in their order."""
    if isinstance(formulas, str):
        return list(parse(formulas).names)
    return list(dict.fromkeys(name for each in formulas for name in numbers_of(each)))


def gathered(p: Mapping[str, Any], vectors: Mapping[str, Any], xp: Any) -> dict[str, Any]:
    """Return parameters with the arrays among them, where their numbers are there; `xp` is `numpy` or `jax.numpy`."""
    found = dict(p)
    for name, formulas in vectors.items():
        if all(each in p for each in numbers_of(formulas)):
            found[name] = _array(formulas, p, xp)
    return found


def _array(formulas: Any, p: Mapping[str, Any], xp: Any) -> Any:
    if isinstance(formulas, str):
        return xp.asarray(parse(formulas)(p, xp), float)
    return xp.stack([_array(each, p, xp) for each in formulas])
