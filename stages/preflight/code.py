"""What a user's simulator gives back, held against what it says it does: each method called once, on shapes alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Output
from simfer.stages.preflight.purity import same_twice
from simfer.stages.simulate.simulators.base import DifferentialSimulator, Simulator
from simfer.stages.simulate.simulators.sde import SDESimulator

_WHERE = "simulate.simulator"
_FORGOTTEN = "; is a `return` missing?"


def code_mistakes(simulator: Simulator) -> list[Mistake]:
    """List what is wrong with what a simulator's methods return; what they raise goes through."""
    if isinstance(simulator, DifferentialSimulator):
        found = _equation(simulator)
    else:
        found = _declared(simulator) or _function(simulator)
    return found or _declared(simulator)


def place(owner: Any, method: str) -> str:
    """Say where a user's method stands: its file, line and name; only its name where that cannot be known."""
    kind = owner if inspect.isclass(owner) else type(owner)
    found: Any = inspect.unwrap(getattr(kind, method, None) or kind)
    code = getattr(getattr(found, "__func__", found), "__code__", None)
    name = f"{kind.__name__}.{method}"
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}: {name}" if code else name


def _function(simulator: Simulator) -> list[Mistake]:
    """Call a function once."""
    key = (jax.random.key(0),) if simulator.stochastic else ()
    call: Any = simulator
    seen = _shape(lambda p: call(p, *key), _parameters(simulator))
    where = place(simulator, "__call__")
    return (
        _table(seen, where)
        or _extra(seen, simulator, where)
        or same_twice(where, lambda p: call(p, *key), _parameters(simulator))
    )


def _extra(seen: Mapping[str, Any], simulator: Simulator, where: str) -> list[Mistake]:
    extra = sorted(set(seen) - set(simulator.outputs()))
    what = f"{where} gives {', '.join(extra)}, which outputs() does not name; add it there, or leave it out here"
    return [Mistake(_WHERE, what)] if extra else []


def _equation(simulator: DifferentialSimulator) -> list[Mistake]:
    """Call each part of a differential equation once."""
    p, key, t = _parameters(simulator), jax.random.key(0), np.zeros(())
    begin = lambda p: simulator.begin(p, key)  # noqa: E731
    state = _shape(begin, p)
    where = place(simulator, "initial_state")
    if not _is_numbers(state):
        return [Mistake(_WHERE, f"{where} gives {_in_words(state)}, expected the state: numbers, or arrays of them")]
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), float), state)
    found = same_twice(where, begin, p)
    rate = place(simulator, "vector_field")
    found += _like_state(_shape(simulator.vector_field, t, state, p), state, rate)
    found += same_twice(rate, simulator.vector_field, t, state, p) if not found else []
    if isinstance(simulator, SDESimulator) and not found:
        noise = place(simulator, "diffusion")
        seen = _shape(simulator.diffusion, t, state, p)
        found += [] if _is_numbers(seen) else [Mistake(_WHERE, f"{noise} gives {_in_words(seen)}, expected amplitudes")]
        found += same_twice(noise, simulator.diffusion, t, state, p) if not found else []
    where = place(simulator, "observe")
    found += _table(_shape(simulator.observe, t, state, p), where)
    return found or same_twice(where, simulator.observe, t, state, p)


def _like_state(seen: Any, state: Any, where: str) -> list[Mistake]:
    got, expected = ((str(jax.tree.structure(each)), *map(jnp.shape, jax.tree.leaves(each))) for each in (seen, state))
    if _is_numbers(seen) and got == expected:
        return []
    what = f"{where} gives {_in_words(seen)}, expected the state's rate of change, as the state: {_in_words(state)}"
    return [Mistake(_WHERE, what)]


def _table(seen: Any, where: str) -> list[Mistake]:
    expected = 'expected a table of outputs by name, {"name": value}'
    if not isinstance(seen, Mapping):
        return [Mistake(_WHERE, f"{where} gives {_in_words(seen)}, {expected}")]
    if odd := [name for name in seen if not isinstance(name, str)]:
        return [Mistake(_WHERE, f"{where} gives an output named {odd[0]!r}, {expected}")]
    return [
        Mistake(_WHERE, f"{where} gives {_in_words(value)} for the output {name}, expected a number or an array")
        for name, value in seen.items()
        if not _is_numbers(value) or len(jax.tree.leaves(value)) != 1 or not hasattr(value, "shape")
    ]


def _declared(simulator: Simulator) -> list[Mistake]:
    """List what is wrong with what `outputs()` says."""
    said: Any = simulator.outputs()
    where = place(simulator, "outputs")
    if not isinstance(said, Mapping) or not said:
        what = f'{where} gives {_in_words(said)}, expected a table of them by name, {{"name": Output(...)}}'
        return [Mistake(_WHERE, what)]
    return [
        Mistake(_WHERE, f"{where}: output {name}: {what}")
        for name, output in said.items()
        if (what := _output(name, output))
    ]


def _output(name: Any, output: Any) -> str:
    """Say what is wrong with one output's description."""
    if not isinstance(name, str) or not isinstance(output, Output):
        return f"got {_in_words(output)}, expected an Output, such as Output(('time',), {{'time': times}}, 'cm')"
    if isinstance(output.dims, str):
        return f"got dims = {output.dims!r}, expected a tuple of names, ({output.dims!r},)"
    for dim in output.dims:
        if dim not in output.coords:
            return f"it has no coordinates of its axis {dim!r}"
        try:
            values = np.asarray(output.coords[dim], float)
        except (TypeError, ValueError):
            return f"got coordinates {dim} that are no numbers: {str(output.coords[dim])[:60]}"
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or len(np.unique(values)) < len(values):
            return f"got coordinates {dim} = {str(values)[:60]}, expected finite numbers, each there once"
    return ""


def _parameters(simulator: Simulator) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct((), float) for name in simulator.parameters}


def _shape(function: Callable[..., Any], *given: Any) -> Any:
    """Return what a function gives, arrays by their shapes and all else as it is."""
    return eqx.filter_eval_shape(function, *given)


def _is_numbers(value: Any) -> bool:
    leaves = jax.tree.leaves(value, is_leaf=lambda leaf: leaf is None)
    return bool(leaves) and all(_is_number(leaf) for leaf in leaves)


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, (bool, int, float)):
        return True
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool)


def _in_words(value: Any) -> str:
    if value is None:
        return f"None{_FORGOTTEN}"
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "a table of " + (", ".join(f"{key} ({_in_words(each)})" for key, each in value.items()) or "nothing")
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {', '.join(map(_in_words, value)) or 'nothing'}"
    return f"{type(value).__name__} {str(value)[:40]}"
