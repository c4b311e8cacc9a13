"""Architectures of a user's own that are fitted in no time, and whose errors are known."""

from __future__ import annotations

from typing import Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from simfer.stages.emulator.architectures.base import ClosedForm


class Straight(ClosedForm):
    """A straight line through the rows by ridge regression: exact for a linear simulator, but for its strength."""

    in_size: int
    weights: Array
    strength: float

    def __init__(
        self, in_size: int, out_size: int, *, key: PRNGKeyArray, strength: float = 1e-9, slanted: bool = True
    ) -> None:
        if strength > 1.0:
            raise ValueError(f"got strength {strength}, expected at most 1")
        self.in_size, self.weights = in_size, jnp.zeros((1 + in_size, out_size))
        self.strength = strength if slanted else 1e9

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        return self.weights[0] + z @ self.weights[1:]

    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        design = np.column_stack([np.ones(len(x)), x])
        normal = design.T @ design + len(x) * self.strength * np.eye(design.shape[1])
        return eqx.tree_at(lambda line: line.weights, self, jnp.asarray(np.linalg.solve(normal, design.T @ y)))

    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        return jnp.zeros((0, self.weights.shape[1]))


class Nearest(ClosedForm):
    """The output of the nearest row: of d parameters its error falls as n to the -1 / d."""

    in_size: int
    points: Array
    values: Array

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray) -> None:
        self.in_size, self.points, self.values = in_size, jnp.zeros((0, in_size)), jnp.zeros((0, out_size))

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        return self.values[jnp.argmin(((self.points - z) ** 2).sum(axis=1))]

    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        return eqx.tree_at(lambda n: (n.points, n.values), self, (jnp.asarray(x), jnp.asarray(y)))

    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        return jnp.zeros((0, self.values.shape[1]))


class Refuses(Nearest):
    """It cannot be fitted."""

    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        raise RuntimeError(f"{len(x)} rows are too many")
