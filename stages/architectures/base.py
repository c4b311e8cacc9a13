"""What an architecture is: a network from whitened parameters to scaled outputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Activation = Literal["silu", "gelu", "softplus", "tanh"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "tanh": jax.nn.tanh,
}


# What a constructor is given. All else that it takes is an option of `train.options`.
GIVEN = frozenset({"in_size", "out_size", "key", "layout", "families", "varies"})


class Architecture(eqx.Module):
    """Map one whitened point to the scaled outputs. Everything after `key` is an option of `train.options`.

    A constructor that takes `layout` is given the outputs' `Layout`; one that takes `families`, how the training
    rows lie along each input: "uniform" or "normal", of mean about 0 and variance about 1; one that takes `varies`,
    which of the scaled outputs are not the same in all rows.
    """

    @abc.abstractmethod
    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray) -> None:
        """Build a network with random weights drawn from `key`."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate it at one point."""


class Continuous(Architecture):
    """An architecture that knows its outputs' coordinates, and can be asked between them."""

    @abc.abstractmethod
    def between(
        self, z: Float[Array, " in_size"], points: Mapping[str, Float[Array, "n dims"]]
    ) -> dict[str, Float[Array, " n"]]:
        """Evaluate it at one point, each output at coordinates of its own choice, as scaled as the outputs are."""


class ClosedForm(Architecture):
    """An architecture that is fitted at once instead of by descent, and that gives its own error. In float64."""

    in_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        """Return this fitted to rows, and to them alone; hyperparameters may start from what they are."""

    @abc.abstractmethod
    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        """Return F with F^T F the covariance of the error of what is predicted at one point."""

    def sigma_points(self, z: Float[Array, " in_size"]) -> Float[Array, "points out_size"]:
        """Stand in for an ensemble: points whose mean and covariance are the prediction's (Julier & Uhlmann 1997)."""
        mean, factor = self(z), self.error_factor(z)
        if not len(factor):
            return mean[None]
        # 2 f points have 2 f - 1 in the denominator of their covariance.
        steps = jnp.sqrt(len(factor) - 0.5) * factor
        return mean + jnp.concatenate([steps, -steps])


def activation(name: str) -> Callable[[Array], Array]:
    """Return a smooth activation by name: NUTS follows gradients, and a kinked emulator has poor ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f'got activation "{name}", expected one of {", ".join(ACTIVATIONS)}')
    return ACTIVATIONS[name]
