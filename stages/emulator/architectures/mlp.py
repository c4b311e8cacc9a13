"""A multilayer perceptron."""

from __future__ import annotations

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from simfer.stages.emulator.architectures.base import Activation, Architecture, Fixed, Learned, activations
from simfer.stages.settings import Count


class MLP(Architecture):
    """Multilayer perceptron: `depth` hidden layers of `width` units."""

    layers: list[eqx.nn.Linear]
    activations: list[Learned | Fixed]

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        width: Count = 128,
        depth: Count = 3,
        activation: Activation = "silu",
    ) -> None:
        sizes = [in_size, *[width] * depth, out_size]
        keys = jax.random.split(key, depth + 1)
        self.layers = [eqx.nn.Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]
        self.activations = activations(activation, width, depth)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point."""
        for layer, activate in zip(self.layers[:-1], self.activations, strict=True):
            z = activate(layer(z))
        return self.layers[-1](z)
