"""Polynomial chaos: polynomials that are orthogonal under the priors, few of them, by least squares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.settings import Count

_NORMS = (1.0, 0.7, 0.5)  # of the degrees of a term, from total degree to mostly one input at a time
_MOST_TERMS = 2000  # that are chosen from
_MOST_TAKEN = 400
_PATIENCE = 20  # terms, or a quarter of those taken, without a better error
_FOLDS, _FEW_ROWS = 5, 300  # with more rows than these one fold compares degrees and truncations
_FACTORS = 8  # of the error's covariance, at most
_DROPPED = 1e-10  # of the outputs' variance, where terms are chosen


class Path(NamedTuple):
    """Columns in the order they were taken, orthonormal on the rows seen, and the error of the others after each."""

    columns: Int[np.ndarray, " terms"]
    basis: Float[np.ndarray, "n terms"]
    errors: Float[np.ndarray, " terms"]


class Validated(NamedTuple):
    """The least cross-validated error, how many terms have it, and the residuals that it is of."""

    error: float
    num_terms: int
    residuals: Float[np.ndarray, "n k"]


class Polynomial(ClosedForm):
    """Polynomial chaos expansion (Legendre for flat priors, else Hermite), its terms chosen by cross-validation.

    Degree and truncation grow while the error falls (Blatman & Sudret 2011); terms are taken one by one, by how much
    of all outputs each explains beside those before it (orthogonal least squares, Chen et al. 1989).
    """

    limits = ("max_degree",)
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    max_degree: int = eqx.field(static=True)
    families: tuple[str, ...] = eqx.field(static=True)
    powers: Int[Array, "terms in_size"]
    coefficients: Float[Array, "terms out_size"]
    whitener: Float[Array, "terms terms"]  # times the terms at a point: a vector of squared length its leverage
    errors: Float[Array, "factors out_size"]  # F with F^T F the covariance of the residuals
    truncation: Float[Array, "2"]  # the degree, 0 before it is fitted, and the norm, that terms were chosen from

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        families: Sequence[str] | None = None,
        max_degree: Count = 20,
    ) -> None:
        if max_degree < 1:
            raise ValueError(f"got max_degree {max_degree}, expected 1 or more")
        self.in_size, self.out_size, self.max_degree = in_size, out_size, max_degree
        self.families = tuple(families or ("normal",) * in_size)
        # Before it is fitted: random coefficients of all terms up to degree two.
        self.powers = jnp.asarray(multi_indices(in_size, min(2, max_degree), 1.0))
        size = len(self.powers)
        self.coefficients = jax.random.normal(key, (size, out_size)) / math.sqrt(size)
        self.whitener, self.errors = jnp.zeros((size, size)), jnp.zeros((1, out_size))
        self.truncation = jnp.zeros(2)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate the expansion at one point."""
        return self._terms(z) @ self.coefficients

    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        """Return the residuals' directions, longer where leverage is high."""
        return jnp.sqrt(1.0 + ((self.whitener @ self._terms(z)) ** 2).sum()) * self.errors

    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        """Choose terms, and fit them by least squares. One fitted before keeps how many, among which, and the error."""
        axes = np.asarray(jax.vmap(lambda z: orthonormal(z, self.families, self.max_degree))(jnp.asarray(x)))
        scores, directions = _scores(y)
        if not self.truncation[0]:
            truncation, validated = self._validate(axes, scores)
            num_terms = validated.num_terms
        else:
            truncation, validated, num_terms = np.asarray(self.truncation), None, len(self.powers)
        candidates = multi_indices(self.in_size, int(truncation[0]), float(truncation[1]))
        everything = np.ones(len(y), bool)
        powers = candidates[take(_columns(axes, candidates), scores, everything, num_terms).columns]
        q, r = np.linalg.qr(_columns(axes, powers))
        inverse = np.linalg.inv(r)
        errors = np.asarray(self.errors)
        if validated is not None:
            # What leverage adds is added again where the error is asked for.
            errors = _factors(validated.residuals @ directions / np.sqrt(1.0 + (q**2).sum(axis=1))[:, None])
        new = [powers, inverse @ (q.T @ y), inverse.T, errors, truncation]
        return eqx.tree_at(
            lambda m: [m.powers, m.coefficients, m.whitener, m.errors, m.truncation],
            self,
            [jnp.asarray(value) for value in new],
        )

    def _validate(
        self, axes: Float[np.ndarray, "n in_size degrees"], y: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "2"], Validated]:
        """Return degree and norm of least error on rows unseen by choice and fit, and what was found with these."""
        folds = np.arange(len(y)) % _FOLDS
        held_out = range(_FOLDS if len(y) <= _FEW_ROWS else 1)
        best, error, columns = np.array([1.0, 1.0]), np.inf, np.ones((len(y), 1))
        for norm in _NORMS:
            since = 0
            for degree, powers in self._candidates(norm):
                tried = _columns(axes, powers)
                tried_error = _validate(tried, y, folds, held_out).error
                since = 0 if tried_error < error else since + 1
                if tried_error < error:
                    best, error, columns = np.array([degree, norm]), tried_error, tried
                if since == 2:
                    break
        return best, _validate(columns, y, folds, range(_FOLDS))

    def _candidates(self, norm: float) -> Iterator[tuple[int, Int[np.ndarray, "terms in_size"]]]:
        for degree in range(1, self.max_degree + 1):
            powers = multi_indices(self.in_size, degree, norm)
            if degree > 1 and len(powers) > _MOST_TERMS:
                return
            yield degree, powers

    def _terms(self, z: Float[Array, " in_size"]) -> Float[Array, " terms"]:
        axes = orthonormal(z, self.families, self.max_degree)
        # Chosen by products with zeros and ones: a choice by place has a scatter for its derivative. Multiplied by
        # halves: 100 inputs one after another took XLA half a minute, and a product along an axis has no derivative for
        # a number of points that is not known.
        chosen = self.powers.T[:, None] == jnp.arange(self.max_degree + 1)[:, None]
        factors = jnp.einsum("id,idt->it", axes, chosen.astype(axes.dtype))
        while (half := len(factors) // 2) > 0:
            factors = jnp.concatenate([factors[:half] * factors[half : 2 * half], factors[2 * half :]])
        return factors[0]


def orthonormal(
    z: Float[Array, " size"], families: Sequence[str], max_degree: int
) -> Float[Array, "size max_degree+1"]:
    """Return every input's polynomials, of mean square 1 under its family (Xiu & Karniadakis 2002)."""
    flat = jnp.asarray([family == "uniform" for family in families])
    t = jnp.where(flat, z / math.sqrt(3.0), z)
    values = [jnp.ones_like(t), t]
    for k in range(1, max_degree):
        legendre = ((2 * k + 1) * t * values[k] - k * values[k - 1]) / (k + 1)
        values.append(jnp.where(flat, legendre, t * values[k] - k * values[k - 1]))
    degrees = range(max_degree + 1)
    norms = jnp.where(
        flat,
        jnp.asarray([math.sqrt(2 * k + 1) for k in degrees])[:, None],
        jnp.asarray([1.0 / math.sqrt(math.factorial(k)) for k in degrees])[:, None],
    )
    return (norms * jnp.stack(values)).T


def multi_indices(size: int, degree: int, norm: float) -> Int[np.ndarray, "terms size"]:
    """Return the degrees by input of all terms whose `norm`-norm is at most `degree`, the constant one first."""
    blocks = [np.zeros((1, size), int)]
    limit = degree**norm + 1e-9
    for num in range(1, min(size, degree) + 1):
        if num > limit:
            break
        powers = np.asarray(list(_compositions(num, limit, norm)))
        for axes in combinations(range(size), num):
            block = np.zeros((len(powers), size), int)
            block[:, axes] = powers
            blocks.append(block)
        if sum(map(len, blocks)) > _MOST_TERMS:
            break
    return np.concatenate(blocks)


def _compositions(num: int, limit: float, norm: float) -> Iterator[tuple[int, ...]]:
    """Yield positive powers of `num` inputs whose sum of `norm`-th powers is within a limit."""
    if num == 0:
        yield ()
        return
    power = 1
    while power**norm + (num - 1) <= limit:
        for rest in _compositions(num - 1, limit - power**norm, norm):
            yield (power, *rest)
        power += 1


def _columns(
    axes: Float[np.ndarray, "n size degrees"], powers: Int[np.ndarray, "terms size"]
) -> Float[np.ndarray, "n terms"]:
    columns = np.ones((len(axes), len(powers)))
    for axis, degrees in enumerate(powers.T):
        used = np.flatnonzero(degrees)
        columns[:, used] *= axes[:, axis, degrees[used]]
    return columns


def _factors(residuals: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "factors outputs"]:
    """Return the leading directions of residuals, as long as the standard deviation along each."""
    _, values, directions = np.linalg.svd(residuals, full_matrices=False)
    return (values[:_FACTORS] / math.sqrt(len(residuals)))[:, None] * directions[:_FACTORS]


def _scores(y: Float[np.ndarray, "n outputs"]) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "k outputs"]]:
    """Return as few columns as have nearly the outputs' own products, and their directions: terms suit both alike."""
    left, values, directions = np.linalg.svd(y, full_matrices=False)
    count = max(int((np.cumsum(values[::-1] ** 2)[::-1] > _DROPPED * (values**2).sum()).sum()), 1)
    return left[:, :count] * values[:count], directions[:count]


