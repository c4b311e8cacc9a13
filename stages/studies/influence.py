"""An emulator's outputs taken apart by parameter, block by block, its own error held in what is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.emulator.emulator import Emulator, spread_factor
from simfer.stages.errors import StageError
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.progress import Progress
from simfer.stages.settings import Sensitivity
from simfer.stages.studies.sobol import INDICES, Estimate, Functions, Variances, estimates, resamples, variances

_BLOCK_BYTES = 2**29  # of the values and slopes held at a time, and what is made of them
_NUM_WAVES = 16
_NUM_PILOT = 512  # points over which a random simulator's scatter is averaged


class Found(NamedTuple):
    """What was found of one output: at each of its coordinates, and of all of them together."""

    each: dict[str, Estimate]
    together: dict[str, Estimate]
    variance: float  # summed over the coordinates
    error: float  # the emulator's mean squared error, as a share of it


def analyse(
    emulator: Emulator, z: Float[np.ndarray, "n designs size"], settings: Sensitivity, progress: Progress
) -> dict[str, Found]:
    """Estimate every output's indices by its emulator, at the points of a design of Saltelli's."""
    slices, size = emulator.layout.slices, emulator.layout.size
    weights = resamples(settings.num_resamples, len(z), settings.seed + 1)
    fewer = z[: max(len(z) // 4, 64)]  # the differences between functions need no more
    even = np.full((1, len(fewer)), 1.0 / len(fewer))
    # Of a field not everything fits into memory at once; parts of variances add up.
    values = (len(z) + (1 + _NUM_WAVES) * len(fewer)) * (2 * z.shape[2] + 2)
    at_once = max(_BLOCK_BYTES // (24 * values), 1)
    blocks: list[dict[str, Estimate]] = []
    sums: dict[str, list[Variances]] = {}
    with progress.task("sensitivity", total=size, unit="outputs") as bar:
        for start in range(0, size, at_once):
            index = np.arange(start, min(start + at_once, size))
            best, truths = _functions(emulator, index, settings)
            parts = [variances(best, z, weights), variances(truths, fewer, even)]
            for name, at in _places(emulator, index).items():
                _assert_finite(name, summed := [part.part(at).sum() for part in parts])
                sums[name] = [a.add(b) for a, b in zip(sums[name], summed, strict=True)] if name in sums else summed
            blocks.append(estimates(*parts))
            bar.advance(len(index))
    joined = _joined(blocks)
    return {name: _found({i: each.part(slices[name]) for i, each in joined.items()}, *sums[name]) for name in slices}


def _joined(blocks: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    parts = {name: zip(*(block[name] for block in blocks), strict=True) for name in INDICES}
    return {name: Estimate(*(np.concatenate(each, axis=-1) for each in parts[name])) for name in INDICES}


def _found(each: dict[str, Estimate], sampled: Variances, truths: Variances) -> Found:
    variance, error = float(sampled.whole[0, 0, 0, 0]), float(truths.error[1:].mean())
    return Found(each, estimates(sampled, truths), variance, error / variance if variance else 0.0)


def _places(emulator: Emulator, index: Int[np.ndarray, " n"]) -> dict[str, slice]:
    """Return where outputs lie among some places of the flat vector."""
    ends = {name: np.searchsorted(index, [at.start, at.stop]) for name, at in emulator.layout.slices.items()}
    return {name: slice(start, stop) for name, (start, stop) in ends.items() if stop > start}


def _functions(emulator: Emulator, index: Int[np.ndarray, " n"], settings: Sensitivity) -> tuple[Functions, Functions]:
    """Return the emulator's prediction, and it again followed by what the truth may be in its place.

    The emulator knows how large its error is and not which way it goes. So the error is taken to be random waves of
    that size, of unit length however many parameters there are (random features of a Gaussian process: Rahimi & Recht
    2007), the same for every output.
    """
    members, random = emulator.at(index), np.random.default_rng(settings.seed)
    frequency = random.normal(size=(_NUM_WAVES, emulator.space.size)) / np.sqrt(emulator.space.size)
    phase = random.uniform(0.0, 2.0 * np.pi, size=_NUM_WAVES)
    natural, places = settings.scale == "natural", _places(emulator, index)

    def scaled(y: Float[Array, "functions n"]) -> Float[Array, "functions n"]:
        parts = [TRANSFORMS[emulator.transform[name]].inverse(y[:, at]) for name, at in places.items()]
        return jnp.concatenate(parts, axis=-1) if natural else y

    def best(z: Float[Array, " size"]) -> Float[Array, "1 n"]:
        return scaled(members(z).mean(axis=0, keepdims=True))

    def truths(z: Float[Array, " size"]) -> Float[Array, "functions n"]:
        predicted = members(z)
        # Its own slope is left out: it is small, infinite at zero, and where a random simulator's scatter is
        # differentiated in batches XLA waits for ever (jaxlib 0.10, CPU).
        sd = jax.lax.stop_gradient(jnp.sqrt(_error(emulator, z, predicted, index)))
        waves = jnp.sqrt(2.0) * jnp.cos(frequency @ z + phase)
        away = jnp.concatenate([jnp.zeros(1), waves])[:, None] * sd
        return scaled(predicted.mean(axis=0) + away)

    return best, truths


def _error(
    emulator: Emulator, z: Float[Array, " size"], members: Float[Array, "members n"], index: Int[np.ndarray, " n"]
) -> Float[Array, " n"]:
    """Return the variance of the prediction's error at some places of the flat vector."""
    variance = (spread_factor(members) ** 2).sum(axis=0) + emulator.base_variance[index]
    if emulator.random is not None:
        variance += (emulator.random.excess @ emulator.scatter_factor(z) ** 2)[index]
    return variance


def mean_scatter(emulator: Emulator, z: Float[np.ndarray, "n designs size"]) -> Float[np.ndarray, " outputs"]:
    """Return the variance of a random simulator's scatter, averaged over the prior, in the transformed scale."""
    at = jax.jit(lambda z: jax.lax.map(lambda z: (emulator.scatter_factor(z) ** 2).sum(axis=0), z))
    return np.asarray(at(jnp.asarray(z[:_NUM_PILOT, 0]))).mean(axis=0)


def _assert_finite(name: str, parts: Sequence[Variances]) -> None:
    if not all(np.isfinite(each).all() for part in parts for each in part):
        raise StageError(
            f"{name} overflows at points of the prior where the emulator extrapolates; "
            'set sensitivity.scale = "transformed", or narrow the priors'
        )
