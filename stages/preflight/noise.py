"""What a user's noise function gives back: called once, on the shape of the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model import noise as noises
from simfer.stages.model.information import variance_of_output
from simfer.stages.model.observation import Series
from simfer.stages.model.plugins import resolve
from simfer.stages.model.space import Space
from simfer.stages.preflight.words import unknown_names
from simfer.stages.settings import CustomNoise, Prior
from simfer.stages.settings.noise import arguments, quantities


def noise_mistakes(
    output: str, noise: CustomNoise, series: Series, shared: Mapping[str, float | Prior] = {}
) -> list[Mistake]:
    """List what is wrong with one's own noise of an output; what the function itself raises goes through."""
    where = f"noise.{output}"
    try:
        make = resolve(noise.dist, {}, f"{where}.dist")
    except ConfigError as error:
        return error.mistakes
    if not callable(make):
        return [Mistake(f"{where}.dist", f"got {make!r}, expected a function of the output and its arguments")]
    space = Space({each.name: each.value for each in quantities({output: noise}, shared)})
    values = space.values(jnp.zeros(space.size))  # at their priors' medians
    given = lambda y: noises.argument_values(noise, output, values, series.columns, y)  # noqa: E731
    return _arguments(where, noise, make) or _result(
        f"{where}.dist", noise.dist.rpartition(":")[2], lambda y: make(y, **given(y)), series.values
    )


def _arguments(where: str, noise: CustomNoise, make: Callable[..., Any]) -> list[Mistake]:
    parameters = list(inspect.signature(make).parameters.values())[1:]
    given = arguments(noise)
    missing = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return []
    return unknown_names(where, given, [each.name for each in parameters]) + [
        Mistake(f"{where}.{name}", f"missing: {make.__name__} takes it; give it a number or a prior")
        for name in missing
        if name not in given
    ]


def _result(where: str, name: str, given: Callable[[Array], Any], data: Float[np.ndarray, " n"]) -> list[Mistake]:
    """Call the function with its arguments, and ask its distribution what will be asked."""
    seen: list[Any] = []

    def scatter(y: Float[Array, " n"]) -> Any:
        seen.append(given(y))
        return jnp.zeros(())

    jax.eval_shape(scatter, data)  # what it raises is the user's
    if not isinstance(seen[0], dist.Distribution):
        what = f"{name} gives {type(seen[0]).__name__}, expected a NumPyro distribution, such as Normal(y, 1.0)"
        return [Mistake(where, what + ("; is a `return` missing?" if seen[0] is None else ""))]
    if (shape := seen[0].batch_shape + seen[0].event_shape) != data.shape:
        return [Mistake(where, f"{name} gives a distribution of shape {shape}, expected {data.shape}, as the output")]
    asked: dict[str, Callable[[Any], Any]] = {
        "log_prob": lambda y: given(y).log_prob(data),
        "sample": lambda y: given(y).sample(jax.random.key(0)),
        "the information about the output": lambda y: variance_of_output(given, y),
    }
    return [found for what, ask in asked.items() for found in _asked(where, name, what, ask, data)]


def _asked(where: str, name: str, what: str, ask: Callable[[Any], Any], data: Any) -> list[Mistake]:
    try:
        jax.eval_shape(ask, data)
    except Exception as error:  # of a distribution that lacks what every posterior needs
        reason = f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()
        return [Mistake(where, f"{name}: its distribution does not give {what} ({reason}), which every run needs")]
    return []
