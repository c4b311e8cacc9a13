"""A network of residual blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from simfer.stages.emulator.architectures.base import Activation, Architecture, Fixed, Learned, activations
from simfer.stages.settings import Count

_NORMS: dict[str, Any] = {"layer": eqx.nn.LayerNorm, "rms": eqx.nn.RMSNorm}


class Residual(Architecture):
    """Residual network: `depth` blocks h + W2 act(W1 act(h)) of `width` units between two linear maps.

    With 96 units instead of 64 it took twice as long to train and to ask, and left 0.9 to 1.1 times as much of six
    standard functions unexplained after 1,000 runs, and half as much of Ishigami (docs/measured.md).

    Activations that are learned left 0.5 to 0.7 of SiLU's unexplained variance on the OTL circuit and Ishigami, and 0.6
    to 1.3 on rows of lynx_hare, lotka_volterra and sir, 0.8 at the median (one design, a learning rate of 1e-2).

    With `normalize` a block sees its input normalised (Ba et al. 2016; Zhang & Sennrich 2019). Either way multiplied
    the unexplained variance with SiLU, measured with three seeds at 1,000 runs (smoke 512), by 4 on borehole and
    Friedman, 1.8 on smoke, 1.1 to 1.2 on lotka_volterra, and 1 on Ishigami and lynx_hare: "none" it is.
    """

    first: eqx.nn.Linear
    blocks: list[tuple[eqx.nn.Linear, eqx.nn.Linear]]
    last: eqx.nn.Linear
    norms: list[Callable[[Array], Array]]  # one for each block, or none
    activations: list[Learned | Fixed]  # two of each block, and one more

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        width: Count = 64,
        depth: Count = 2,
        activation: Activation = "learned",
        normalize: Literal["none", "layer", "rms"] = "none",
    ) -> None:
        first, last, *inner = jax.random.split(key, 2 + 2 * depth)
        self.first = eqx.nn.Linear(in_size, width, key=first)
        self.blocks = [
            (eqx.nn.Linear(width, width, key=a), eqx.nn.Linear(width, width, key=b))
            for a, b in zip(inner[::2], inner[1::2], strict=True)
        ]
        self.last = eqx.nn.Linear(width, out_size, key=last)
        self.norms = [_NORMS[normalize](width) for _ in self.blocks if normalize != "none"]
        self.activations = activations(activation, width, 2 * depth + 1)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point."""
        h, norms = self.first(z), self.norms or [lambda h: h] * len(self.blocks)
        *activations, last = self.activations
        pairs = zip(activations[::2], activations[1::2], strict=True)
        for (inner, outer), norm, (before, between) in zip(self.blocks, norms, pairs, strict=True):
            h = h + outer(between(inner(before(norm(h)))))
        return self.last(last(h))
