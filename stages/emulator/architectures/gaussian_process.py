"""An exact Gaussian process on the principal components of the outputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.linalg import lapack
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from simfer.stages.cores import num_cores
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.architectures.kernels import SHAPES, kernel
from simfer.stages.errors import StageError
from simfer.stages.settings import Count

_SHAPES = {False: "squared_exponential", True: "matern52"}  # by whether it is rough
_STARTS = ((2.0, 0.3), (0.7, 1.0))  # length scale and weight of every axis
_CENTER, _SPREAD = math.log(2.0), 3.0  # of the wide normal priors that the logarithms of both have
_SEARCHED = 300  # numbers of rows, evenly taken, that hyperparameters are looked for with
_SEARCH, _FINISH, _AGAIN = 100, 12, 4  # iterations there, with all rows, and where it was fitted before
# Numbers in the inverse factors beyond which all components share one: values alone; with derivatives, by which a
# shared kernel is as good from few rows on, and an evaluation costs by these numbers.
_OWN_KERNELS = {False: 2_000_000, True: 100_000}
_ENOUGH = 1e-7  # the share of itself by which a step must lower what is minimised, some thousands of nats
_DROPPED = 1e-8  # of the outputs' variance, by leaving out components
_NUGGET = 1e-10
_ONE_THREAD = 1000  # rows up to which a second thread of OpenBLAS costs more than it does: it waits by going round
_BLOCK = 128  # rows are filled up to multiples of it, so that few sizes are compiled


class Solved(NamedTuple):
    """A kernel's hyperparameters, and what follows from them for the columns that share it."""

    value: float  # minus the logarithm of likelihood and prior, up to a constant
    slope: Float[np.ndarray, " hyper"]
    hyper: Float[np.ndarray, " hyper"]
    factor: Float[np.ndarray, "n n"]  # of Cholesky, lower
    mean: Float[np.ndarray, " columns"]
    alpha: Float[np.ndarray, "n columns"]
    variance: Float[np.ndarray, " columns"]


