"""Densities of data, each of which may do more than the one before it and begins where the best so far ended.

Few rows tell a shape that many numbers describe from noise only if most of it is right to begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.emulator.flow import Density, build_densities
from simfer.stages.emulator.splines import Layer
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import Train
from simfer.stages.train.density import Beginning, Candidate, Sample, Start, begin, residuals, train

ONE_SCALE, GAUSSIAN, MARGINALS = "gaussian, one scale", "gaussian", "axes for themselves"
FOLLOWING, ONE_SHAPE, BY_PARAMETERS = "axes by parameters", "one shape", "shape by parameters"
LADDER = ONE_SCALE, GAUSSIAN, MARGINALS, FOLLOWING, ONE_SHAPE, BY_PARAMETERS
AllAxes: TypeAlias = Sequence[Float[np.ndarray, "data data"]]  # the principal ones, and data in their order
STANDARD_ERRORS = 3.0  # by which held-out rows must be likelier to a density that can do more
_QUICK = 1e-2  # learning rate of few numbers
_CURE = "Try a smaller train.flow.learning_rate, or a dataset.transform (log) for outputs that span decades"


def learn(settings: Train, rows: Sample, progress: Progress, last: str = LADDER[-1]) -> dict[str, Candidate]:
    """Train the densities of the ladder, up to the last one that is asked for.

    A Gaussian whose scale is the same everywhere, one whose scale follows the parameters, splines of each axis for
    itself, the same following the parameters, splines that see the axes before them, and splines that see both. Along
    principal axes of the residuals, the loudest first, what all data share (a switch, a delay) is one axis' own shape.
    Where data are measured alike (points from one distribution) these axes mix them without need, and a triangle of
    data in their order is learned from far fewer rows. Held-out rows say which of all these it is.

    Args:
        settings: The section `[train]`.
        rows: Data, and what they were made at.
        progress: Told of every fit.
        last: One of `LADDER`.

    Returns:
        What was trained, by its name in `LADDER`.
    """
    begun = begin(settings, rows, progress)
    left = residuals(begun)
    axes = [_principal(left), _triangle(left)]
    found: dict[str, Candidate] = {}
    for name in LADDER[: LADDER.index(last) + 1]:
        if name not in (ONE_SCALE, GAUSSIAN) and not found:
            break
        if name == BY_PARAMETERS and _in_vain(found):
            progress.note(f"flow: {name}: left out, neither what it sees nor how it bends is of use by itself")
            continue
        starts = _STARTS[name](begun, axes, found[likeliest(found)] if found else None)
        trained = _trained(begun, name, starts, progress)
        if trained:
            found[name] = trained[likeliest(trained)]
    if not found:
        raise StageError("train.scatter: the training of every density ran away, at every learning rate. " + _CURE)
    return found


def _trained(begun: Beginning, name: str, starts: Sequence[Start], progress: Progress) -> dict[str, Candidate]:
    """Train from every start, but for those from which the loss runs away at every learning rate."""
    trained: dict[str, Candidate] = {}
    for number, start in enumerate(starts):
        try:
            candidate = train(begun, name, start, progress)
        except StageError as error:
            progress.note(f"flow: {name}: start {number + 1} of {len(starts)} is left out, {error}")
            continue
        if np.isfinite(candidate.log_density).all():
            trained[str(number)] = candidate
        else:
            progress.note(f"flow: {name}: start {number + 1} of {len(starts)} is left out, its density is not finite")
    return trained


def _in_vain(found: Mapping[str, Candidate]) -> bool:
    """Say whether axes that follow the parameters, and a shape of all axes, are both clearly worse than neither."""
    if not {MARGINALS, FOLLOWING, ONE_SHAPE} <= set(found):
        return False
    gains = [difference(found[name], found[MARGINALS]) for name in (FOLLOWING, ONE_SHAPE)]
    return all(gain < -STANDARD_ERRORS * error for gain, error in gains)


def likeliest(candidates: Mapping[str, Candidate]) -> str:
    """Return to which candidate held-out rows are likeliest: a later one only if it is clearly better."""
    names = list(candidates)
    best = names[0]
    for name in names[1:]:
        gain, error = difference(candidates[name], candidates[best])
        if gain > STANDARD_ERRORS * error:
            best = name
    return best


def difference(one: Candidate, other: Candidate) -> tuple[float, float]:
    """Return by how much held-out rows are likelier to one than to another, and its standard error."""
    gain = one.log_density - other.log_density
    return float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))


def _one_scale(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    return [_gaussian(begun, axes[0], scale_sees=False)]


def _gaussians(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    return [_gaussian(begun, each, scale_sees=True) for each in axes]


def _gaussian(begun: Beginning, axes: Float[np.ndarray, "data data"], scale_sees: bool) -> Start:
    about = {**begun.about, "scale_sees": scale_sees}
    members = build_densities(about, begun.keys[:, 0])
    return Start(_along(axes, begun, members), about, begun.settings.flow.learning_rate)


def _marginals(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    assert best is not None
    about = {**best.about, "layers": 1}
    members = build_densities(about, begun.keys[:, 0])
    return [Start(_along(each, begun, members), about, _QUICK, frozen=("last",)) for each in axes]


def _following(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    start = _deeper(begun, best, sees=True, layers=1)
    assert start.members.bend is not None
    (layer,) = start.members.bend.layers
    alone = eqx.tree_at(lambda layer: layer.first, layer, jnp.zeros_like(layer.first))
    members = eqx.tree_at(lambda members: members.bend.layers, start.members, [alone])
    return [start._replace(members=members, frozen=("first",))]


def _one_shape(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    assert best is not None
    return [] if best.about["layers"] and best.about["sees"] else [_deeper(begun, best, sees=False)]


def _by_parameters(begun: Beginning, axes: AllAxes, best: Candidate | None) -> list[Start]:
    return [_deeper(begun, best, sees=True)]


def _deeper(begun: Beginning, best: Candidate | None, sees: bool, layers: int | None = None) -> Start:
    """Go on from a density that may have layers: those that come upon them are the identity."""
    assert best is not None
    about = {**best.about, "layers": layers or begun.settings.flow.layers, "sees": sees}
    members, known = build_densities(about, begun.keys[:, 0]), best.flow.members
    bend, first = members.bend, known.bend.layers if known.bend is not None else []
    assert bend is not None
    every = [_widened(layer, first[i]) if i < len(first) else layer for i, layer in enumerate(bend.layers)]
    bend = eqx.tree_at(lambda bend: bend.layers, bend, every)
    return Start(replace(known, bend=bend), about, begun.settings.flow.learning_rate)


def _widened(layer: Layer, known: Layer) -> Layer:
    """Return a known layer as one that may see more inputs, and does not yet."""
    given = layer.given.at[..., : known.given.shape[-1]].set(known.given)
    if bool((known.last != 0.0).any()):  # units that are heard would change what is known
        given = given.at[..., known.given.shape[-1] :].set(0.0)
    return eqx.tree_at(lambda layer: layer.given, known, given)


def _along(axes: Float[np.ndarray, "data data"], begun: Beginning, members: Density) -> Density:
    base: Array = jnp.broadcast_to(jnp.asarray(axes, begun.settings.dtype), members.base.shape)
    return replace(members, mean=begun.means, base=base)


_STARTS: dict[str, Callable[[Beginning, AllAxes, Candidate | None], list[Start]]] = {
    ONE_SCALE: _one_scale,
    GAUSSIAN: _gaussians,
    MARGINALS: _marginals,
    FOLLOWING: _following,
    ONE_SHAPE: _one_shape,
    BY_PARAMETERS: _by_parameters,
}


def _principal(residuals: Float[np.ndarray, "n data"]) -> Float[np.ndarray, "data data"]:
    """Return what whitens residuals along their principal axes, the loudest first."""
    sizes, axes = np.linalg.eigh(_covariance(residuals))
    return np.asarray((axes / np.sqrt(sizes)).T[::-1])


def _triangle(residuals: Float[np.ndarray, "n data"]) -> Float[np.ndarray, "data data"]:
    """Return what whitens residuals one after another."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(_covariance(residuals))))


def _covariance(residuals: Float[np.ndarray, "n data"]) -> Float[np.ndarray, "data data"]:
    covariance = np.atleast_2d(np.cov(residuals.T))
    return covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
