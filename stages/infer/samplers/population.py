"""A tempered population from the prior to the posterior: waste-free sequential Monte Carlo (Dau & Chopin 2022) by HMC.

The host decides on powers, resampling and the metric, in NumPy; the moves are compiled once, power and step being
arguments of theirs. Islands share the power, the step and the metric, and nothing else: what their means differ by is
the error of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from simfer.stages.batches import compiled, cut_batch

IMPOSSIBLE = -1e30  # the log likelihood where there is none
_CHAIN = 10  # points of each chain, all of which are kept
_LEAPS = 5
_SWEEPS = 2  # more generations at the posterior itself
_ESS = 0.5  # share of a population that a rise of the power leaves
_ACCEPT = 0.8
_MOST = 300  # powers
_LOWEST = 1e-32  # rise of the power: where fewer than half of the prior's draws are possible at all


class Population(NamedTuple):
    """Whitened points of independent islands, each a sample of the posterior."""

    z: Float[np.ndarray, "islands points size"]
    log_density: Float[np.ndarray, "islands points"]  # of the posterior, not normalised
    powers: Float[np.ndarray, " temperatures"]
    num_gradients: int
    log_evidence: Float[np.ndarray, " islands"]  # log of the likelihood's mean over the prior


class _Rows(NamedTuple):
    z: Any
    log_ratio: Any
    gradient: Any  # of it


Moves = Callable[..., tuple[_Rows, Float[np.ndarray, " rows"]]]  # and the probabilities with which they are taken


def populate(
    moves: Moves, size: int, islands: int, points: int, seed: int, tell: Callable[[float], None] = lambda power: None
) -> Population:
    """Carry draws of the prior to the posterior, the likelihood's power rising as fast as the weights allow.

    Args:
        moves: What `compile_moves` gave.
        size: The number of a point's components.
        islands: Independent populations.
        points: Points of each, a multiple of ten.
        seed: Of the random numbers.
        tell: Called with every power that was reached.

    Raises:
        ValueError: No draw of the prior gives the data a finite likelihood.
    """
    rng, rows = np.random.default_rng(seed), islands * points // _CHAIN
    prior = rng.standard_normal((_CHAIN, rows, size))
    swarm = _Rows(*(np.concatenate(parts) for parts in zip(*(_evaluated(moves, z) for z in prior), strict=True)))
    if not (swarm.log_ratio > IMPOSSIBLE).any():
        raise ValueError("no draw of the prior gives the data a finite likelihood")
    power, step, swept, powers, used = 0.0, 0.5, 0, [0.0], islands * points
    log_evidence = np.zeros(islands)
    while swept < _SWEEPS and len(powers) < _MOST:
        by_island = swarm.log_ratio.reshape(islands, points)
        rise = _rise(by_island, 1.0 - power) if power < 1.0 else 0.0
        swept += rise == 0.0
        power = 1.0 if rise >= 1.0 - power else power + rise
        weights = softmax(rise * by_island, axis=1)
        log_evidence += logsumexp(rise * by_island, axis=1) - np.log(points)
        root = _metric(swarm.z, power * swarm.gradient - swarm.z, weights.ravel() / islands)
        chosen = [i * points + _systematic(rng, w, points // _CHAIN) for i, w in enumerate(weights)]
        start = _Rows(*(values[np.concatenate(chosen)] for values in swarm))
        kept, step = _generation(moves, rng, start, power, step, root)
        swarm = _Rows(*(np.swapaxes(values, 0, 1).reshape(islands * points, *values.shape[2:]) for values in kept))
        used += rows * (_CHAIN - 1) * _LEAPS
        powers.append(power)
        tell(power)
    order = _shuffled_chains(rng, islands, points)
    z = np.take_along_axis(swarm.z.reshape(islands, points, size), order[:, :, None], axis=1)
    log_density = swarm.log_ratio - 0.5 * (swarm.z**2).sum(axis=1)
    heights = np.take_along_axis(log_density.reshape(islands, points), order, axis=1)
    return Population(z, heights, np.array(powers), used, log_evidence)


def _shuffled_chains(rng: np.random.Generator, islands: int, points: int) -> Int[np.ndarray, "islands points"]:
    """Return an order of points in which chains lie by chance, and each chain's own points side by side.

    So an effective sample size sees how alike the points of a chain are.
    """
    chains = np.argsort(rng.random((islands, points // _CHAIN)), axis=1)
    return (chains[:, :, None] * _CHAIN + np.arange(_CHAIN)).reshape(islands, points)


def log_density(moves: Moves, z: Float[np.ndarray, "points size"]) -> Float[np.ndarray, " points"]:
    """Return the posterior's log density, not normalised, at points."""
    return _evaluated(moves, z).log_ratio - 0.5 * (z**2).sum(axis=1)


