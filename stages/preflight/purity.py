"""Whether a user's function gives the same again: JAX runs its Python once, and what chance did then stays for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from simfer.stages.errors import Mistake


def same_twice(where: str, function: Callable[..., Any], *given: Any) -> list[Mistake]:
    """Trace a function twice on the same shapes, and say if that gives two different programs."""
    first, second = (list(_parts(eqx.filter_make_jaxpr(_afresh(function))(*given)[0])) for _ in range(2))
    if len(first) == len(second) and all(map(_is_same, first, second)):
        return []
    what = (
        f"{where}, called twice with the same, does two different things: something in it depends on chance, on the "
        "clock or on what was called before (numpy.random, time), which would stay as it was the first time for all "
        "rows. Draw with the key of a StochasticSimulator, or make it once, at the file's top, from a fixed seed"
    )
    return [Mistake("simulate.simulator", what)]


def _afresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that JAX has not traced yet, whatever it knows of the one in it."""
    return lambda *given: function(*given)


def _parts(program: Any) -> Iterator[Any]:
    """Yield what a traced program is made of, in its order: operations, and the numbers that are written into it."""
    if hasattr(program, "consts"):
        yield from program.consts
    for equation in getattr(program, "jaxpr", program).eqns:
        yield str(equation.primitive)
        yield from (each.val for each in equation.invars if hasattr(each, "val"))
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    yield from _parts(inner)


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return bool(a.shape == getattr(b, "shape", None))
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.tobytes() == b.tobytes()
