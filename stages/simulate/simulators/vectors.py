"""Simulators whose parameters are arrays: the machinery has numbers by name, and what a user wrote sees the arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any

import jax.numpy as jnp

from simfer.stages.model.vectors import gathered, numbers_of
from simfer.stages.simulate.simulators.base import DifferentialSimulator

# What a user writes and is given parameters by name.
_METHODS = ("__call__", "initial_state", "vector_field", "diffusion", "observe", "event", "jumps", "doses", "summarize")


def with_vectors(make: Any, vectors: Mapping[str, Any]) -> Any:
    """Return a simulator's class that takes the numbers of vectors, and gives its methods the arrays.

    Args:
        make: The class.
        vectors: Formulas of the elements of each array, nested where it has several axes.
    """
    known = getattr(make, "parameters", {})
    own = {name: formulas for name, formulas in vectors.items() if name in known}
    return _made(make, json.dumps(own)) if own else make


@cache
def _made(make: Any, vectors: str) -> Any:
    own = json.loads(vectors)
    parameters: dict[str, str] = {}
    for name, unit in make.parameters.items():
        parameters |= dict.fromkeys(numbers_of(own[name]), unit) if name in own else {name: unit}
    written = {name: getattr(make, name, None) for name in _METHODS}
    untouched = getattr(DifferentialSimulator, "summarize", None)
    methods = {name: _gathering(method, own) for name, method in written.items()
               if callable(method) and method is not untouched}  # fmt: skip
    about = {"__module__": make.__module__, "__qualname__": make.__qualname__, "__doc__": make.__doc__}
    return type(make)(make.__name__, (make,), {**about, **methods, "parameters": parameters})


def _gathering(method: Callable[..., Any], vectors: Mapping[str, Any]) -> Callable[..., Any]:
    @wraps(method)
    def with_arrays(*given: Any, **named: Any) -> Any:
        args = [gathered(each, vectors, jnp) if isinstance(each, dict) else each for each in given]
        return method(*args, **named)

    return with_arrays
