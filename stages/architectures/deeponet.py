"""A deep operator network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from stages.architectures.base import Continuous
from stages.architectures.mlp import MLP
from stages.coordinates import Axis, grid, make_axis
from stages.settings import Count, CountOrNone


class DeepONet(Continuous):
    """Deep operator network: can be asked between save points (`emulator.between`); a branch over parameters, a trunk over coordinates.

    An output is b0(z) + sum_k b_k(z) t_k(x), with one branch b for all outputs and a trunk t of each (Lu et al. 2021,
    equation 2). The trunk sees every coordinate at unit size, and `waves` sines and cosines of it, the first of which
    has a period of twice the range. An output without dimensions is b0 alone.
    """

    branch: MLP
    trunks: dict[str, MLP]
    axes: tuple[tuple[str, tuple[Axis, ...]], ...] = eqx.field(static=True)  # of each output
    varies: tuple[bool, ...] = eqx.field(static=True)
    num_terms: int = eqx.field(static=True)
    waves: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        coordinates: Mapping[str, Mapping[str, Any]],
        varies: Sequence[bool] | None = None,
        width: Count = 128,
        depth: Count = 3,
        activation: str = "silu",
        trunk_width: Count = 64,
        trunk_depth: Count = 2,
        num_terms: Count = 48,
        waves: CountOrNone = 4,
    ) -> None:
        self.axes = tuple((name, tuple(map(make_axis, dims.values()))) for name, dims in coordinates.items())
        self.varies = (True,) * out_size if varies is None else tuple(map(bool, varies))
        self.num_terms, self.waves = num_terms, waves
        own, *others = jax.random.split(key, 1 + len(self.axes))
        branch_size = sum(1 + num_terms * bool(axes) for _, axes in self.axes)
        self.branch = MLP(in_size, branch_size, key=own, width=width, depth=depth, activation=activation)
        self.trunks = {
            name: MLP(
                len(axes) * (1 + 2 * waves), num_terms, key=k, width=trunk_width, depth=trunk_depth, activation=activation
            )
            for k, (name, axes) in zip(others, self.axes, strict=True)
            if axes
        }

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point, at all coordinates that were saved; where nothing varies it says zero."""
        saved = {name: jnp.asarray(grid([axis.values for axis in axes])) for name, axes in self.axes}
        values = jnp.concatenate(list(self.between(z, saved).values()))
        # There is nothing to learn where the scale is zero, and to be zero there would bend the curve beside it.
        return jnp.where(np.asarray(self.varies), values, jnp.zeros_like(values))

    def between(
        self, z: Float[Array, " in_size"], points: Mapping[str, Float[Array, "n dims"]]
    ) -> dict[str, Float[Array, " n"]]:
        """Evaluate the network at one point, each output at coordinates of its own."""
        coefficients, values = self.branch(z), {}
        for name, axes in self.axes:
            (offset, *_), rest = coefficients[:1], coefficients[1:]
            own, coefficients = (rest[: self.num_terms], rest[self.num_terms :]) if axes else (rest[:0], rest)
            values[name] = offset + self._terms(name, axes, points[name], z.dtype) @ own
        return values

    def _terms(
        self, name: str, axes: Sequence[Axis], points: Float[Array, "n dims"], dtype: Any
    ) -> Float[Array, "n terms"]:
        if not axes:
            return jnp.zeros((len(points), 0), dtype)
        u = jnp.stack([axis.standard(points[:, i]) for i, axis in enumerate(axes)], axis=-1).astype(dtype)
        # Of standardised coordinates the range is about 2 sqrt(3).
        phase = (np.pi / np.sqrt(12.0)) * u[:, :, None] * np.arange(1, self.waves + 1)
        phase = phase.reshape(len(u), -1).astype(dtype)
        return jax.vmap(self.trunks[name])(jnp.concatenate([u, jnp.sin(phase), jnp.cos(phase)], axis=1))
