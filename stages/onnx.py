"""An emulator as an ONNX graph in float64, from the parameters' own units to the outputs', whitening and all.

ONNX Runtime has no error function and no arctangent in float64, nor incomplete beta and gamma functions. So all priors
but Normal and LogNormal are whitened by a table: the quantiles at evenly spaced z, a cubic in between.
"""

from __future__ import annotations

import json
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
from jaxtyping import Array, Float
from scipy import special

from stages.emulator import Emulator
from stages.errors import SimferError, StageError
from stages.parameters import distribution, from_normal, to_normal
from stages.settings import Prior

_KNOTS = 2**11  # intervals: a cubic then errs by some 1e-11
_MOST_Z = 6.0


def convert(emulator: Emulator) -> bytes:
    """Return the bytes of an ONNX file: an input for each parameter, of any length, and all outputs with errors."""
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
            f"the architecture {emulator.header['architecture']} does not go into ONNX ({type(error).__name__}: "
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
    return _cubic(*map(jnp.asarray, (theta, z, 1.0 / np.maximum(slope, 1e-300))))


def _cubic(
    x: Float[Array, " k"], y: Float[Array, " k"], slope: Float[Array, " k"]
) -> Callable[[Float[Array, ""]], Float[Array, ""]]:
    """Return the cubic Hermite interpolant of increasing values, found by bisection."""

    def at(value: Float[Array, ""]) -> Float[Array, ""]:
        k, step = jnp.asarray(0), _KNOTS // 2
        while step:
            k = jnp.where(value >= x[k + step], k + step, k)
            step //= 2
        width = jnp.maximum(x[k + 1] - x[k], 1e-300)
        t = jnp.clip((value - x[k]) / width, 0.0, 1.0)
        low, high, rise = y[k], y[k + 1], y[k + 1] - y[k]
        from_low, to_high = width * slope[k] - rise, rise - width * slope[k + 1]
        return (1 - t) * low + t * high + t * (1 - t) * ((1 - t) * from_low + t * to_high)

    return at


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
    return _cubic(*map(jnp.asarray, (knots, special.erf(knots), 2.0 / np.sqrt(np.pi) * np.exp(-(knots**2)))))(x)


_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_REPLACED = {"erf": _erf, "erfc": lambda x: 1.0 - _erf(x)}


def _in_float64(emulator: Emulator) -> Emulator:
    """Return the emulator with networks in float64: ONNX graphs of both precisions come out broken."""
    wide: Emulator = jax.tree.map(lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, emulator)
    return replace(wide, header_json=json.dumps(emulator.header | {"dtype": "float64"}))


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise SimferError(
            f"an export to ONNX needs {name}, which is not there; pip install 'simfer[export]'"
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
