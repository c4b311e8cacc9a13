"""A network of residual blocks."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from stages.architectures.base import Architecture
from stages.architectures.base import activation as activation_named


class Residual(Architecture):
    """Residual network: `depth` blocks h + W2 act(W1 act(h)) of `width` units between two linear maps."""

    first: eqx.nn.Linear
    blocks: list[tuple[eqx.nn.Linear, eqx.nn.Linear]]
    last: eqx.nn.Linear
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        width: int = 96,
        depth: int = 2,
        activation: str = "silu",
    ) -> None:
        first, last, *inner = jax.random.split(key, 2 + 2 * depth)
        self.first = eqx.nn.Linear(in_size, width, key=first)
        self.blocks = [
            (eqx.nn.Linear(width, width, key=a), eqx.nn.Linear(width, width, key=b))
            for a, b in zip(inner[::2], inner[1::2], strict=True)
        ]
        self.last = eqx.nn.Linear(width, out_size, key=last)
        self.activation = activation_named(activation)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point."""
        h = self.first(z)
        for inner, outer in self.blocks:
            h = h + outer(self.activation(inner(self.activation(h))))
        return self.last(self.activation(h))
