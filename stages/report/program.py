"""An emulator as a program that a page can run: what JAX does at one point, operation by operation, with its numbers.

It is read off the trace of the emulator itself, so that there is no second account of any architecture: one of a
user's own runs in the page as well, as long as it is made of operations that the page knows (`program.js`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jaxtyping import Array

_SAME = {"copy", "copy_p", "stop_gradient", "sharding_constraint", "optimization_barrier", "name", "reduce_precision"}
_UNARY = {
    "neg", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "tan", "asinh", "acosh", "atanh",
    "sinh", "cosh", "asin", "acos", "atan", "sqrt", "rsqrt", "cbrt", "abs", "sign", "floor", "ceil", "round", "erf",
    "erfc", "erf_inv", "square", "not", "is_finite",
}  # fmt: skip
_BINARY = {"add", "add_any", "sub", "mul", "div", "max", "min", "pow", "rem", "atan2", "and", "or", "xor",
           "eq", "ne", "lt", "le", "gt", "ge"}  # fmt: skip
_REDUCE = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
_MOVE = {"gather", "scatter", "dynamic_slice", "rev", "pad", "split", "tile", "stack", "unstack"}
_TURNS = 64  # of a loop
_LARGE = 4096  # numbers of a matrix, such as principal components, that halves what it takes by its digits
_BEYOND = 1e30  # which float32 hardly holds
_FOLDED = 4096  # numbers that a constant may have more than what it is computed from


class Unknown(Exception):
    """An operation that a page cannot do."""


class Program:
    """The operations in their order, and the constants that they need."""

    def __init__(self) -> None:
        self.constants: list[np.ndarray] = []
        self.steps: list[list[Any]] = []
        self.count = 0
        self._known: dict[int, np.ndarray] = {}  # numbers by variable that do not depend on the input
        self._shapes: dict[int, tuple[int, ...]] = {}

    @classmethod
    def of(cls, function: Callable[[Array], Mapping[str, Array]], size: int) -> dict[str, Any]:
        """Return the program of a function of one vector, as plain data.

        Raises:
            Unknown: It does what a page cannot do; the message names it.
        """
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(jnp.zeros(size))
        program = cls()
        (given,) = program._new([traced.jaxpr.invars[0].aval])
        outs = program._run(traced.jaxpr, [np.asarray(each) for each in traced.consts], [given])
        names = list(jax.tree.flatten_with_path(shapes)[0])
        outputs = {path[0].key: program._emitted(out) for (path, _), out in zip(names, outs, strict=True)}
        return {
            "input": given,
            "outputs": outputs,
            "shapes": {path[0].key: list(shape.shape) for path, shape in names},
            "steps": program.steps,
            "constants": {str(at): _packed(value) for at, value in program._used(outputs).items()},
        }

    def _run(self, jaxpr: Any, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Go through the equations; a value is the number of a variable, or an array that is known."""
        values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))
        read = lambda atom: np.asarray(atom.val) if isinstance(atom, Literal) else values[atom]  # noqa: E731
        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Any]) -> list[Any]:
        if equation.primitive.name == "scan" and not any(
            isinstance(each, int) for each in self._walked(equation, given)
        ):
            return self._unrolled(equation.params, given)
        inner = _inner(equation.params)
        if equation.primitive.name in ("cond", "switch") and not isinstance(given[0], int):
            branch = equation.params["branches"][int(given[0])]
            return self._run(branch.jaxpr, branch.consts, given[1:])
        if inner is not None and equation.primitive.name not in ("while", "scan", "cond"):
            jaxpr, consts = inner
            return self._run(jaxpr, consts, given[: len(jaxpr.invars)])
        if not any(isinstance(each, int) for each in given) and self._is_small(equation, given):
            return _computed(equation, given)
        return self._emit(equation, given)

    def _walked(self, equation: Any, given: list[Any]) -> list[Any]:
        """Return what a loop goes along."""
        return given[equation.params["num_consts"] + equation.params["num_carry"] :]

    def _unrolled(self, params: Mapping[str, Any], given: list[Any]) -> list[Any]:
        """Do a loop turn by turn, as of a polynomial's coefficients."""
        consts, carried = params["num_consts"], params["num_consts"] + params["num_carry"]
        inner, state, along = params["jaxpr"], given[consts:carried], given[carried:]
        if len(inner.jaxpr.outvars) != params["num_carry"] or params["length"] > _TURNS:
            raise Unknown("scan")
        for turn in reversed(range(params["length"])) if params["reverse"] else range(params["length"]):
            state = self._run(inner.jaxpr, inner.consts, [*given[:consts], *state, *(each[turn] for each in along)])
        return list(state)

    def _is_small(self, equation: Any, given: Sequence[np.ndarray]) -> bool:
        made = sum(int(np.prod(var.aval.shape)) for var in equation.outvars)
        return made <= sum(each.size for each in given) + _FOLDED

    def _emit(self, equation: Any, given: list[Any]) -> list[Any]:
        name, params, (out, *_) = equation.primitive.name, equation.params, equation.outvars
        if name in _SAME:
            return given[:1]
        if name in _MOVE:
            return self._moved(equation, given)
        step = _translated(name, params, [var.aval for var in equation.invars], out.aval)
        ids = [self._emitted(each) for each in given[: step.pop("operands", None)]]
        (number,) = self._new([out.aval])
        options = json.loads(json.dumps(step, default=int))  # axes may be NumPy's numbers
        self.steps.append([options.pop("op"), ids, number, list(out.aval.shape), _kind(out.aval.dtype), options])
        return [number]

    def _moved(self, equation: Any, given: list[Any]) -> list[Any]:
        """Have numbers taken from where they are: which, says the operation itself, done on their places."""
        moved = {"scatter": [0, 2], "pad": [0, 1], "stack": list(range(len(given)))}.get(equation.primitive.name, [0])
        if any(isinstance(each, int) for at, each in enumerate(given) if at not in moved):
            raise Unknown(f"{equation.primitive.name} at places that depend on the parameters")
        starts = np.cumsum([0, *(int(np.prod(equation.invars[at].aval.shape)) for at in moved)])
        places = list(given)
        for at, start in zip(moved, starts, strict=False):
            shape = equation.invars[at].aval.shape
            # In floats, which hold places exactly up to 2^53: some operations' parameters are of the numbers' type.
            places[at] = (start + np.arange(int(np.prod(shape)))).reshape(shape).astype(float)
        results = _computed(equation, places)
        ids = [self._emitted(given[at]) for at in moved]
        outs = self._new([var.aval for var in equation.outvars])
        for number, var, result in zip(outs, equation.outvars, results, strict=True):
            where = self._constant(np.asarray(result).astype(np.int32))
            self.steps.append(["take", [*ids, where], number, list(var.aval.shape), _kind(var.aval.dtype), {}])
        return list(outs)

    def _new(self, avals: Sequence[Any]) -> list[int]:
        numbers = list(range(self.count, self.count + len(avals)))
        self.count += len(avals)
        self._shapes |= {number: aval.shape for number, aval in zip(numbers, avals, strict=True)}
        return numbers

    def _emitted(self, value: Any) -> int:
        return value if isinstance(value, int) else self._constant(np.asarray(value))

    def _constant(self, value: np.ndarray) -> int:
        for number, known in self._known.items():
            if (
                known.dtype == value.dtype
                and known.shape == value.shape
                and np.array_equal(known, value, equal_nan=True)
            ):
                return number
        number, self.count = self.count, self.count + 1
        self._known[number] = value
        return number

    def _used(self, outputs: Mapping[str, int]) -> dict[int, np.ndarray]:
        """Return the constants that something needs, and drop the steps that nothing does."""
        needed, steps = set(outputs.values()), []
        for step in reversed(self.steps):
            if step[2] in needed:
                needed.update(step[1])
                steps.append(step)
        self.steps[:] = steps[::-1]
        return {number: value for number, value in self._known.items() if number in needed}