def compile_moves(log_ratio: Callable[[Array], Array], forward: bool, together: int | None = None) -> Moves:
    """Compile HMC moves of any number of rows.

    Args:
        log_ratio: The posterior's log density at a point less the standard normal's, up to a constant.
        forward: Whether its gradient is taken forward, as a solver's is cheapest.
        together: Rows that are moved as one array, the last of them filled up: what is compiled serves any number. All
            of them, if None.
    """

    def value_and_gradient(z: Array) -> tuple[Array, Array]:
        value, gradient = (log_ratio(z), jax.jacfwd(log_ratio)(z)) if forward else jax.value_and_grad(log_ratio)(z)
        good = jnp.isfinite(value) & jnp.isfinite(gradient).all()
        return jnp.where(good, jnp.maximum(value, IMPOSSIBLE), IMPOSSIBLE), jnp.where(good, gradient, 0.0)

    both = jax.vmap(value_and_gradient)

    def move(
        rows: _Rows, momentum: Array, scale: Array, uniform: Array, power: Array, root: Array, leaps: Array
    ) -> tuple[_Rows, Array]:
        def force(rows: _Rows) -> Array:
            return (power * rows.gradient - rows.z) @ root

        def leap(_: Any, state: tuple[_Rows, Array]) -> tuple[_Rows, Array]:
            rows, p = state
            p = p + 0.5 * scale * force(rows)
            z = rows.z + scale * p @ root.T
            rows = _Rows(z, *both(z))
            return rows, p + 0.5 * scale * force(rows)

        def log_joint(rows: _Rows, p: Array) -> Array:
            return power * rows.log_ratio - 0.5 * (rows.z**2).sum(axis=1) - 0.5 * (p**2).sum(axis=1)

        proposed, p = jax.lax.fori_loop(0, leaps, leap, (rows, momentum))
        change = log_joint(proposed, p) - log_joint(rows, momentum)
        probability = jnp.where(jnp.isnan(change), 0.0, jnp.exp(jnp.minimum(change, 0.0)))
        taken = uniform < probability
        chosen = jax.tree.map(lambda a, b: jnp.where(taken.reshape(-1, *[1] * (a.ndim - 1)), a, b), proposed, rows)
        return chosen, probability

    programs: dict[int, Callable[..., tuple[_Rows, Array]]] = {}

    def moves(
        rows: _Rows, momentum: np.ndarray, scale: np.ndarray, uniform: np.ndarray, *others: Any
    ) -> tuple[_Rows, Float[np.ndarray, " rows"]]:
        count, each = len(rows.z), (rows, momentum, scale, uniform)
        size = together or count
        parts = [cut_batch(each, start, size) for start in range(0, count, size)]
        if size not in programs:
            programs[size] = compiled(move, *parts[0], *others)
        # One after the other: of two at once, in threads, neither comes to an end (jaxlib 0.10, on CPUs).
        moved = [programs[size](*part, *others) for part in parts]
        whole: tuple[_Rows, np.ndarray] = jax.tree.map(lambda *of_parts: np.concatenate(of_parts)[:count], *moved)
        return whole

    return moves


def _evaluated(moves: Moves, z: Float[np.ndarray, "rows size"]) -> _Rows:
    """Evaluate rows by a move that goes nowhere, so that nothing else is compiled."""
    rows, size = z.shape
    start = _Rows(z, np.full(rows, IMPOSSIBLE), np.zeros_like(z))
    found, _ = moves(start, np.zeros_like(z), np.ones((rows, 1)), np.zeros(rows), 0.0, np.zeros((size, size)), 1)
    return found


def _generation(
    moves: Moves, rng: np.random.Generator, rows: _Rows, power: float, step: float, root: Float[np.ndarray, "p p"]
) -> tuple[_Rows, float]:
    """Move every row nine times; return all points on the way, and the step as it was adapted."""
    kept = [rows]
    for i in range(_CHAIN - 1):
        scale = step * np.exp(0.3 * rng.standard_normal((len(rows.z), 1)))
        momentum, uniform = rng.standard_normal(rows.z.shape), rng.random(len(rows.z))
        rows, probability = moves(rows, momentum, scale, uniform, power, root, _LEAPS)
        kept.append(rows)
        step *= float(np.exp(1.5 * (float(probability.mean()) - _ACCEPT) / np.sqrt(1.0 + i)))
    return _Rows(*(np.stack(values) for values in zip(*kept, strict=True))), step


def _rise(log_ratio: Float[np.ndarray, "islands points"], left: float) -> float:
    """Return by how much the power may rise: so far that half of the islands' points are left, in effect."""
    centred = log_ratio - log_ratio.max(axis=1, keepdims=True)

    def excess(log_rise: float) -> float:
        weights = np.exp(log_rise) * centred
        ess = np.exp(2.0 * logsumexp(weights, axis=1) - logsumexp(2.0 * weights, axis=1))
        return float(ess.mean() / log_ratio.shape[1] - _ESS)

    if excess(float(np.log(left))) >= 0.0:
        return left
    if excess(float(np.log(_LOWEST))) <= 0.0:
        return _LOWEST
    return float(np.exp(brentq(excess, np.log(_LOWEST), np.log(left), xtol=1e-4)))


def _systematic(rng: np.random.Generator, weights: Float[np.ndarray, " n"], count: int) -> Int[np.ndarray, " count"]:
    """Draw `count` indices, each as often as its weight says, up to one."""
    places = (rng.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)


def _metric(
    z: Float[np.ndarray, "n p"], gradient: Float[np.ndarray, "n p"], weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "p p"]:
    """Return a root of the geometric mean of the points' covariance and the inverse of their gradients' one.

    Of a Gaussian the two are the same. Of separate modes the covariance sees the distance and the gradients the width.
    """
    centred = z - weights @ z
    covariance = (weights[:, None] * centred).T @ centred + 1e-12 * np.eye(z.shape[1])
    fisher = (weights[:, None] * gradient).T @ gradient
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ fisher @ root)
    return np.asarray(root @ vectors * np.clip(values, 1e-12, 1e12) ** -0.25)
