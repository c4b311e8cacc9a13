"""Where an emulator was trained, and so where it may be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

_MOST = 0.05  # share of rows like those trained on that may lie outside of a box: as many draws as a verdict lets pass
_OUTSIDE = 0.005  # the same of an ellipsoid
_PARTS = 10  # of the rows: each is held against what the others span
_ROWS = 200  # for each dimension, from which on a box is known to hold rows enough


class Domain(eqx.Module):
    """What training rows span in the whitened space: a box along their axes; in many dimensions, an ellipsoid.

    Along these axes the rows are uncorrelated, so that the box of a refined round is as slanted as its posterior. But a
    fresh row leaves the box of n rows along one axis or another with probability 2 size / n at least, and the axes are
    fitted to the rows: in 30 dimensions 300 rows leave out a third of all rows like themselves. Where that is more than
    a twentieth, rows that had no say in center and axes tell how far out others like them lie (Mahalanobis' distance),
    and the domain reaches as far. It then ends where the errors of cross-validation do: they are those of such rows.
    """

    center: Float[Array | np.ndarray, " size"]
    axes: Float[Array | np.ndarray, "size size"]  # of an ellipsoid: each over the rows' sd along it
    low: Float[Array | np.ndarray, " bounds"]
    high: Float[Array | np.ndarray, " bounds"]  # along each axis; of an ellipsoid one, of the distance from the center

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows size"]) -> Domain:
        """Find the box or the ellipsoid of training rows."""
        rows = np.asarray(rows)
        domain = _ellipsoid(rows) if _leaves_out_many(rows) else _box(rows)
        return jax.tree.map(jax.device_put, domain)  # in NumPy until then: nothing is compiled for the parts' shapes

    @property
    def is_ellipsoid(self) -> bool:
        """Whether it is the distance from the center that is bounded."""
        return len(self.high) < len(self.center)

    def along(self, z: Float[Any, "... size"]) -> Float[Array, "... bounds"]:
        """Return what is bounded: the coordinates of whitened points along the axes, or their distance."""
        along = (z - self.center) @ self.axes.T
        return (along**2).sum(axis=-1, keepdims=True) ** 0.5 if self.is_ellipsoid else along

    def holds(self, z: Float[Any, "... size"]) -> Bool[Array, "..."]:
        """Say which whitened points lie inside; one that is not a number does not."""
        along = self.along(z)
        return ((along >= self.low) & (along <= self.high)).all(axis=-1)


def _box(rows: Float[np.ndarray, "rows size"]) -> Domain:
    """Return the box that rows span."""
    center = rows.mean(axis=0)
    # All axes, even of fewer rows than there are; and no n x n matrix of many rows.
    axes = np.linalg.svd(rows - center, full_matrices=len(rows) < rows.shape[1])[2]
    along = (rows - center) @ axes.T
    return Domain(center, axes, along.min(axis=0), along.max(axis=0))


def _leaves_out_many(rows: Float[np.ndarray, "rows size"]) -> bool:
    """Say whether boxes leave out many rows that are like those that they are made of."""
    count, size = rows.shape
    if size == 1 or not 2 * size < count < _ROWS * size:  # fewer know no distance
        return False
    held = np.concatenate([_box(others).holds(own) for own, others in _parts(rows)])
    return float(np.mean(~held)) > _MOST


def _ellipsoid(rows: Float[np.ndarray, "rows size"]) -> Domain:
    """Return the ellipsoid that reaches as far as rows lie from the center of others, but for a few."""
    distances = np.concatenate([_at_center(others).along(own)[:, 0] for own, others in _parts(rows)])
    return replace(_at_center(rows), high=np.quantile(distances, [1.0 - _OUTSIDE]))


def _at_center(rows: Float[np.ndarray, "rows size"]) -> Domain:
    """Return an ellipsoid of no size: center and axes, each over the rows' sd along it."""
    center = rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(rows - center, full_matrices=False)
    sd = np.maximum(sizes, 1e-12 * sizes[0]) / np.sqrt(len(rows) - 1)
    return Domain(center, axes / sd[:, None], np.zeros(1), np.zeros(1))


def _parts(rows: Float[np.ndarray, "rows size"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each part of the rows with all others."""
    part = np.arange(len(rows)) % _PARTS
    return [(rows[part == k], rows[part != k]) for k in range(_PARTS)]