class Known(NamedTuple):
    """What is known at rows: values, or of each row the value and then its derivatives."""

    x: Float[np.ndarray, "n size"]
    y: Float[np.ndarray, "numbers columns"]

    @property
    def each(self) -> int:
        """How many numbers are known of a row's column."""
        return len(self.y) // len(self.x)

    @property
    def is_value(self) -> Float[np.ndarray, " numbers"]:
        """Where a number is a value: the mean that is subtracted has no derivative."""
        return np.tile(np.eye(self.each)[0], len(self.x))

    def some(self, most: int) -> Known:
        """Return rows of so many numbers at most, evenly taken."""
        at = np.linspace(0, len(self.x) - 1, min(len(self.x), max(most // self.each, 1))).astype(int)
        return Known(self.x[at], self.y.reshape(len(self.x), self.each, -1)[at].reshape(len(at) * self.each, -1))


class GaussianProcess(ClosedForm):
    """Gaussian process: a product over the inputs of 1 + weight x kernel, on principal components of the outputs.

    That is a sum over all subsets of the inputs (Durrande et al. 2012): what is additive is learned from few rows.
    Length scales, weights and a nugget maximise the marginal likelihood; mean and variance follow in closed form.
    Components have a kernel each, or share one where that would take too much memory (Conti & O'Hagan 2010).
    Derivatives that rows carry are learned as the values are: their covariances are the kernel's derivatives
    (Rasmussen & Williams 2006, section 9.4).
    """

    limits = ("max_rows",)
    learns_derivatives = True
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    kernel: str = eqx.field(static=True)
    max_components: int = eqx.field(static=True)
    max_rows: int = eqx.field(static=True)
    x: Float[Array, "n in_size"]
    hyper: Float[Array, "kernels hyper"]  # logarithms: length scales, weights, nugget
    is_rough: Array  # whether the kernel is the Matern one
    whitener: Float[Array, "kernels numbers numbers"]  # the inverse of each Cholesky factor
    mean: Float[Array, "kernels each"]
    alpha: Float[Array, "kernels each numbers"]
    basis: Float[Array, "kernels each out_size"]
    sd: Float[Array, "kernels each"]  # prior standard deviations
    floor: Float[Array, " kernels"]  # of the conditional variance, in units of the prior one
    location: Float[Array, " out_size"]

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        kernel: Literal["auto", "squared_exponential", "matern52"] = "auto",
        max_components: Count = 24,
        max_rows: Count = 4000,
    ) -> None:
        if kernel not in ("auto", *SHAPES):
            raise ValueError(f'got kernel "{kernel}", expected one of auto, {", ".join(SHAPES)}')
        self.in_size, self.out_size = in_size, out_size
        self.kernel, self.max_components, self.max_rows = kernel, max_components, max_rows
        # Before it is fitted this is a draw: one row, with a random value.
        self.x = jax.random.normal(key, (1, in_size))
        self.hyper = jnp.asarray(_start(in_size, *_STARTS[0]))[None]
        self.is_rough = jnp.asarray(kernel == "matern52")
        self.whitener, self.mean = jnp.ones((1, 1, 1)), jnp.zeros((1, 1))
        self.alpha, self.sd, self.floor = jnp.ones((1, 1, 1)), jnp.ones((1, 1)), jnp.zeros(1)
        self.basis = jax.random.normal(jax.random.fold_in(key, 1), (1, 1, out_size))
        self.location = jnp.zeros(out_size)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Return the conditional mean at one point."""
        components = self.mean + jnp.einsum("kn,kcn->kc", self._correlations(z), self.alpha)
        return self.location + jnp.einsum("kc,kco->o", components, self.basis)

    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        """Return the conditional standard deviation of each component times its basis row.

        It falls to nothing in a narrow cusp at every row, where a sampler stumbles; the cusps are filled up to what
        the rows have in the median when each is left out.
        """
        explained = (jnp.einsum("kmn,kn->km", self.whitener, self._correlations(z)) ** 2).sum(axis=1)
        nugget = jnp.exp(self.hyper[:, -1])
        sd = jnp.sqrt(jnp.hypot(jnp.maximum(1.0 - explained, 0.0) + nugget, self.floor))
        return ((sd[:, None] * self.sd)[..., None] * self.basis).reshape(-1, self.out_size)

    def fit(
        self,
        x: Float[np.ndarray, "n in_size"],
        y: Float[np.ndarray, "n out_size"],
        derivatives: Float[np.ndarray, "n in_size out_size"] | None = None,
    ) -> Self:
        """Fit kernels to rows. One that is fitted already starts from its hyperparameters, and keeps what is shared."""
        numbers = len(x) if derivatives is None else len(x) * (1 + self.in_size)
        self._check(len(x), numbers)
        with threadpool_limits(1 if numbers <= _ONE_THREAD else num_cores(), user_api="blas"):
            return self._fitted(x, y, derivatives)

    def _fitted(
        self,
        x: Float[np.ndarray, "n in_size"],
        y: Float[np.ndarray, "n out_size"],
        derivatives: Float[np.ndarray, "n in_size out_size"] | None,
    ) -> Self:
        # A twin has as many components: its sigma points stand beside those of the others.
        limits = (self.sd.size,) * 2 if len(self.x) > 1 else (1, max(min(self.max_components, len(y) // 2), 1))
        location, scores, basis = _principal(y, *limits)
        each = scores[:, None]
        if derivatives is not None:
            each = np.concatenate([each, derivatives @ np.linalg.pinv(basis)], axis=1)
        known = Known(x, each.reshape(-1, scores.shape[1]))
        if len(self.x) > 1:
            is_rough, hyper, iterations = bool(self.is_rough), np.asarray(self.hyper), _AGAIN
            groups = _grouped(len(hyper) == 1, known)
            hyper = np.resize(hyper, (len(groups), hyper.shape[1]))
        else:
            groups = _grouped(known.y.size * len(known.y) > _OWN_KERNELS[derivatives is not None], known)
            (is_rough, hyper), iterations = self._search(groups), _FINISH
        fits = [_finish(p, columns, is_rough, iterations) for p, columns in zip(hyper, groups, strict=True)]
        new = {
            "x": x,
            "hyper": np.stack([each.hyper for each in fits]),
            "is_rough": np.asarray(is_rough),
            "whitener": np.stack([lapack.dtrtri(each.factor, lower=1)[0] for each in fits]),
            "mean": np.stack([each.mean for each in fits]),
            "alpha": np.stack([each.alpha.T for each in fits]),
            "basis": basis.reshape(len(groups), -1, self.out_size),
            "sd": np.stack([np.sqrt(each.variance) for each in fits]),
            "location": location,
        }
        new["floor"] = np.stack([_left_out(whitener, known.each) for whitener in new["whitener"]])
        return eqx.tree_at(
            lambda m: [getattr(m, name) for name in new], self, [jnp.asarray(value) for value in new.values()]
        )

    def _check(self, rows: int, numbers: int) -> None:
        if numbers > self.max_rows:
            each, fewer = "", "simulate less"
            if rows < numbers:
                each = f" that stand for {numbers} with their derivatives"
                fewer = "leave the derivatives out (train.derivative_weight = 0)"
            raise StageError(
                f"a Gaussian process takes memory by the square of its rows and time by the cube: got {rows} "
                f"rows{each}, expected at most {self.max_rows}. Take a network (train.architecture: residual, mlp), "
                f"{fewer}, or raise train.options.max_rows"
            )

    def _search(self, groups: list[Known]) -> tuple[bool, Float[np.ndarray, "kernels hyper"]]:
        some = [group.some(_SEARCHED) for group in groups]
        shapes = [False, True] if self.kernel == "auto" else [self.kernel == "matern52"]
        starts = [(is_rough, _start(self.in_size, *start)) for is_rough in shapes for start in _STARTS]
        searched = [(*_minimise(start, some[0], is_rough, _SEARCH), is_rough) for is_rough, start in starts]
        first, _, is_rough = min(searched, key=lambda search: search[1])
        return is_rough, np.stack([first, *(_minimise(first, each, is_rough, _SEARCH)[0] for each in some[1:])])

    def _correlations(self, z: Float[Array, " in_size"]) -> Float[Array, "kernels numbers"]:
        with_slopes: Literal["", "b"] = "b" if self.alpha.shape[-1] > len(self.x) else ""

        def against(rough: bool) -> Float[Array, "kernels numbers"]:
            each = jax.vmap(lambda p: kernel(p, z[None], self.x, _SHAPES[rough], with_slopes))(self.hyper)
            return each.reshape(len(self.hyper), -1)

        if not isinstance(self.is_rough, jax.core.Tracer):  # known: without a branch, which ONNX's converter garbles
            return against(bool(self.is_rough))
        return jax.lax.cond(self.is_rough, lambda: against(True), lambda: against(False))


def _start(size: int, scale: float, weight: float) -> Float[np.ndarray, " hyper"]:
    return np.log(np.concatenate([np.full(size, scale), np.full(size, weight), [1e-6]]))


@partial(jax.jit, static_argnums=(2, 3))
def _gram(hyper: Array, x: Array, is_rough: bool, slopes: bool) -> Float[Array, "numbers numbers"]:
    """Return covariances of rows, with the nugget, which is a share of each number's own variance."""
    gram = kernel(hyper, x, x, _SHAPES[is_rough], "ab" if slopes else "")
    numbers = gram.shape[0] * gram.shape[1]
    gram = gram.reshape(numbers, numbers)
    return gram + jnp.exp(hyper[-1]) * jnp.diag(jnp.diag(gram))


@partial(jax.jit, static_argnums=(3, 4))
def _pulled_back(
    hyper: Array, x: Array, slope: Float[Array, "numbers numbers"], is_rough: bool, slopes: bool
) -> Float[Array, " hyper"]:
    """Return the slope by hyperparameters of what has such a slope by each entry of `_gram`.

    Row by row: what one takes stays in the processor's caches; all at once take three to ten times as long.
    """
    each = len(slope) // len(x)
    known = partial(kernel, shape=_SHAPES[is_rough], with_slopes="ab" if slopes else "")

    def of_row(p: Array, point: Array, weight: Array, own: Array) -> Array:
        itself = jnp.diag(known(p, point, point)[0, :, 0])
        return (weight * known(p, point, x)[0]).sum() + jnp.exp(p[-1]) * (own * itself).sum()

    def add(total: Array, row: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + jax.grad(of_row)(hyper, *row), None

    weights = slope.reshape(len(x), each, len(x), each)
    rows = x[:, None], weights, jnp.diag(slope).reshape(len(x), each)
    return jax.lax.scan(add, jnp.zeros_like(hyper), rows)[0]


def _solve(hyper: np.ndarray, known: Known, is_rough: bool) -> Solved | None:
    """Solve for columns that share a kernel, mean and variance of each profiled out (Rasmussen & Williams 2006, 5.4).

    None where the matrix has no Cholesky factor.
    """
    y, n, slopes = known.y, len(known.y), known.each > 1
    filled = -len(known.x) % _BLOCK
    padded, padding = np.pad(known.x, ((0, filled), (0, 0))), (0, filled * known.each)
    factor, failed = lapack.dpotrf(np.array(_gram(hyper, padded, is_rough, slopes))[:n, :n], lower=1, clean=1)
    if failed:
        return None
    lower = lapack.dpotri(factor, lower=1)[0]
    inverse = np.tril(lower) + np.tril(lower, -1).T
    weight = inverse @ known.is_value
    mean = weight @ y / (weight @ known.is_value)
    off_mean = y - np.outer(known.is_value, mean)
    alpha = lapack.dpotrs(factor, off_mean, lower=1)[0]
    variance = np.maximum(np.einsum("nc,nc->c", off_mean, alpha) / n, 1e-300)
    value = 0.5 * n * np.log(variance).sum() + y.shape[1] * np.log(np.diag(factor)).sum()
    toward = 0.5 * (y.shape[1] * inverse - (alpha / variance) @ alpha.T)
    slope = np.array(_pulled_back(hyper, padded, np.pad(toward, padding), is_rough, slopes))
    off = np.append((hyper[:-1] - _CENTER) / _SPREAD, 0.0)
    return Solved(value + 0.5 * off @ off, slope + off / _SPREAD, hyper, factor, mean, alpha, variance)


def _left_out(whitener: Float[np.ndarray, "numbers numbers"], each: int) -> float:
    """Return the median variance of a value when its row is left out, which is that of (K^-1)_ii's inverse.

    Of blocks as of numbers: Rasmussen & Williams 2006, eq. 5.12.
    """
    rows = whitener.T.reshape(-1, each, len(whitener))
    blocks = np.einsum("nik,njk->nij", rows, rows)
    return float(np.median(np.linalg.inv(blocks)[:, 0, 0]))


def _minimise(
    start: np.ndarray, known: Known, is_rough: bool, iterations: int
) -> tuple[Float[np.ndarray, " hyper"], float]:
    """Return the best hyperparameters and their value."""

    def target(hyper: np.ndarray) -> tuple[float, np.ndarray]:
        solved = _solve(hyper, known, is_rough)
        # A line search needs a number where there is no solution.
        return (1e25, np.zeros_like(hyper)) if solved is None else (solved.value, solved.slope)

    size = known.x.shape[1]
    bounds = [(-4.0, 6.0)] * size + [(-14.0, 9.0)] * size + [(math.log(_NUGGET), 0.0)]
    most = 2 * iterations + 20  # evaluations: a line search may ask twenty times by itself
    budget = {"maxiter": iterations, "maxfun": most, "ftol": _ENOUGH}
    minimum = minimize(target, start, jac=True, method="L-BFGS-B", bounds=bounds, options=budget)
    return minimum.x, float(minimum.fun)


def _finish(start: np.ndarray, known: Known, is_rough: bool, iterations: int) -> Solved:
    """Go on with all rows, and solve with as large a nugget as it takes."""
    hyper, _ = _minimise(start, known, is_rough, iterations)
    for jitter in (0.0, *np.logspace(-10, -2, 9)):
        solved = _solve(np.append(hyper[:-1], np.log(np.exp(hyper[-1]) + jitter)), known, is_rough)
        if solved is not None and np.isfinite(solved.value):
            return solved
    raise StageError("the Gaussian process has no solution: are inputs or outputs not finite?")


def _principal(
    y: Float[np.ndarray, "n outputs"], fewest: int, most: int
) -> tuple[Float[np.ndarray, " outputs"], Float[np.ndarray, "n k"], Float[np.ndarray, "k outputs"]]:
    """Return the mean, scores of unit variance, and the basis that they belong to."""
    location = y.mean(axis=0)
    left, values, right = np.linalg.svd(y - location, full_matrices=False)
    left_out = np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)[1:]
    count = min(int((left_out > _DROPPED * (values**2).sum()).sum()) + 1, most)
    count = max(count, fewest)
    root = math.sqrt(len(y))
    return location, left[:, :count] * root, (values[:count] / root)[:, None] * right[:count]


def _grouped(shared: bool, known: Known) -> list[Known]:
    return [known] if shared else [known._replace(y=column[:, None]) for column in known.y.T]
