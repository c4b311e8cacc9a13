"""A multilayer perceptron on waves of its inputs."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from simfer.stages.emulator.architectures.base import Activation, Architecture
from simfer.stages.emulator.architectures.mlp import MLP
from simfer.stages.settings import Count, Positive


class Fourier(Architecture):
    """Fourier features, the inputs beside their sines and cosines along drawn directions, and an MLP on them.

    The features are those of Tancik et al. (2020). A frequency is a draw of Normal(0, `frequency`) along every input;
    inputs are about N(0, 1), so that a frequency of 1 has its period in three standard deviations on either side.
    Where it is too high, the network wiggles between training rows. Learned waves had 0.5 to 0.8 of the unexplained
    variance of those that stay as drawn (borehole, Ishigami, smoke, lynx_hare; three seeds).
    """

    waves: Float[Array, "num_features in_size"]
    mlp: MLP
    learned: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        width: Count = 128,
        depth: Count = 2,
        activation: Activation = "silu",
        num_features: Count = 64,
        frequency: Positive = 0.3,
        learned: bool = True,
    ) -> None:
        own, inner = jax.random.split(key)
        self.waves = frequency * jax.random.normal(own, (num_features, in_size))
        self.learned = learned
        sizes = (in_size + 2 * num_features, out_size)
        self.mlp = MLP(*sizes, key=inner, width=width, depth=depth, activation=activation)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point."""
        waves = self.waves if self.learned else jax.lax.stop_gradient(self.waves)
        phase = waves @ z
        return self.mlp(jnp.concatenate([z, jnp.sin(phase), jnp.cos(phase)]))