def _inner(params: Mapping[str, Any]) -> tuple[Any, Sequence[Any]] | None:
    """Return the equations within an equation, as a function called within a function has them."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            found = params[key]
            return (found.jaxpr, found.consts) if hasattr(found, "consts") else (found, ())
    return None


def _computed(equation: Any, given: Sequence[Any]) -> list[np.ndarray]:
    found = equation.primitive.bind(*map(jnp.asarray, given), **equation.params)
    return [np.asarray(each) for each in (found if equation.primitive.multiple_results else [found])]


def _translated(name: str, params: Mapping[str, Any], avals: Sequence[Any], out: Any) -> dict[str, Any]:
    """Return the operation as the page has it."""
    if name in _UNARY or name in _BINARY:
        return {"op": name}
    if name == "integer_pow":
        return {"op": "integer_pow", "y": int(params["y"])}
    if name == "convert_element_type":
        return {"op": "convert"}
    if name in ("reshape", "squeeze", "expand_dims"):
        return {"op": "reshape", "operands": 1}
    if name == "broadcast_in_dim":
        return {"op": "broadcast", "dims": list(params["broadcast_dimensions"]), "operands": 1}
    if name == "transpose":
        return {"op": "transpose", "order": list(params["permutation"])}
    if name == "slice":
        strides = params["strides"] or (1,) * len(params["start_indices"])
        return {"op": "slice", "start": list(params["start_indices"]), "strides": list(strides)}
    if name == "concatenate":
        return {"op": "concatenate", "axis": int(params["dimension"])}
    if name in _REDUCE:
        return {"op": name, "axes": list(params["axes"])}
    if name == "dot_general":
        (left, right), (left_batch, right_batch) = params["dimension_numbers"]
        return {"op": "dot", "sum": [list(left), list(right)], "batch": [list(left_batch), list(right_batch)]}
    if name == "select_n":
        return {"op": "select"}
    if name == "clamp":
        return {"op": "clamp"}
    if name == "iota":
        return {"op": "iota", "axis": int(params["dimension"])}
    if name == "cumsum":
        return {"op": "cumsum", "axis": int(params["axis"])}
    if name == "triangular_solve":
        kept = {key: bool(params[key]) for key in ("left_side", "lower", "transpose_a", "unit_diagonal")}
        if len(out.shape) == 2:
            return {"op": "triangular_solve", **kept}
    raise Unknown(name)


def _kind(dtype: Any) -> str:
    kind = np.dtype(dtype)
    if kind == np.bool_:
        return "b"
    if kind.kind in "iu":
        return "i4"
    return "f4" if kind == np.float32 else "f8"


def _packed(value: np.ndarray) -> dict[str, Any]:
    """Return a constant as text; of one that is the same everywhere a single number, large matrices in float32."""
    kind = _kind(value.dtype)
    short = kind == "f8" and value.ndim > 1 and value.size > _LARGE and bool(np.abs(value).max() < _BEYOND)
    stored = {"b": "u1", "i4": "<i4", "f4": "<f4", "f8": "<f8"}["f4" if short else kind]
    flat = np.ascontiguousarray(value).astype(stored).ravel()
    if flat.size > 1 and (flat == flat[0]).all():
        flat = flat[:1]
    packed = {"shape": list(value.shape), "kind": kind, "data": base64.b64encode(flat.tobytes()).decode()}
    return packed | ({"as": "f4"} if short else {})


def sizes(program: Mapping[str, Any]) -> int:
    """Return the number of characters that a program's constants take in a page."""
    return sum(len(each["data"]) for each in program["constants"].values())
