"""A Gaussian whose covariance is a diagonal and a few factors, with a derivative of its own."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float


class _Parts(NamedTuple):
    root: Float[Array, " n"]  # of one over the diagonal
    scaled: Float[Array, "k n"]  # factors in units of the diagonal's root: A
    cholesky: Float[Array, "k k"]  # of I + A A^T
    weights: Float[Array, " k"]  # of the factors, at which they leave the least of the gap
    rest: Float[Array, " n"]  # what they leave: the inverse covariance times the gap, in units of the diagonal's root
    log_prob: Float[Array, ""]


@jax.custom_jvp
def log_prob(gap: Float[Array, " n"], factor: Float[Array, "k n"], diagonal: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the log density of N(0, factor^T factor + diag(diagonal)) at a gap.

    By the Woodbury identity and the determinant lemma, k^2 n products in all. The derivative is written out (Petersen
    & Pedersen 2012, equations 57 and 61): it takes as many again, half of what differentiating the steps takes, and no
    array of their size is kept in between. Derivatives may be taken forward, backward and again.

    Args:
        gap: Data less mean.
        factor: The covariance's factors.
        diagonal: The variance that no factor has, positive.
    """
    return _parts(gap, factor, diagonal).log_prob


@log_prob.defjvp
def _derivative(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    parts = _parts(*primals)
    inverse_root = solve_triangular(parts.cholesky, jnp.eye(len(parts.cholesky)), lower=True)
    w, rest = parts.weights, parts.rest
    solved = (inverse_root.T @ inverse_root) @ parts.scaled
    by_factor = (w[:, None] * rest - solved) * parts.root
    by_diagonal = 0.5 * (rest**2 - 1.0 + (parts.scaled * solved).sum(axis=0)) * parts.root**2
    d_gap, d_factor, d_diagonal = tangents
    return parts.log_prob, (by_factor * d_factor).sum() + by_diagonal @ d_diagonal - (rest * parts.root) @ d_gap


def _parts(gap: Float[Array, " n"], factor: Float[Array, "k n"], diagonal: Float[Array, " n"]) -> _Parts:
    root = 1.0 / jnp.sqrt(diagonal)
    scaled, gap = factor * root, gap * root
    cholesky = jnp.linalg.cholesky(jnp.eye(len(factor)) + scaled @ scaled.T)
    along = solve_triangular(cholesky, scaled @ gap, lower=True)
    log_determinant = 2.0 * jnp.log(jnp.diag(cholesky)).sum() - 2.0 * jnp.log(root).sum()
    weights = solve_triangular(cholesky.T, along)
    rest = gap - weights @ scaled
    # Never a difference of squares: where an emulator extrapolates, gap and factors are 1e10 sigma, and rounding would
    # make of it a density of exp(1e7).
    squares = rest @ rest + weights @ weights + len(gap) * jnp.log(2.0 * jnp.pi)
    return _Parts(root, scaled, cholesky, weights, rest, -0.5 * (squares + log_determinant))
