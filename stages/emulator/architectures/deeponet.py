"""A deep operator network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from simfer.stages.emulator.architectures.base import Activation, Continuous
from simfer.stages.emulator.architectures.mlp import MLP
from simfer.stages.emulator.coordinates import Axis, grid, make_axis
from simfer.stages.settings import Count, Natural


class DeepONet(Continuous):
    """Deep operator network: a branch over parameters, a trunk over coordinates; can be asked between save points.

    An output is b0(z) + sum_k b_k(z) t_k(x) with `num_terms` terms, of one branch b for all outputs and a trunk t for
    each (Lu et al. 2021, equation 2); without dimensions it is b0 alone. The trunk sees every coordinate at unit size,
    and up to `waves` of its sines and cosines, as many as the saved points resolve; the longest is twice the range.
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
        layout: Any,  # stages.artifacts.Layout, whose layer is above this one
        varies: Sequence[bool] | None = None,
        width: Count = 128,
        depth: Count = 3,
        activation: Activation = "silu",
        trunk_width: Count = 64,
        trunk_depth: Count = 2,
        num_terms: Count = 48,
        waves: Natural = 4,
    ) -> None:
        if out_size != layout.size:
            raise ValueError(
                f"got {out_size} values to learn, expected the outputs' own {layout.size}: the components of "
                "dataset.pca, and a random simulator's covariance, have no coordinates; take another architecture"
            )
        self.axes = tuple(
            (name, tuple(make_axis(output.coords[dim]) for dim in output.dims))
            for name, output in layout.outputs.items()
        )
        self.varies = (True,) * out_size if varies is None else tuple(map(bool, varies))
        self.num_terms, self.waves = num_terms, waves
        own, *others = jax.random.split(key, 1 + len(self.axes))
        branch_size = sum(1 + num_terms * bool(axes) for _, axes in self.axes)
        self.branch = MLP(in_size, branch_size, key=own, width=width, depth=depth, activation=activation)
        self.trunks = {
            name: MLP(
                sum(1 + 2 * self._num_waves(axis) for axis in axes),
                num_terms,
                key=k,
                width=trunk_width,
                depth=trunk_depth,
                activation=activation,
            )
            for k, (name, axes) in zip(others, self.axes, strict=True)
            if axes
        }

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the network at one point, at all coordinates that were saved; where nothing varies it says zero."""
        saved = {name: grid([np.asarray(axis.values) for axis in axes]) for name, axes in self.axes}
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
        features = [jnp.asarray(self._waves(axis, points[:, i]), dtype) for i, axis in enumerate(axes)]
        return jax.vmap(self.trunks[name])(jnp.concatenate(features, axis=1))

    def _waves(self, axis: Axis, x: Any) -> Any:
        xp, u = x.__array_namespace__(), axis.standard(x)[:, None]
        low, high = axis.standard(np.asarray([min(axis.values), max(axis.values)]))
        phase = np.pi * (u - low) / (high - low + 1e-12) * np.arange(1.0, 1.0 + self._num_waves(axis))
        return xp.concat([u, xp.sin(phase), xp.cos(phase)], axis=1)

    def _num_waves(self, axis: Axis) -> int:
        # At least four spacings to a period: of faster waves the saved points would say nothing.
        return min(self.waves, (len(axis.values) - 1) // 2)
