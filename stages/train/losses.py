"""What training brings down: squared errors, in the units of a metric, and robust to a few wild rows."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from simfer.stages.emulator.scatter import lower
from simfer.stages.errors import StageError
from simfer.stages.train.feed import Rows

Loss = Callable[[PyTree, Rows, bool | float], Float[Array, ""]]  # of a network and rows; whether it is robust
Metric = Float[np.ndarray, "k m"]  # turns scaled errors into what is squared
_RIDGE = 1e-2  # of the mean variance: what outputs hardly vary along is not blown up further
_THRESHOLD = 10.0
_MEDIAN_OF = 256  # rows at most: a threshold need not be exact
_MOST_WHITENED = 2048  # outputs of which a covariance is inverted


def loss_of(metric: Metric | None = None, derivative_weight: float = 1.0) -> Callable[..., Float[Array, ""]]:
    """Return a loss whose errors are measured by `metric`; by its diagonal, if it is a vector.

    Where rows carry derivatives, their mean squared error is added, so often as the weight says (Czarnecki et al.
    2017). They are by inputs of unit spread.
    """

    def loss(network: PyTree, rows: Rows, robust: bool | float = False) -> Float[Array, ""]:
        if rows.slopes is None:
            errors = jnp.mean(_by(metric, jax.vmap(network)(rows.x) - rows.y) ** 2, axis=1)
        else:
            y, slopes = jax.vmap(lambda x: value_and_slopes(network, x))(rows.x)
            errors = jnp.mean(_by(metric, y - rows.y) ** 2, axis=1)
            errors += derivative_weight * jnp.mean(_by(metric, slopes - rows.slopes) ** 2, axis=(1, 2))
        return robust_mean(errors, robust, rows.real)

    return loss


def robust_mean(
    squared: Float[Array, " n"], robust: bool | float, real: Bool[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Return the mean of squared errors, or where it is to be robust that of what they are tamed to."""
    threshold = _THRESHOLD if robust is True else float(robust)
    return mean_of(_tamed(squared, threshold, real) if robust else squared, real)


def mean_of(each: Float[Array, " n"], real: Bool[Array, " n"] | None) -> Float[Array, ""]:
    """Return the mean over rows that count."""
    return jnp.mean(each) if real is None else jnp.where(real, each, 0.0).sum() / real.sum().astype(each.dtype)


def median_of(each: Float[Array, " n"], real: Bool[Array, " n"] | None) -> Float[Array, ""]:
    """Return the median over rows that count."""
    if real is None:
        return jnp.median(each)
    ordered, count = jnp.sort(jnp.where(real, each, jnp.inf)), real.sum()
    return 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])


def capped(each: Float[np.ndarray, " n"], middle: float) -> Float[np.ndarray, " n"]:
    """Return squared errors, none of them further out than a robust loss lets a row be beside the median one."""
    return np.minimum(each, _THRESHOLD**2 * middle) if middle > 0 else each


def _by(metric: Metric | None, error: Float[Array, "... m"]) -> Float[Array, "... k"]:
    if metric is None:
        return error
    by = jnp.asarray(metric, error.dtype)
    return error * by if by.ndim == 1 else error @ by.T


def value_and_slopes(
    function: Callable[[Array], Array], x: Float[Array, " size"]
) -> tuple[Float[Array, " outputs"], Float[Array, "size outputs"]]:
    """Evaluate a function and its derivatives by each input, in forward mode: inputs are few."""
    along = lambda direction: jax.jvp(function, (x,), (direction,))  # noqa: E731
    return jax.vmap(along, out_axes=(None, 0))(jnp.eye(len(x), dtype=x.dtype))


def _tamed(each: Float[Array, " n"], threshold: float, real: Bool[Array, " n"] | None) -> Float[Array, " n"]:
    """Return squared errors below a threshold, and above it what grows as their roots (Charbonnier et al. 1994).

    The threshold is in units of the median row's error, so that it follows as training goes on.
    """
    every = -(-len(each) // _MEDIAN_OF)  # to sort 20,000 rows takes as long as several steps
    # Where half the rows are exact it must not be so small that what is divided by it overflows.
    least = jnp.maximum(1e-12 * mean_of(each, real), jnp.finfo(each.dtype).tiny)
    middle = median_of(each[::every], None if real is None else real[::every])
    limit = jax.lax.stop_gradient(jnp.maximum(threshold**2 * middle, least))
    return 2.0 * each / (1.0 + jnp.sqrt(1.0 + each / limit))


def whitening(targets: Float[np.ndarray, "n m"]) -> Metric:
    """Return W with W^T W the inverse of the targets' covariance: errors in units of how outputs vary together."""
    active = np.flatnonzero(targets.std(axis=0) > 0)
    size = len(active)
    if size > _MOST_WHITENED:
        raise StageError(
            f'train.loss = "whitened": got {size} values, expected at most {_MOST_WHITENED}; let networks learn '
            "principal components of the large outputs (dataset.pca)"
        )
    covariance = np.atleast_2d(np.cov(targets[:, active].T))
    sizes, axes = np.linalg.eigh(covariance + _RIDGE * np.trace(covariance) / size * np.eye(size))
    metric = np.zeros((size, targets.shape[1]))  # an output that never varies counts for nothing
    metric[:, active] = (axes / np.sqrt(sizes)).T
    return metric


def negative_log_likelihood(
    raw: Float[Array, "n entries"],
    q: Float[Array, "n size"],
    robust: bool | float = False,
    real: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Return the mean of residuals in units of `base`, for each output and without its constant.

    If it is to be robust, rows far beyond the scatter that is predicted for them count less.
    """
    triangle, size = jax.vmap(lambda raw: lower(raw, q.shape[1]))(raw), q.shape[1]
    squared = jnp.sum(jnp.einsum("nij,nj->ni", triangle, q) ** 2, axis=1) / size
    volume = jnp.sum(jnp.log(jnp.diagonal(triangle, axis1=1, axis2=2)), axis=1) / size
    return 0.5 * robust_mean(squared, robust, real) - mean_of(volume, real)
