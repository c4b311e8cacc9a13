"""Gaussian data, projected once onto what predictions can differ in: a likelihood whose cost is that of components.

A prediction is a few coefficients times columns of numbers at the data (principal components), and its error a few
factors. What of the data lies beside all of these is the same whatever is predicted: one number, in the place of n at
each of the hundred thousands of points that samplers ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float
from scipy.linalg import block_diag
from scipy.linalg import solve_triangular as solve

from simfer.stages.model.likelihood import Likelihood
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.noise import arguments

_MOST, _MOST_BYTES = 40, 2**28  # coordinates, and their products, where noise is inferred: more save nothing


class Components(NamedTuple):
    """Predictions as coefficients times columns, about a location; all in the transformed scale."""

    coefficients: Callable[[Float[Array, " size"]], Float[Array, "members m"]]
    columns: Float[np.ndarray, "m n"]
    location: Float[np.ndarray, " n"]


class Projection(NamedTuple):
    """Gaussian data in orthonormal coordinates: those that predictions and error span, and one of what is left.

    Orthonormal are they in units of each datum's variance (noise and what no factor has of the error), that of noise as
    it is at its prior's median where it is inferred: `products` then say what another noise makes of scalar products.
    """

    data: Float[np.ndarray, " r"]
    columns: Float[np.ndarray, "m r"]
    factor: Float[np.ndarray, "k r"]
    rest: Float[np.ndarray, " n"]  # what no factor has of the error's variance
    variance: Float[np.ndarray, " n"]  # of each datum, noise and rest
    products: Float[np.ndarray, "n pairs"] | None  # of coordinates, of each datum; None where the noise is known
    constant: Float[np.ndarray, " 1"]  # a number would be written into what is compiled, and other data compile anew

    def log_prob(
        self,
        coefficients: Float[Array, "members m"],
        spread: Float[Array, "members m"],
        noise: Callable[[], Float[Array, " n"]],
    ) -> Float[Array, ""]:
        """Return the log probability of the data: that of n of them, not an approximation.

        Args:
            coefficients: Of each member's prediction.
            spread: S with S^T S the covariance of the coefficients.
            noise: Gives the noise's variance at each datum; asked only where it is inferred.
        """
        gap = self.data - coefficients.mean(axis=0) @ self.columns
        factors = jnp.concatenate([self.factor, spread @ self.columns])
        weighted, squares, volume = factors, lambda left: (left**2).sum(), jnp.zeros(())
        if self.products is not None:
            variance = noise() + self.rest
            precision = (self.variance / variance) @ self.products @ _unfolded(len(self.data))
            precision = precision.reshape(len(self.data), -1)
            weighted, squares = factors @ precision, lambda left: left @ precision @ left
            volume = jnp.log(variance / self.variance).sum()
        root = jnp.linalg.cholesky(jnp.eye(len(factors)) + weighted @ factors.T)
        weights = solve_triangular(root.T, solve_triangular(root, weighted @ gap, lower=True))
        # Never a difference of squares (`low_rank`).
        square = squares(gap - weights @ factors) + (weights**2).sum()
        half_volume = jnp.log(jnp.diag(root)).sum() + 0.5 * volume
        return self.constant.sum() - 0.5 * square - half_volume


def project(
    likelihood: Likelihood, components: Components, factor: Float[np.ndarray, "k n"], rest: Float[np.ndarray, " n"]
) -> Projection | None:
    """Project observed data; None where that cannot be, or saves nothing.

    Args:
        likelihood: The data and their noise.
        components: What predictions are made of.
        factor: Of the error's covariance, factor^T factor + diag(rest).
        rest: What no factor has of the error's variance.
    """
    count = len(components.columns)
    size, num, is_known = len(rest), count + len(factor) + 1, not likelihood.noise_space.size
    if 2 * num > size or (not is_known and (num > _MOST or 4 * size * num * (num + 1) > _MOST_BYTES)):
        return None
    covariance = _covariance(likelihood, rest)
    if covariance is None or (covariance.ndim == 2 and not is_known):
        return None
    y, volume = likelihood.flat()
    units, log_sd = _units(covariance)
    basis, reduced = np.linalg.qr(units(np.concatenate([components.columns, factor]).T))
    white = units((np.asarray(y) - components.location)[:, None])[:, 0]
    along = basis.T @ white
    beside = white - basis @ along
    beside -= basis @ (basis.T @ beside)  # once is not enough (Giraud et al. 2005)
    length = float(np.linalg.norm(beside))
    columns, errors = np.split(np.pad(reduced.T, ((0, 0), (0, 1))), [count])
    products = None if is_known else _products(np.column_stack([basis, beside / max(length, 1e-300)]))
    variance = np.diag(covariance) if covariance.ndim == 2 else covariance
    constant = np.array([float(volume) - 0.5 * size * np.log(2.0 * np.pi) - log_sd])
    return Projection(np.append(along, length), columns, errors, rest, variance, products, constant)


def _covariance(likelihood: Likelihood, rest: Float[np.ndarray, " n"]) -> Float[np.ndarray, "..."] | None:
    """Return the covariance of noise and rest, each variance where data are independent; None where outputs have a say.

    Where noise is inferred it is that of its prior's median.
    """
    formulas = [(b.name, value) for b in likelihood.blocks for value in arguments(b.noise).values()]
    if not likelihood.is_gaussian or any(
        isinstance(each, str) and name in parse(each).names for name, each in formulas
    ):
        return None
    values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
    parts = [np.asarray(likelihood.covariance(b, values, jnp.asarray(b.values))) for b in likelihood.blocks]
    if all(each.ndim == 1 for each in parts) and likelihood.across is None:
        covariance = np.concatenate(parts) + rest
        return covariance if (covariance > 0.0).all() else None
    whole = block_diag(*(np.diag(each) if each.ndim == 1 else each for each in parts)) + np.diag(rest)
    return np.asarray(whole if likelihood.across is None else whole + likelihood.across)


def _products(coordinates: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "n pairs"]:
    """Return the products of each datum's coordinates, those of a pair once."""
    i, j = np.triu_indices(coordinates.shape[1])
    return np.asarray(coordinates[:, i] * coordinates[:, j])


def _units(covariance: Float[np.ndarray, "..."]) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Return what gives columns of numbers at the data in units of their sd, and the log of the sds' product."""
    if covariance.ndim == 1:
        sd = np.sqrt(covariance)
        return lambda values: np.asarray(values / sd[:, None]), float(np.log(sd).sum())
    root = np.linalg.cholesky(covariance)
    return lambda values: np.asarray(solve(root, values, lower=True)), float(np.log(np.diag(root)).sum())


def _unfolded(size: int) -> Float[np.ndarray, "pairs squared"]:
    """Return what turns products of pairs into a symmetric matrix, flat: no scatter, which XLA runs entry by entry."""
    i, j = np.triu_indices(size)
    unfolded = np.zeros((len(i), size, size))
    unfolded[np.arange(len(i)), i, j] = unfolded[np.arange(len(i)), j, i] = 1.0
    return unfolded.reshape(len(i), -1)
