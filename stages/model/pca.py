"""Principal components: a large output as a few coefficients, which is what networks then learn of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Bases = Mapping[str, Float[Array, "components size"]]
Slices = Mapping[str, slice]


class Fit(NamedTuple):
    """Orthonormal components, and the share of the variance that they drop of rows which they were not fitted to.

    `bases[f]` were fitted to all rows but those of fold f. There is no fold 0 among the rows: `bases[0]` saw all.
    """

    bases: Float[np.ndarray, "folds components size"]
    dropped: float


def fit(rows: Float[np.ndarray, "n size"], fold: Int[np.ndarray, " n"], num_folds: int, wanted: float) -> Fit:
    """Find the leading principal components of centred rows, for all of them and without each fold.

    `wanted` is their number, or (below 1) the share of the variance that they keep. Rows and components span the same
    space, so that the folds' bases are found among the coordinates there. Where rows are too few for as many
    components, the last are zero.
    """
    left, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    coordinates, total = left * sizes, max(float((sizes**2).sum()), 1e-300)
    count = _count(sizes**2 / total, wanted)
    bases, lost = [_upright(axes[:count])], 0.0
    for each in range(1, num_folds + 1):
        _, others, turned = np.linalg.svd(coordinates[fold != each], full_matrices=False)
        leading = turned[:count] * (others[:count] > 1e-10 * max(others[0], 1e-300))[:, None]
        own = coordinates[fold == each]
        lost += float((own**2).sum() - ((own @ leading.T) ** 2).sum())
        padded = np.pad(leading @ axes, ((0, count - len(leading)), (0, 0)))
        bases.append(_upright(padded))
    return Fit(np.stack(bases), lost / total)


def _count(shares: Float[np.ndarray, " r"], wanted: float) -> int:
    usable = max(int((shares > 1e-20).sum()), 1)
    most = int(np.searchsorted(np.cumsum(shares), wanted)) + 1 if wanted < 1 else int(wanted)
    return min(most, usable)


def _upright(components: Float[np.ndarray, "k size"]) -> Float[np.ndarray, "k size"]:
    """Turn each component so that its largest entry is positive: its sign is otherwise the library's choice."""
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return components * np.where(largest < 0, -1.0, 1.0)


def short_slices(slices: Slices, counts: Mapping[str, int]) -> dict[str, slice]:
    """Return where each output lies in the short vector: `counts` coefficients of some, the values of the others."""
    sizes = [counts.get(name, at.stop - at.start) for name, at in slices.items()]
    ends = np.cumsum(sizes).tolist()
    return {name: slice(end - size, end) for name, end, size in zip(slices, ends, sizes, strict=True)}


def counts(bases: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of components of each output that has some."""
    return {name: basis.shape[-2] for name, basis in bases.items()}


def expand(short: Float[Array, "... m"], slices: Slices, bases: Bases) -> Float[Array, "... size"]:
    """Turn coefficients into the values of all outputs, less their location."""
    if not bases:
        return short
    own = short_slices(slices, counts(bases))
    parts = [short[..., at] @ bases[name] if name in bases else short[..., at] for name, at in own.items()]
    return jnp.concatenate(parts, axis=-1)


def columns(index: Int[np.ndarray, " n"], slices: Slices, bases: Bases) -> Float[np.ndarray, "m n"]:
    """Return the matrix that turns coefficients into values at some places of the flat vector alone."""
    own = short_slices(slices, counts(bases))
    matrix = np.zeros((list(own.values())[-1].stop, len(index)))
    for name, at in slices.items():
        hit = np.flatnonzero((at.start <= index) & (index < at.stop))
        local = index[hit] - at.start
        if name in bases:
            matrix[own[name], hit] = np.asarray(bases[name])[:, local]
        else:
            matrix[own[name].start + local, hit] = 1.0
    return matrix


def project(rows: Float[np.ndarray, "n size"], basis: Float[np.ndarray, "k size"]) -> Float[np.ndarray, "n size"]:
    """Return what a basis keeps of centred rows."""
    return rows @ basis.T @ basis


def without_own_fold(
    y: Float[np.ndarray, "n d"],
    fold: Int[np.ndarray, " n"],
    location: Float[np.ndarray, " d"],
    slices: Slices,
    bases: Mapping[str, Float[np.ndarray, "folds components size"]],
) -> Float[np.ndarray, "n d"]:
    """Return y moved so that the basis of all rows drops of each what one that never saw its fold would drop.

    A basis drops less of the rows that it was fitted to than of others, and errors are to be those of other rows.
    """
    moved = y.copy() if bases else y
    for name, (whole, *others) in bases.items():
        at = slices[name]
        centred = y[:, at] - location[at]
        for each, basis in enumerate(others, 1):
            own = centred[fold == each]
            moved[fold == each, at] += project(own, whole) - project(own, basis)
    return moved
