"""What an architecture is: a network from whitened parameters to scaled outputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Activation = Literal["learned", "silu", "gelu", "softplus", "tanh"]
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

    limits: ClassVar[tuple[str, ...]] = ()  # options that bound what is tried: of no use in a search
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


def swish(x: Float[Array, " width"], beta: Float[Array, " width"], gamma: Float[Array, " width"]) -> Array:
    """Evaluate [gamma + (1 - gamma) / (1 + exp(-beta x))] x (Alsing et al. 2020; Spurio Mancini et al. 2022, eq. 5)."""
    return (gamma + (1.0 - gamma) * jax.nn.sigmoid(beta * x)) * x


class Learned(eqx.Module):
    """An activation whose shape every unit learns for itself, from a straight line to a smooth step.

    All start as x / (1 + exp(-x / 2)), softer than SiLU's x / (1 + exp(-x)): the unexplained variance was 0.6 of that
    from SiLU on Ishigami, 0.7 on sir and lynx_hare, 0.9 on the OTL circuit and 1.2 on lotka_volterra (one design).
    """

    beta: Float[Array, " width"]
    gamma: Float[Array, " width"]

    def __init__(self, width: int) -> None:
        self.beta, self.gamma = jnp.full(width, 0.5), jnp.zeros(width)

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        """Evaluate it for all units of a layer."""
        return swish(x, self.beta, self.gamma)


class Fixed(eqx.Module):
    """An activation that is what its name says."""

    function: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        """Evaluate it for all units of a layer."""
        return self.function(x)


def activations(name: str, width: int, number: int) -> list[Learned | Fixed]:
    """Return smooth activations for layers by name: NUTS follows gradients, and a kinked emulator has poor ones."""
    if name == "learned":
        return [Learned(width) for _ in range(number)]
    if name not in ACTIVATIONS:
        raise ValueError(f'got activation "{name}", expected one of {", ".join(get_args(Activation))}')
    return [Fixed(ACTIVATIONS[name]) for _ in range(number)]
