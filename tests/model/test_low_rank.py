"""A Gaussian of a diagonal and factors is the dense one, and so are its derivatives of either direction and order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from simfer.stages.model import low_rank

POINT = np.array([0.3, -0.7])


def _gap_factor_diagonal(z: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    x = jnp.linspace(0.0, 1.0, 6)
    waves = jnp.stack([jnp.sin((k + 1) * x + z[0]) for k in range(count)]) * z[1] if count else jnp.zeros((0, 6))
    return jnp.cos(3 * x) - z[0] * x**2, waves, jnp.exp(z[1]) + 0.1 * x


def by_factors(z: jax.Array, count: int) -> jax.Array:
    return low_rank.log_prob(*_gap_factor_diagonal(z, count))


def dense(z: jax.Array, count: int) -> jax.Array:
    gap, factor, diagonal = _gap_factor_diagonal(z, count)
    return multivariate_normal.logpdf(gap, jnp.zeros(6), factor.T @ factor + jnp.diag(diagonal))


@pytest.mark.parametrize("count", [0, 3, 8])
def test_value_and_derivatives_are_those_of_the_dense_gaussian(count: int) -> None:
    for derivative in (lambda f: f, jax.grad, jax.jacfwd, jax.hessian):
        mine, its = (derivative(lambda z, f=f: f(z, count))(POINT) for f in (by_factors, dense))
        assert np.allclose(mine, its, rtol=1e-9, atol=1e-10), derivative


@pytest.mark.parametrize("size", [1e8, 1e10, 1e12, 1e14])
def test_a_gap_that_factors_explain_is_no_more_probable_than_none_however_large_they_are(size):
    factor, gap = np.random.default_rng(0).normal(size=(3, 5)), np.ones(3)
    at_gap = low_rank.log_prob(size * gap @ factor, size * factor, np.ones(5))
    assert at_gap <= low_rank.log_prob(np.zeros(5), size * factor, np.ones(5))
