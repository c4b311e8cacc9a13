"""An emulator as an ONNX graph in float64, from the parameters' own units to the outputs', whitening and all.

ONNX Runtime has no error function and no arctangent in float64, nor incomplete beta and gamma functions. So all priors
but Normal and LogNormal are whitened by a table: the quantiles at evenly spaced z, a cubic in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.errors import SimferError, StageError
from simfer.stages.model.quantiles import distribution, from_normal, to_normal
from simfer.stages.settings import Prior

_KNOTS = 2**10  # intervals: a cubic then errs by less than 1e-9
_MOST_Z = 6.0


def convert(emulator: Emulator) -> bytes:
    """Return the bytes of an ONNX file: an input for each parameter, of any length, and all outputs with errors."""
    if dependent := emulator.space.dependent:
        what = "a prior that depends on others goes into StableHLO alone; take --format stablehlo"
        raise StageError(f"{', '.join(dependent)}: {what}")
    if around := emulator.space.periodic:
        raise StageError(f"{', '.join(around)}: what is periodic goes into StableHLO alone; take --format stablehlo")
    to_onnx = _library("jax2onnx").to_onnx
    wide, names = _in_float64(emulator), emulator.space.names
    maps = [whitening(prior) for prior in emulator.space.priors.values()]

    def everything(*values: Float[Array, ""]) -> dict[str, Array]:
        z = jnp.stack([each(value) for each, value in zip(maps, values, strict=True)])
        return wide.everything_at(z)

    # The converter replaces functions of JAX while it traces, which NumPyro does not bear: it is given what was traced.
    try:
        blank = [jnp.zeros(())] * len(names)
        traced, shapes = jax.make_jaxpr(everything, return_shape=True)(*blank)
        one = jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(lambda *values: _evaluate(traced, *values))(*blank))
        with _quiet():
            model = to_onnx(
                lambda *columns: tuple(jax.vmap(lambda *values: tuple(one(*values)))(*columns)),
                inputs=[("n",)] * len(names),
                model_name="emulator",
                enable_double_precision=True,
                input_names=names,
                output_names=sorted(shapes),  # the order in which JAX flattens
            )
    except Exception as error:
        raise StageError(
            f"the architecture {emulator.header.architecture} does not go into ONNX ({type(error).__name__}: "
            f"{str(error)[:300]}); try --format stablehlo"
        ) from error
    return bytes(model.SerializeToString())


def load(content: bytes) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Open an ONNX file by ONNX Runtime."""
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StageError(f"ONNX Runtime does not run what was exported: {error}; try --format stablehlo") from error
    names = [output.name for output in session.get_outputs()]
    return lambda points: dict(zip(names, session.run(None, dict(points)), strict=True))


def whitening(prior: Prior) -> Callable[[Float[Array, ""]], Float[Array, ""]]:
    """Return the map from a parameter's own unit to z, of operations that ONNX has in float64.

    A table's z ends at 6 either side; beyond, where no emulator was trained, the end is returned.
    """
    density = distribution(prior)
    if prior.dist in ("Normal", "LogNormal"):
        return lambda theta: to_normal(density, theta)
    z = np.linspace(-_MOST_Z, _MOST_Z, _KNOTS + 1)
    theta = np.asarray(from_normal(density, jnp.asarray(z)))
    slope = np.asarray(jax.vmap(jax.grad(lambda z: from_normal(density, z)))(jnp.asarray(z)))
    knots = (jnp.asarray(theta), jnp.asarray(z), jnp.asarray(1.0 / np.maximum(slope, 1e-300)))
    return lambda value: _hermite(knots, _bisect(knots[0], value), value)


def _bisect(x: Float[Array, " k"], value: Float[Array, "..."]) -> Int[Array, "..."]:
    """Return the interval of increasing knots, 2^i of them, that a value lies in."""
    at, step = jnp.zeros(value.shape, int), (len(x) - 1) // 2
    while step:
        at = jnp.where(value >= x[at + step], at + step, at)
        step //= 2
    return at


def _hermite(
    knots: tuple[Float[Array, " k"], Float[Array, " k"], Float[Array, " k"]],
    at: Int[Array, "..."],
    value: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Return the cubic through the ends of an interval with the slopes there; the end's value beyond the last."""
    x, y, slope = knots
    width = jnp.maximum(x[at + 1] - x[at], 1e-300)
    t = jnp.clip((value - x[at]) / width, 0.0, 1.0)
    low, high, rise = y[at], y[at + 1], y[at + 1] - y[at]
    from_low, to_high = width * slope[at] - rise, rise - width * slope[at + 1]
    return (1 - t) * low + t * high + t * (1 - t) * ((1 - t) * from_low + t * to_high)


def _evaluate(traced: Any, *values: Array) -> list[Array]:
    """Evaluate what was traced, with functions that ONNX Runtime lacks replaced by others."""
    known = dict(zip((*traced.jaxpr.constvars, *traced.jaxpr.invars), (*traced.consts, *values), strict=True))
    for step in traced.jaxpr.eqns:
        given = [each.val if isinstance(each, jax.extend.core.Literal) else known[each] for each in step.invars]
        kind = step.primitive.name
        if kind in _REPLACED:
            found = [_REPLACED[kind](*given)]
        elif kind in _CALLS:
            found = _evaluate(step.params[_CALLS[kind]], *given)
        else:
            result = step.primitive.bind(*given, **step.params)
            found = list(result) if step.primitive.multiple_results else [result]
        known |= dict(zip(step.outvars, found, strict=True))
    return [each.val if isinstance(each, jax.extend.core.Literal) else known[each] for each in traced.jaxpr.outvars]


def _erf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    knots = np.linspace(-_MOST_Z, _MOST_Z, _KNOTS + 1)
    values, slope = special.erf(knots), 2.0 / np.sqrt(np.pi) * np.exp(-(knots**2))
    at = jnp.floor(jnp.clip((x + _MOST_Z) * (0.5 * _KNOTS / _MOST_Z), 0.0, _KNOTS - 1.0)).astype(int)
    return _hermite((jnp.asarray(knots), jnp.asarray(values), jnp.asarray(slope)), at, x)


def _select(which: Any, *cases: Float[Array, "..."]) -> Float[Array, "..."]:
    """Choose, where the choice is known already, by position: the converter spreads such a choice the wrong way."""
    if isinstance(which, jax.core.Tracer):
        return jax.lax.select_n(which, *cases)
    chosen = np.asarray(which).astype(int)
    if not chosen.ndim:
        return cases[int(chosen)]
    at = chosen.size * chosen.reshape(-1) + np.arange(chosen.size)
    return jnp.stack(cases).reshape(-1)[at].reshape(chosen.shape)


_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_REPLACED = {"erf": _erf, "erfc": lambda x: 1.0 - _erf(x), "select_n": _select}


def _in_float64(emulator: Emulator) -> Emulator:
    """Return the emulator with networks in float64: ONNX graphs of both precisions come out broken."""
    wide: Emulator = jax.tree.map(lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, emulator)
    return replace(wide, header=replace(emulator.header, dtype="float64"))


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise SimferError(
            f'an export to ONNX needs {name}, which is not installed: pip install "simfer[export]"'
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's remarks on shapes to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
