"""What moves the points of a population: leaps of HMC, and proposals from a Student's t, which need no gradient.

Of a posterior like a Gaussian most of those proposals are taken, a point then has nothing to do with the one before,
and the density alone is evaluated, which costs less than half of what its gradient does, and once a move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.batches import compiled, cut_batch
from simfer.stages.devices import num_programs
from simfer.stages.threads import map_in_threads

IMPOSSIBLE = -1e30  # the log likelihood where there is none
Root = Float[np.ndarray, "size size"]  # of a metric
_TAILS = 10.0  # degrees of freedom: heavier than the tails of most posteriors
_NARROWEST = 1e-9  # of a proposal's variances, over the largest: SciPy refuses what is narrower for singular


class Rows(NamedTuple):
    """Points, with what is known of the likelihood there; the gradient may be None."""

    z: Any
    log_ratio: Any
    gradient: Any  # of it


class Moves(NamedTuple):
    """What was compiled of a density, for any number of rows."""

    leap: Callable[..., tuple[Rows, Float[np.ndarray, " rows"]]]  # and the probabilities with which they are taken
    log_ratio: Callable[[Float[np.ndarray, "rows size"]], Float[np.ndarray, " rows"]]

    def log_density(self, z: Float[np.ndarray, "rows size"]) -> Float[np.ndarray, " rows"]:
        """Return the posterior's log density, not normalised, at points."""
        return np.asarray(self.log_ratio(z) - 0.5 * (z**2).sum(axis=1))

    def with_gradient(self, z: Float[np.ndarray, "rows size"]) -> Rows:
        """Evaluate rows by a leap that goes nowhere, so that nothing else is compiled."""
        rows, size = z.shape
        start = Rows(z, np.full(rows, IMPOSSIBLE), np.zeros_like(z))
        still = np.zeros_like(z), np.ones((rows, 1)), np.zeros(rows), 0.0, np.zeros((size, size))
        return self.leap(start, *still, 1)[0]


def well_conditioned(covariance: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """Return a covariance, a wider one where it is all but singular: of what is proposed it need not be exact."""
    values, vectors = np.linalg.eigh(covariance)
    lowest = _NARROWEST * values[-1]
    return covariance if values[0] > lowest else (vectors * np.maximum(values, lowest)) @ vectors.T


class Proposal:
    """A Student's t of the mean and the covariance of points that carry weights."""

    def __init__(self, z: Float[np.ndarray, "n size"], weights: Float[np.ndarray, " n"]) -> None:
        from scipy.stats import multivariate_t

        mean = weights @ z
        self.covariance = (weights[:, None] * (z - mean)).T @ (z - mean) + 1e-12 * np.eye(z.shape[1])
        self._t = multivariate_t(mean, well_conditioned(self.covariance) * (_TAILS - 2.0) / _TAILS, _TAILS)

    def hop(
        self, rng: np.random.Generator, moves: Moves, rows: Rows, power: float
    ) -> tuple[Rows, Float[np.ndarray, " rows"]]:
        """Offer points to rows of a tempered posterior; return them, without gradients, and the acceptances."""
        count = len(rows.z)
        z = self._t.rvs(count, random_state=rng).reshape(rows.z.shape)
        new = Rows(z, moves.log_ratio(z), None)
        probability = np.exp(np.minimum(self._log_weight(new, power) - self._log_weight(rows, power), 0.0))
        taken = rng.random(count) < probability
        log_ratio = np.where(taken, new.log_ratio, rows.log_ratio)
        return Rows(np.where(taken[:, None], z, rows.z), log_ratio, None), probability

    def _log_weight(self, rows: Rows, power: float) -> Float[np.ndarray, " rows"]:
        tempered = power * rows.log_ratio - 0.5 * (rows.z**2).sum(axis=1)
        return np.asarray(tempered - self._t.logpdf(rows.z))


def compile_moves(log_ratio: Callable[[Array], Array], forward: bool, together: int | None = None) -> Moves:
    """Compile moves of any number of rows.

    Args:
        log_ratio: The posterior's log density at a point less the standard normal's, up to a constant.
        forward: Whether its gradient is taken forward, as a solver's is cheapest.
        together: Rows that are moved as one array, the last of them filled up: what is compiled serves any number. All
            of them, if None.
    """

    def possible(value: Array) -> Any:
        return jnp.where(jnp.isfinite(value), jnp.maximum(value, IMPOSSIBLE), IMPOSSIBLE)

    def value_and_gradient(z: Array) -> tuple[Any, Array]:
        value, gradient = (log_ratio(z), jax.jacfwd(log_ratio)(z)) if forward else jax.value_and_grad(log_ratio)(z)
        # Without a gradient, points go straight on: whether they get there is for the density to say.
        good = jnp.isfinite(value) & jnp.isfinite(gradient).all()
        return possible(value), jnp.where(good, gradient, 0.0)

    def leap(
        rows: Rows, momentum: Array, scale: Array, uniform: Array, power: Array, root: Array, leaps: Array
    ) -> tuple[Rows, Array]:
        def force(rows: Rows) -> Array:
            return (power * rows.gradient - rows.z) @ root

        def one(_: Any, state: tuple[Rows, Array]) -> tuple[Rows, Array]:
            rows, p = state
            p = p + 0.5 * scale * force(rows)
            z = rows.z + scale * p @ root.T
            rows = Rows(z, *jax.vmap(value_and_gradient)(z))
            return rows, p + 0.5 * scale * force(rows)

        def log_joint(rows: Rows, p: Array) -> Array:
            return power * rows.log_ratio - 0.5 * (rows.z**2).sum(axis=1) - 0.5 * (p**2).sum(axis=1)

        proposed, p = jax.lax.fori_loop(0, leaps, one, (rows, momentum))
        change = log_joint(proposed, p) - log_joint(rows, momentum)
        probability = jnp.where(jnp.isnan(change), 0.0, jnp.exp(jnp.minimum(change, 0.0)))
        taken = uniform < probability
        chosen = jax.tree.map(lambda a, b: jnp.where(taken.reshape(-1, *[1] * (a.ndim - 1)), a, b), proposed, rows)
        return chosen, probability

    values = jax.vmap(lambda z: possible(log_ratio(z)))
    return Moves(_in_parts(leap, 4, together), _in_parts(values, 1, together))


def _in_parts(function: Callable[..., Any], num_rows: int, together: int | None) -> Callable[..., Any]:
    """Compile a function whose first arguments have rows, and call it at as many of them as fit together."""
    programs: dict[int, Callable[..., Any]] = {}
    workers = num_programs()

    def call(*arguments: Any) -> Any:
        each, others = arguments[:num_rows], arguments[num_rows:]
        count = len(jax.tree.leaves(each)[0])
        size = together or count
        parts = [cut_batch(each, start, size) for start in range(0, count, size)]
        if size not in programs:
            programs[size] = compiled(function, *parts[0], *others)
        done = list(map_in_threads(lambda part: programs[size](*part, *others), parts, workers))
        return jax.tree.map(lambda *of_parts: np.concatenate(of_parts)[:count], *done)

    return call
