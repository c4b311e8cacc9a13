"""Quantities that follow from parameters and outputs, at every draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from simfer.stages.batches import in_batches
from simfer.stages.errors import StageError
from simfer.stages.infer.target import Target
from simfer.stages.model.plugins import resolve
from simfer.stages.model.vectors import of_names
from simfer.stages.settings import Derived
from simfer.stages.settings.expressions import parse

Draws = Float[np.ndarray, "chains draws"]


def derived_draws(
    derived: Mapping[str, Derived], target: Target, z: Float[np.ndarray, "chains draws size"], named: Mapping[str, Any]
) -> dict[str, Draws]:
    """Return what each formula or function comes to, a number for each draw; `named` are the free parameters' draws."""
    if not derived:
        return {}
    functions = {name: resolve(each.function, {}, f"derived.{name}") for name, each in derived.items() if each.function}
    used = {name for each in derived.values() if each.formula for name in parse(each.formula).names}
    used |= {name for function in functions.values() for name in arguments_of(function)}
    values: dict[str, Any] = {**target.predictor.space.fixed, **target.likelihood.noise_space.fixed, **named}
    shapes = {name: output.shape for name, output in target.predictor.layout.outputs.items() if name in used}
    if shapes:
        flat = target.split(z)[0].reshape(-1, target.predictor.space.size)
        natural = in_batches(lambda row: _outputs(target, row, list(shapes)), flat, together=False)
        values |= {name: np.asarray(value).reshape(*z.shape[:2], -1) for name, value in natural.items()}
    found: dict[str, Any] = {}
    for name, each in derived.items():
        numbers = values | found
        arrays = {vector: np.stack(np.broadcast_arrays(*(numbers[part] for part in parts)), axis=-1)
                  for vector, parts in of_names(numbers).items()}  # fmt: skip
        if name in functions:
            found[name] = _called(name, functions[name], arrays | numbers, shapes, z.shape[:2])
            continue
        value = np.asarray(parse(each.formula)(arrays | numbers, np), float)
        if value.shape != z.shape[:2]:
            raise StageError(
                f'derived.{name}: "{each.formula}" has shape {value.shape[2:]} at each draw, expected one number; '
                "of an output take max, min, mean, sum, first or last"
            )
        found[name] = value
    return found


def arguments_of(function: Callable[..., Any]) -> list[str]:
    """List the names that a function of parameters and outputs takes; defaults are its own matter."""
    parameters = inspect.signature(function).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in plain and each.default is each.empty]


def _called(
    name: str,
    function: Callable[..., Any],
    values: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    draws: tuple[int, ...],
) -> Draws:
    """Call a user's function at each draw; what it raises goes through."""
    names = arguments_of(function)
    flat = {key: np.asarray(values[key]).reshape(-1, *shapes[key]) if key in shapes else _each(values[key], draws)
            for key in names}  # fmt: skip
    found = np.empty(int(np.prod(draws)))
    for i in range(len(found)):
        value = np.asarray(function(**{key: each[i] for key, each in flat.items()}), float)
        if value.shape != ():
            raise StageError(f"derived.{name}: {function.__name__} gives an array of {value.shape}, expected a number")
        found[i] = value
    return found.reshape(draws)


def _each(value: Any, draws: tuple[int, ...]) -> np.ndarray:
    """Return a quantity at each draw, one that is fixed too."""
    array = np.asarray(value, float)
    rest = array.shape[len(draws) :] if array.shape[: len(draws)] == draws else array.shape
    return np.broadcast_to(array, (*draws, *rest)).reshape(-1, *rest)


def _outputs(target: Target, z: Any, names: list[str]) -> dict[str, Any]:
    natural = target.predictor.natural(target.predictor.members(z).mean(axis=0))
    return {name: natural[name].reshape(-1) for name in names}
