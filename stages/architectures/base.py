"""What an architecture is: a network from whitened parameters to scaled outputs."""

from __future__ import annotations

import abc
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "tanh": jax.nn.tanh,
}


class Architecture(eqx.Module):
    """Map one whitened point to the scaled outputs. Everything after `key` is an option of `train.options`."""

    @abc.abstractmethod
    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray) -> None:
        """Build a network with random weights drawn from `key`."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate it at one point."""


def activation(name: str) -> Callable[[Array], Array]:
    """Return a smooth activation by name: NUTS follows gradients, and a kinked emulator has poor ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f'got activation "{name}", expected one of {", ".join(ACTIVATIONS)}')
    return ACTIVATIONS[name]
