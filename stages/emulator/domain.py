"""Where an emulator was trained, and so where it may be asked."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float


class Domain(eqx.Module):
    """The box that training rows span along their principal axes, in the whitened space.

    Along these axes the rows are uncorrelated, so that the box of a refined round is as slanted as its posterior.
    """

    center: Float[Array, " size"]
    axes: Float[Array, "size size"]
    low: Float[Array, " size"]
    high: Float[Array, " size"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows size"]) -> Domain:
        """Find the box of training rows."""
        rows = np.asarray(rows)
        center = rows.mean(axis=0)
        # All axes, even of fewer rows than there are; and no n x n matrix of many rows.
        axes = np.linalg.svd(rows - center, full_matrices=len(rows) < rows.shape[1])[2]
        along = (rows - center) @ axes.T
        return cls(*map(jax.device_put, (center, axes, along.min(axis=0), along.max(axis=0))))

    def holds(self, z: Float[Any, "... size"]) -> Bool[Array, "..."]:
        """Say which whitened points lie inside; one that is not a number does not."""
        along = (z - self.center) @ self.axes.T
        return ((along >= self.low) & (along <= self.high)).all(axis=-1)
