"""A function of one row made one of many, with the rows last in whatever it computes, not only in what it returns.

`jax.vmap` moves rows to the front wherever an array is given another shape; a loop over [rows, 3, 3] then has vectors
of three numbers. Here it is [3, 3, rows], and a processor's vectors run along the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

Value = tuple[Any, bool]  # and whether it has the axis of rows, the last
Rule = Callable[[JaxprEqn, Sequence[Value], int], Any]  # of one operation, at least one of its values with rows

_SMALL = 4096  # numbers for each row in what is computed, and multiplications in a matrix product that is written out
_NESTED = "jit", "pjit"  # functions within
# fmt: off
_ELEMENTWISE = [
    "add", "add_any", "sub", "mul", "div", "rem", "pow", "max", "min", "atan2", "nextafter", "and", "or", "xor",
    "eq", "ne", "lt", "le", "gt", "ge", "select_n", "clamp",
]
# fmt: on


def along_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function over the last axis of its arguments, as `jax.vmap(function, in_axes=-1, out_axes=-1)` does.

    It is done by `jax.vmap` where nothing has axes of its own beside the rows, or so many numbers in them that a vector
    may as well run along those.
    """

    def mapped(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        one = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(tree, one))
        if not _has_short_axes(traced.jaxpr):
            return jax.vmap(function, in_axes=-1, out_axes=-1)(*args)
        values = [(leaf, True) for leaf in leaves]
        num = leaves[0].shape[-1]
        results = _evaluate(traced.jaxpr, traced.consts, values, num)
        return jax.tree.unflatten(jax.tree.structure(shape), [_spread(*result, num) for result in results])

    return mapped


def _has_short_axes(jaxpr: Jaxpr) -> bool:
    """Say whether something of several axes is computed for a row, and nothing large."""
    inner = [eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if eqn.primitive.name in _NESTED]
    made = [var.aval for each in (jaxpr, *inner) for eqn in each.eqns for var in eqn.outvars]
    shapes = [getattr(aval, "shape", ()) for aval in made]
    return any(len(shape) > 1 for shape in shapes) and all(prod(shape) <= _SMALL for shape in shapes)


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Value], num: int) -> list[Value]:
    """Go through the operations of one row, and do each for all rows."""
    values: dict[Any, Value] = {var: (const, False) for var, const in zip(jaxpr.constvars, consts, strict=True)}
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Value:
        return (atom.val, False) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in _NESTED:
            inner = eqn.params["jaxpr"]
            results = _evaluate(inner.jaxpr, inner.consts, operands, num)
        elif any(has_rows for _, has_rows in operands):
            found = _RULES.get(eqn.primitive.name, _by_vmap)(eqn, operands, num)
            results = [(each, True) for each in (found if isinstance(found, list) else [found])]
        else:
            results = [(each, False) for each in _one(eqn)(*(value for value, _ in operands))]
        values |= dict(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _one(eqn: JaxprEqn) -> Callable[..., list[Any]]:
    """Return one operation as a function of its operands."""

    def operation(*operands: Any) -> list[Any]:
        params: Any = eqn.primitive.get_bind_params(eqn.params)
        if isinstance(params, tuple):  # before JAX 0.10 with the functions that it calls
            operands, params = (*params[0], *operands), params[1]
        result = eqn.primitive.bind(*operands, **params)
        return list(result) if eqn.primitive.multiple_results else [result]

    return operation


def _by_vmap(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> list[Any]:
    """Leave it to JAX: what this operation does with its axes is not known here."""
    axes = [-1 if has_rows else None for _, has_rows in operands]
    return list(jax.vmap(_one(eqn), in_axes=axes, out_axes=-1)(*(value for value, _ in operands)))


def _spread(value: Any, has_rows: bool, num: int, shape: tuple[int, ...] | None = None) -> Array:
    """Give a value the axis of rows, and a single number the shape of those that it meets."""
    value = jnp.asarray(value)
    own = value.shape[:-1] if has_rows else value.shape
    shape = own if shape is None else shape
    along = [*range(len(shape) - len(own), len(shape)), *([len(shape)] if has_rows else [])]
    return jax.lax.broadcast_in_dim(value, (*shape, num), along)


def _elementwise(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    shape = eqn.outvars[0].aval.shape  # type: ignore[attr-defined]
    spread = [_spread(*each, num, shape) for each in operands]
    return eqn.primitive.bind(*spread, **eqn.params)


def _broadcast(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    if len(operands) > 1:  # a shape that is not known yet
        return _by_vmap(eqn, operands, num)
    shape, along = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    return jax.lax.broadcast_in_dim(operands[0][0], (*shape, num), (*along, len(shape)))


def _reshape(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    if len(operands) > 1 or eqn.params["dimensions"] is not None:
        return _by_vmap(eqn, operands, num)
    return jax.lax.reshape(operands[0][0], (*eqn.params["new_sizes"], num))


def _squeeze(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    return jax.lax.squeeze(operands[0][0], eqn.params["dimensions"])


def _transpose(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    order = eqn.params["permutation"]
    return jax.lax.transpose(operands[0][0], (*order, len(order)))


def _concatenate(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    return jax.lax.concatenate([_spread(*each, num) for each in operands], eqn.params["dimension"])


def _stack(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    return jnp.stack([_spread(*each, num) for each in operands], axis=eqn.params["axis"])


def _split(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> list[Any]:
    return list(jax.lax.split(operands[0][0], eqn.params["sizes"], eqn.params["axis"]))


def _gather(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    (operand, _), (indices, own_indices) = operands
    if own_indices or eqn.params["fill_value"] is not None:
        return _by_vmap(eqn, operands, num)
    params, places = dict(eqn.params), eqn.params["dimension_numbers"]
    last = len(eqn.outvars[0].aval.shape)  # type: ignore[attr-defined]
    params["dimension_numbers"] = places._replace(offset_dims=(*places.offset_dims, last))
    params["slice_sizes"] = (*params["slice_sizes"], num)
    return eqn.primitive.bind(operand, indices, **params)


def _product(eqn: JaxprEqn, operands: Sequence[Value], num: int) -> Any:
    """Write a small matrix product out: of two arrays with rows, JAX's has them first."""
    (summed, other_summed), (batch, other_batch) = eqn.params["dimension_numbers"]
    avals: list[Any] = [var.aval for var in (*eqn.invars, *eqn.outvars)]
    left, right, out = avals
    is_one_type = left.dtype == right.dtype == out.dtype
    if not is_one_type or prod(out.shape) * prod(left.shape[axis] for axis in summed) > _SMALL:
        return _by_vmap(eqn, operands, num)
    free = [axis for axis in range(left.ndim) if axis not in (*batch, *summed)]
    other_free = [axis for axis in range(right.ndim) if axis not in (*other_batch, *other_summed)]
    a = jax.lax.transpose(_spread(*operands[0], num), (*batch, *free, *summed, left.ndim))
    b = jax.lax.transpose(_spread(*operands[1], num), (*other_batch, *other_free, *other_summed, right.ndim))
    kept = len(batch) + len(free)
    a = jnp.expand_dims(a, range(kept, kept + len(other_free)))
    b = jnp.expand_dims(b, range(len(batch), kept))
    return (a * b).sum(axis=tuple(range(kept + len(other_free), a.ndim - 1)))


_RULES: dict[str, Rule] = dict.fromkeys(_ELEMENTWISE, _elementwise) | {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "gather": _gather,
    "dot_general": _product,
}
