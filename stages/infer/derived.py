"""Quantities that follow from parameters and outputs, at every draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from simfer.stages.errors import StageError
from simfer.stages.infer.target import Target
from simfer.stages.model.vectors import of_names
from simfer.stages.settings import Derived
from simfer.stages.settings.expressions import parse


def derived_draws(
    derived: Mapping[str, Derived], target: Target, z: Float[np.ndarray, "chains draws size"], named: Mapping[str, Any]
) -> dict[str, Float[np.ndarray, "chains draws"]]:
    """Return what each formula comes to, one number for each draw; `named` are the draws of the free parameters."""
    if not derived:
        return {}
    used = {name for each in derived.values() for name in parse(each.formula).names}
    values: dict[str, Any] = {**target.predictor.space.fixed, **target.likelihood.noise_space.fixed, **named}
    if outputs := [name for name in target.predictor.layout.outputs if name in used]:
        flat = jnp.asarray(target.split(z)[0].reshape(-1, target.predictor.space.size))
        natural = jax.jit(lambda rows: jax.lax.map(lambda row: _outputs(target, row, outputs), rows))(flat)
        values |= {name: np.asarray(value).reshape(*z.shape[:2], -1) for name, value in natural.items()}
    found: dict[str, Any] = {}
    for name, each in derived.items():
        numbers = values | found
        arrays = {vector: np.stack([np.asarray(numbers[number]) for number in parts], axis=-1)
                  for vector, parts in of_names(numbers).items()}  # fmt: skip
        value = np.asarray(parse(each.formula)(arrays | numbers, np), float)
        if value.shape != z.shape[:2]:
            raise StageError(
                f'derived.{name}: "{each.formula}" has shape {value.shape[2:]} at each draw, expected one number; '
                "of an output take max, min, mean, sum, first or last"
            )
        found[name] = value
    return found


def _outputs(target: Target, z: Any, names: list[str]) -> dict[str, Any]:
    natural = target.predictor.natural(target.predictor.members(z).mean(axis=0))
    return {name: natural[name].reshape(-1) for name in names}