def _validate(
    columns: Float[np.ndarray, "n terms"],
    y: Float[np.ndarray, "n k"],
    folds: Int[np.ndarray, " n"],
    held_out: Iterable[int],
) -> Validated:
    """Choose terms anew without each fold: choice, not fit alone, is what overfits."""
    paths = [take(columns, y, folds != fold, _MOST_TAKEN) for fold in held_out]
    shortest = min(len(path.columns) for path in paths)
    errors = np.sum([path.errors[:shortest] for path in paths], axis=0)
    num_terms = int(errors.argmin()) + 1
    residuals = np.zeros_like(y)
    for fold, path in zip(held_out, paths, strict=True):
        own, basis = folds == fold, path.basis[:, :num_terms]
        residuals[own] = y[own] - basis[own] @ (basis[~own].T @ y[~own])
    return Validated(float(errors.min()), num_terms, residuals)


def take(
    columns: Float[np.ndarray, "n terms"], y: Float[np.ndarray, "n k"], seen: Bool[np.ndarray, " n"], most: int
) -> Path:
    """Take columns one by one, the constant first, by how much of the rows seen each explains beside those before it.

    This ends where the error of rows not seen has long been falling no more.
    """
    inside, target = columns[seen], y[seen]
    most = min(most, columns.shape[1], max(2 * len(target) // 3, 1))
    basis, taken, errors = np.zeros((len(columns), most)), list[int](), list[float]()
    left, own, residual = inside.T @ target, (inside**2).sum(axis=0), y.copy()
    size, since = own.copy(), 0
    for k in range(most):
        gain = np.where(size > 1e-8 * own, (left**2).sum(axis=1) / np.maximum(size, 1e-300), -1.0)
        gain[taken] = -1.0
        at = 0 if k == 0 else int(gain.argmax())
        if gain[at] < 0.0:
            break
        direction = columns[:, at].copy()
        for _ in range(2):  # once is not enough (Giraud et al. 2005)
            direction -= basis[:, :k] @ (basis[seen, :k].T @ direction[seen])
        basis[:, k] = direction / np.linalg.norm(direction[seen])
        taken.append(at)
        along, part = basis[seen, k] @ inside, basis[seen, k] @ target
        left, size = left - np.outer(along, part), size - along**2
        residual = residual - np.outer(basis[:, k], part)
        errors.append(float((residual[~seen] ** 2).sum()))
        since = 0 if errors[-1] <= min(errors) else since + 1
        if since > max(_PATIENCE, k // 4) or not (residual[seen] ** 2).sum() > 1e-28 * (target**2).sum():
            break
    return Path(np.asarray(taken), basis[:, : len(taken)], np.asarray(errors))
