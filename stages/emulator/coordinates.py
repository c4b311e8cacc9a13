"""Where outputs lie along their dimensions: coordinates of unit size, and smooth curves between saved ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Axis(NamedTuple):
    """The saved coordinates along one dimension, and how they are brought to unit size.

    In their logarithm, where that spaces them more evenly: a network cannot tell 1e-4 from 1e-3 beside 1e5.
    """

    values: tuple[float, ...]
    logarithmic: bool
    center: float
    scale: float

    def standard(self, x: Any) -> Any:
        """Bring coordinates to unit size; those of NumPy stay in NumPy, so that nothing of them is compiled."""
        return ((x.__array_namespace__().log(x) if self.logarithmic else x) - self.center) / self.scale


def make_axis(values: Any) -> Axis:
    """Describe the coordinates along one dimension. Raises ValueError where they are no numbers, or some are equal."""
    x = np.asarray(values)
    if x.dtype.kind not in "iuf" or not np.isfinite(x).all() or len(np.unique(x)) < len(x):
        raise ValueError(f"got coordinates {x.tolist()[:5]}, expected finite numbers of which no two are equal")
    x = x.astype(float)
    logarithmic = bool(len(x) > 2 and (x > 0).all() and _unevenness(np.log(x)) < _unevenness(x))
    u = np.log(x) if logarithmic else x
    return Axis(tuple(x.tolist()), logarithmic, float(u.mean()), float(u.std()) or 1.0)


def _unevenness(x: Float[np.ndarray, " n"]) -> float:
    gaps = np.diff(np.sort(x))
    return float(gaps.max() / max(gaps.min(), 1e-300))


def grid(axes: Sequence[Any]) -> Any:
    """Return every point of a grid, the last dimension running fastest; of no dimensions, one point of none."""
    if not axes:
        return np.ones((1, 0))
    xp = axes[0].__array_namespace__()
    return xp.stack([each.ravel() for each in xp.meshgrid(*axes, indexing="ij")], axis=-1)


@lru_cache(maxsize=256)
def _cardinal(axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Return knots in order and, piece by piece, the cubics that are 1 at one saved coordinate and 0 at the others."""
    from scipy.interpolate import CubicSpline

    u = (np.log(axis.values) if axis.logarithmic else np.asarray(axis.values)) - axis.center
    order = np.argsort(u)
    spline = CubicSpline(u[order] / axis.scale, np.eye(len(u))[order])  # not-a-knot ends
    return spline.x, spline.c


def weights(axis: Axis, x: Float[Array, " n"]) -> Float[Array, "n saved"]:
    """Return what each saved value counts in its cubic spline at `x`, which may be traced."""
    if len(axis.values) == 1:
        return jnp.ones((len(x), 1))
    knots, cubics = _cardinal(axis)
    u = axis.standard(x)
    piece = jnp.clip(jnp.searchsorted(jnp.asarray(knots), u, side="right") - 1, 0, len(knots) - 2)
    powers = (u - jnp.asarray(knots)[piece])[:, None] ** jnp.arange(len(cubics) - 1, -1, -1)
    return jnp.einsum("np,pns->ns", powers, jnp.asarray(cubics)[:, piece])


def interpolate(
    values: Float[Array, "..."], axes: Mapping[str, Axis], at: Mapping[str, Float[Array, " n"]]
) -> Float[Array, "..."]:
    """Evaluate the cubic spline through an output's values, in place of the dimensions named in `at`."""
    for place, (dim, axis) in enumerate(axes.items()):
        if dim in at:
            values = jnp.moveaxis(jnp.tensordot(weights(axis, at[dim]), values, (1, place)), 0, place)
    return values
