"""Spots that feed, grow and divide: a reaction and its diffusion (Gray & Scott 1983; Pearson 1993)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator

Fields = dict[str, Float[Array, "size size"]]


def laplacian(field: Float[Array, "size size"]) -> Float[Array, "size size"]:
    """Return the nine-point Laplacian on a periodic grid of unit spacing.

    Its error is isotropic to leading order (Abramowitz & Stegun 1964, 25.3.31; Patra & Karttunen 2006): the weights
    (1 4 1; 4 -20 4; 1 4 1) / 6 are those of (1 4 1) along one axis after the other, less 36 of the middle.
    """
    smooth = 4 * field + jnp.roll(field, 1, 0) + jnp.roll(field, -1, 0)
    return (4 * smooth + jnp.roll(smooth, 1, 1) + jnp.roll(smooth, -1, 1) - 36 * field) / 6


def as_patches(patches: Any) -> tuple[tuple[int, int, int], ...]:
    """Read squares: a list of [y, x, side], each a middle and a length in cells."""
    read = np.asarray(patches)
    if read.ndim != 2 or read.shape[1] != 3 or read.dtype.kind != "i" or (read[:, 2] < 1).any():
        raise ValueError(f"got patches = {patches}, expected a list of [y, x, side], whole numbers of cells")
    return tuple(map(tuple, read.tolist()))


class GrayScott(ODESimulator):
    """Gray-Scott reaction-diffusion: u' = D_u lap u - u v^2 + F (1 - u), v' = D_v lap v + u v^2 - (F + k) v.

    The method of lines on a periodic square of `size` x `size` cells, each of length 1. At the start it is at rest
    (u = 1, v = 0) but for square `patches` where u = 1/2 and v = 1/4, each cell of them multiplied by a fixed random
    number within 1 +- `perturbation` (drawn with `seed`), as in Pearson (1993).
    """

    parameters: ClassVar[dict[str, str]] = {"F": "1/time", "k": "1/time", "D_u": "cell^2/time", "D_v": "cell^2/time"}
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"u": ("y", "x"), "v": ("y", "x")}

    size: int = 64
    patches: Sequence[Sequence[int]] = eqx.field(converter=as_patches, default=((32, 32, 12),))
    perturbation: float = 0.01
    seed: int = 0

    def vector_field(self, t: Scalar, y: Fields, p: dict[str, Scalar]) -> Fields:
        """Return the rates of change of both fields."""
        u, v = y["u"], y["v"]
        reaction = u * v**2
        return {
            "u": p["D_u"] * laplacian(u) - reaction + p["F"] * (1.0 - u),
            "v": p["D_v"] * laplacian(v) + reaction - (p["F"] + p["k"]) * v,
        }

    def initial_state(self, p: dict[str, Scalar]) -> Fields:
        """Return the resting state with the patches in it."""
        fields = {"u": np.ones((self.size, self.size)), "v": np.zeros((self.size, self.size))}
        draw = np.random.default_rng(self.seed)
        for middle_y, middle_x, side in self.patches:
            at = np.ix_(*((middle - side // 2 + np.arange(side)) % self.size for middle in (middle_y, middle_x)))
            for name, value in (("u", 0.5), ("v", 0.25)):
                fields[name][at] = value * (1.0 + self.perturbation * draw.uniform(-1.0, 1.0, (side, side)))
        return {name: jnp.asarray(field) for name, field in fields.items()}

    def observe(self, t: Scalar, y: Fields, p: dict[str, Scalar]) -> dict[str, Float[Array, "size size"]]:
        """Return both fields."""
        return y
