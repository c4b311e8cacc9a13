"""A tempered population from the prior to the posterior: waste-free sequential Monte Carlo (Dau & Chopin 2022) by HMC.

The host decides on powers, resampling and the metric, in NumPy; the moves are compiled once, power and step being
arguments of theirs. Islands share the power, the step and the metric, and nothing else: what their means differ by is
the error of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp, softmax

from simfer.stages.infer.samplers.moves import IMPOSSIBLE, Moves, Proposal, Root, Rows

_CHAIN = 10  # points of each chain, all of which are kept
_LEAPS, _PATH = 5, 1.6  # at most; and how far they lead together: a quarter of a turn in a Gaussian
_EASY, _VERY = 0.45, 0.6  # share of a Student's t's proposals that are taken, from where on two or one make a move
_SWEEPS = 2  # more generations at the posterior itself; one, where hops forget where points were
_ESS = 0.5  # share of a population that a rise of the power leaves
ACCEPT = 0.8  # of a leap's proposals, to which its step is adapted
_MOST = 300  # powers
_LOWEST = 1e-32  # rise of the power: where fewer than half of the prior's draws are possible at all


class Population(NamedTuple):
    """Whitened points of independent islands, each a sample of the posterior."""

    z: Float[np.ndarray, "islands points size"]
    log_density: Float[np.ndarray, "islands points"]  # of the posterior, not normalised
    powers: Float[np.ndarray, " temperatures"]
    num_gradients: int
    log_evidence: Float[np.ndarray, " islands"]  # log of the likelihood's mean over the prior
    step: float = 0.0  # of a leap, four fifths of which are taken; a Gaussian of few parameters has one near 1


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
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((islands * points, size))
    log_ratio = moves.log_ratio(z)
    if not (log_ratio > IMPOSSIBLE).any():
        raise ValueError("no draw of the prior gives the data a finite likelihood")
    power, step, swept, powers, used = 0.0, 0.5, 0, [0.0], islands * points
    log_evidence = np.zeros(islands)
    while swept < _SWEEPS and len(powers) < _MOST:
        by_island = log_ratio.reshape(islands, points)
        rise = _rise(by_island, 1.0 - power) if power < 1.0 else 0.0
        power = 1.0 if rise >= 1.0 - power else power + rise
        weights = softmax(rise * by_island, axis=1)
        log_evidence += logsumexp(rise * by_island, axis=1) - np.log(points)
        chosen = [i * points + _systematic(rng, w, points // _CHAIN) for i, w in enumerate(weights)]
        start = moves.with_gradient(z[np.concatenate(chosen)])
        proposal = Proposal(z, weights.ravel() / islands)
        root = _metric(proposal.covariance, power * start.gradient - start.z)
        kept, step, hops, spent = _generation(moves, rng, start, power, step, root, proposal)
        z = np.stack([rows.z for rows in kept], axis=1).reshape(islands * points, size)
        log_ratio = np.stack([rows.log_ratio for rows in kept], axis=1).ravel()
        used += len(start.z) + spent
        swept += (_SWEEPS if hops else 1) * (rise == 0.0)
        powers.append(power)
        tell(power)
    order = _shuffled_chains(rng, islands, points)
    log_density = log_ratio - 0.5 * (z**2).sum(axis=1)
    z = np.take_along_axis(z.reshape(islands, points, size), order[:, :, None], axis=1)
    heights = np.take_along_axis(log_density.reshape(islands, points), order, axis=1)
    return Population(z, heights, np.array(powers), used, log_evidence, step)


def _shuffled_chains(rng: np.random.Generator, islands: int, points: int) -> Int[np.ndarray, "islands points"]:
    """Return an order of points in which chains lie by chance, and each chain's own points side by side.

    So an effective sample size sees how alike the points of a chain are.
    """
    chains = np.argsort(rng.random((islands, points // _CHAIN)), axis=1)
    return (chains[:, :, None] * _CHAIN + np.arange(_CHAIN)).reshape(islands, points)


def _generation(
    moves: Moves, rng: np.random.Generator, rows: Rows, power: float, step: float, root: Root, proposal: Proposal
) -> tuple[list[Rows], float, int, int]:
    """Move every row nine times; return all points on the way, the step as it was adapted, hops, and evaluations.

    Where a Student's t's proposals are taken often enough they make all moves but the first.
    """
    count, kept, used, hops = len(rows.z), [rows], 0, 0
    for i in range(_CHAIN - 1):
        if hops == 0:
            leaps = int(np.clip(np.round(_PATH / step), 1, _LEAPS))
            scale = step * np.exp(0.3 * rng.standard_normal((count, 1)))
            momentum, uniform = rng.standard_normal(rows.z.shape), rng.random(count)
            rows, probability = moves.leap(rows, momentum, scale, uniform, power, root, leaps)
            step *= float(np.exp(1.5 * (float(probability.mean()) - ACCEPT) / np.sqrt(1.0 + i)))
            used += leaps * count
        for _ in range(hops):
            rows, _ = proposal.hop(rng, moves, rows, power)
            used += count
        kept.append(rows)
        if i == 0:
            _, probability = proposal.hop(rng, moves, rows, power)
            hops = _num_hops(float(probability.mean()))
            used += count
    return kept, step, hops, used


def _num_hops(probability: float) -> int:
    """Return how many proposals, each taken with this probability, do what leaps do; 0 where leaps are better."""
    return 0 if probability < _EASY else 1 if probability > _VERY else 2


def _rise(log_ratio: Float[np.ndarray, "islands points"], left: float) -> float:
    """Return by how much the power may rise: so far that half of the islands' points are left, in effect."""
    from scipy.optimize import brentq

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


def _metric(covariance: Float[np.ndarray, "p p"], gradient: Float[np.ndarray, "n p"]) -> Root:
    """Return a root of the geometric mean of the points' covariance and the inverse of their gradients' one.

    Of a Gaussian the two are the same. Of separate modes the covariance sees the distance and the gradients the width.
    """
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ (gradient.T @ gradient / len(gradient)) @ root)
    return np.asarray(root @ vectors * np.clip(values, 1e-12, 1e12) ** -0.25)
