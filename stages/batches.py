"""Functions are compiled once, whatever emulator they close over, and whatever the number of rows they are asked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

Row = Any  # a tree of arrays
Rows = Any  # the same, with a leading axis


def in_batches(function: Callable[[Row], Any], rows: Rows, size: int = 256, together: bool = True) -> Any:
    """Evaluate a function at every row.

    The rows are cut into batches of one size, the last of them filled up, and the arrays that the function closes over
    (an emulator's weights) are arguments of what is compiled. So what was compiled for one number of rows and one
    emulator is what any other needs, and XLA's cache on disk has it.

    Args:
        function: Takes one row, returns a tree of arrays.
        rows: A tree of arrays with a leading axis, of equal length.
        size: Rows in a batch; fewer rows are filled up to the next power of two.
        together: Whether a batch is evaluated side by side or row by row. Random numbers made side by side take XLA
            seconds to compile.

    Returns:
        What the function returns, as NumPy arrays with the rows' leading axis.
    """
    if any(map(_is_key, jax.tree.leaves(rows))):
        function, rows = _without_keys(function, rows)
    rows = jax.tree.map(np.asarray, rows)
    count = len(jax.tree.leaves(rows)[0])
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rows)
    if count == 0:
        return jax.tree.map(lambda out: np.zeros((0, *out.shape), out.dtype), jax.eval_shape(function, first))
    size = min(size, 1 << (count - 1).bit_length())
    # A method of a module has its arrays for arguments already, and need not be traced again when it is asked again.
    is_module = isinstance(function, eqx.Module)
    closed = function if is_module else eqx.filter_closure_convert(partial(function), first)
    parts = [_evaluate(closed, _batch(rows, start, size), together) for start in range(0, count, size)]
    return jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[:count], *parts)


def compiled(function: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """Compile a function of arrays, those that it closes over being arguments of what is compiled.

    Two emulators of one shape are then one program, which XLA's cache on disk has after the first.

    Args:
        function: Takes and returns trees of arrays.
        examples: Arguments of the shapes and types that it will be called with.
    """
    traced, shape = jax.make_jaxpr(function, return_shape=True)(*examples)
    tree = jax.tree.structure(shape)
    program = jax.jit(lambda constants, leaves: jax.core.eval_jaxpr(traced.jaxpr, constants, *leaves))

    def call(*arguments: Any) -> Any:
        return jax.tree.unflatten(tree, program(traced.consts, jax.tree.leaves(arguments)))

    return call


@eqx.filter_jit
def _evaluate(function: Callable[[Row], Any], rows: Rows, together: bool) -> Any:
    return jax.vmap(function)(rows) if together else jax.lax.map(function, rows)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _without_keys(function: Callable[[Row], Any], rows: Rows) -> tuple[Callable[[Row], Any], Rows]:
    """Have rows of what random keys are made of, which NumPy holds, and the keys made of that in the function."""
    is_key = jax.tree.map(_is_key, rows)

    def with_keys(row: Row) -> Any:
        return function(jax.tree.map(lambda key, leaf: jax.random.wrap_key_data(leaf) if key else leaf, is_key, row))

    return with_keys, jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, rows)


def _batch(rows: Rows, start: int, size: int) -> Rows:
    """Cut a batch out, filled up with its last row."""

    def cut(leaf: np.ndarray) -> np.ndarray:
        part = leaf[start : start + size]
        return np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])

    return jax.tree.map(cut, rows)
