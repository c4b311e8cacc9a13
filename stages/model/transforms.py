"""Elementwise transforms that an output goes through before a network learns it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from simfer.stages.batches import in_batches
from simfer.stages.settings import Dataset, Transform


@dataclass(frozen=True)
class Pair:
    """A transform and its inverse, on NumPy and JAX arrays alike; `forward` sees no value below `floor`."""

    forward: Callable[[Any, float], Any]
    inverse: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    """The inverse's derivative at a transformed value."""


_DEFAULT, _SMALL = Dataset(transform={}).floor, 1e-3  # the floor, and outputs beside which it is not negligible


def scaled_floor(floor: float, transform: Mapping[str, Transform], largest: Mapping[str, float]) -> float:
    """Return the floor: as given, but the default shrinks with outputs that are small as a whole.

    `largest` is each output's largest size in all rows. At 1e-3 or above the default stays as it is; below, it is as
    far below the output as it is below 1: outputs in mol/ml are learned as the same ones in cells are.
    """
    sizes = [largest[name] for name, kind in transform.items() if kind in ("log", "sqrt") and largest[name] > 0.0]
    return floor * min(sizes) if floor == _DEFAULT and sizes and min(sizes) < _SMALL else floor


TRANSFORMS: dict[Transform, Pair] = {
    "none": Pair(lambda y, floor: y, lambda t: t, lambda t: jnp.ones_like(t)),
    "log": Pair(lambda y, floor: _xp(y).log(_xp(y).maximum(y, floor)), jnp.exp, jnp.exp),
    "sqrt": Pair(lambda y, floor: _xp(y).sqrt(_xp(y).maximum(y, floor)), jnp.square, lambda t: 2.0 * t),
    "asinh": Pair(lambda y, floor: _xp(y).arcsinh(y), jnp.sinh, jnp.cosh),
}


def steepness(transform: Transform, y: Float[np.ndarray, "..."], floor: float) -> Float[np.ndarray, "..."]:
    """Return a transform's derivative at values before it; zero below the floor."""
    forward = lambda y: TRANSFORMS[transform].forward(y, floor)  # noqa: E731
    return np.asarray(in_batches(lambda y: jax.jvp(forward, (y,), (jnp.ones_like(y),))[1], y))


def _xp(y: Any) -> Any:
    return np if isinstance(y, np.ndarray) else jnp
