"""What a random simulator gives at posterior draws, beside the distribution that the emulator predicts for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import ndtri

from simfer.stages.batches import in_batches, split_keys
from simfer.stages.check.effect import effect_p
from simfer.stages.check.members import by_scatter
from simfer.stages.check.own_draw import calibration_p
from simfer.stages.check.verdict import Figure
from simfer.stages.emulator.normality import normality, whitened_scores
from simfer.stages.infer.target import Target
from simfer.stages.model.prediction import Prediction
from simfer.stages.settings import Check
from simfer.stages.summary import Table


class Gaussian(NamedTuple):
    """What is predicted of the data at a draw, the emulator's error with it, as the likelihood has it."""

    mean: Any
    root: Any  # the lower Cholesky factor of the covariance


class Residuals(NamedTuple):
    """A random simulator's outputs at the usable draws, beside the emulator's predictive distribution there."""

    whitened: Float[np.ndarray, "draws n"]  # standard normal, if that distribution is right
    marginal: Float[np.ndarray, "draws n"]  # each output for itself
    scores: Float[np.ndarray, "draws parameters"]  # of the parameters, whitened by their information
    calibration_p: float
    predictive_p: float


def no_residuals(target: Target) -> Residuals:
    """Say that too few draws could be simulated to say anything."""
    nothing = np.full((1, len(target.likelihood.index)), np.nan)
    return Residuals(nothing, nothing, nothing[:, :0], float("nan"), float("nan"))


def standardise(target: Target, draws: np.ndarray, y: np.ndarray) -> Residuals:
    """Whiten what the simulator gave by the mean and the covariance that the emulator predicts for it.

    A Gaussian of the noise's variance is added to the outputs, and to the covariance: the test is exact all the same,
    and a scatter that no datum could show has no say in it. The emulator's error is left out of the covariance. It is
    the same at every draw nearby, so that it cannot be told from a wrong mean; that is what is looked for.
    """
    likelihood = target.likelihood
    truth = likelihood.to_transformed(y, target.predictor.floor)

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array, Gaussian]:
        z, truth, key_data = row
        first, second = jax.random.split(jax.random.wrap_key_data(key_data))
        theta_z, noise_z, _ = target.split(z)
        values, prediction = likelihood.noise_space.values(noise_z), target.errors.predict(theta_z)
        assert prediction.scatter is not None
        noise = likelihood.noise_variance(prediction.mean, values)
        gap = truth - prediction.mean + jnp.sqrt(noise) * jax.random.normal(first, noise.shape)
        covariance = prediction.scatter.T @ prediction.scatter + jnp.diag(noise)
        slopes = jax.jacfwd(target.errors.mean)(theta_z)
        both = jnp.concatenate([gap[:, None], slopes], axis=1)
        both = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(covariance), both, lower=True)
        marginal = gap / jnp.sqrt(jnp.diag(covariance))
        less = is_likelier(target, second, z, values, prediction)
        wide = prediction.factors.T @ prediction.factors + jnp.diag(prediction.rest + noise)
        sampled = Gaussian(prediction.mean, jnp.linalg.cholesky(wide))
        return both[:, 0], both[:, 1:], marginal, less, prediction.mean + gap, sampled

    rows = (draws, truth, split_keys(0, len(draws)))
    whitened, slopes, marginal, less, data, sampled = in_batches(one, rows, together=False)
    calibration = calibration_p(draws[:, : target.num_named], data, partial(_log_densities, sampled))
    return Residuals(whitened, marginal, whitened_scores(whitened, slopes), calibration, float(np.mean(less)))


def _log_densities(
    sampled: Gaussian, data: Float[np.ndarray, "draws n"], among: Int[np.ndarray, "draws each"]
) -> Float[np.ndarray, "draws each"]:
    """Return the log density of each row of data at each of the draws that it is looked for among."""
    mean, root = map(jnp.asarray, sampled)

    def one(row: tuple[Array, Array]) -> Array:
        y, among = row
        u = jax.vmap(lambda m, r: jax.scipy.linalg.solve_triangular(r, y - m, lower=True))(mean[among], root[among])
        return -0.5 * (u**2).sum(axis=1) - jnp.log(jnp.diagonal(root[among], axis1=1, axis2=2)).sum(axis=1)

    return np.asarray(in_batches(one, (data, among), together=False))


def is_likelier(target: Target, key: Array, z: Array, values: Mapping[str, Any], prediction: Prediction) -> Array:
    """Say whether the observed data are likelier at a draw than data that the emulator and the noise make there."""
    likelihood, factors = target.likelihood, prediction.factors
    if likelihood.is_gaussian:
        replicated = likelihood.replicate(key, prediction, prediction.mean, values)
    else:  # the draw says which scatter it is
        replicated = likelihood.replicate(key, None, prediction.mean + target.split(z)[2] @ factors, values)
    return target.log_likelihood(z, replicated) <= target.log_likelihood(z)


def scatter_figures(limits: Check, residuals: Residuals, looks: int) -> list[Figure]:
    """Hold whitened residuals against a standard normal, what chance does once in 1,000 times set aside.

    A mean that is off by some whitened sd moves no posterior mean by more than that many of its sd. All this is of the
    posterior as a whole: that the scatter changes with a parameter as it should, data show that find their own draw.

    Args:
        limits: The thresholds.
        residuals: What `standardise` returned.
        looks: How often the simulator has been asked so far, this round counted: whoever asks often enough passes by
            chance.
    """
    u = residuals.whitened
    count, size = u.shape
    mean = np.abs(u.mean(axis=0)).max() + ndtri(0.0005 / size) / np.sqrt(count)
    # Along every direction: outputs that move together otherwise than predicted show in no output's own sd.
    sd = np.abs(np.linalg.svd(u - u.mean(axis=0), compute_uv=False) / np.sqrt(count) - 1.0).max()
    normal = normality(u, residuals.scores)
    return [
        Figure("whitened residuals, mean beyond chance", "emulator", _floor(mean), limits.max_shift),
        Figure("whitened residuals, |sd - 1| beyond chance", "emulator",
               _floor(sd - _chance(count, size)), limits.max_scatter_error),
        Figure("whitened residuals, p of being as large as predicted", "density",
               effect_p(normal.size, count), limits.min_scatter_p, True),
        Figure("whitened residuals, p of being normal", "shape",
               effect_p(normal.shape, count), limits.min_scatter_p, True),
        Figure("data simulated at the posterior, p of finding their own draw", "density",
               effect_p(residuals.calibration_p, count) / looks, limits.min_scatter_p, True),
    ]  # fmt: skip


def member_figures(limits: Check, target: Target, draws: Float[np.ndarray, "draws size"]) -> list[Figure]:
    """Return the figures of what the emulator's own error does to the posterior, there being no weights to tell it.

    Residuals at the check's draws tell a wrong scatter as a whole. What an error that is another at every point does to
    the posterior, the members tell, that were trained apart.

    Args:
        limits: The thresholds.
        target: What was sampled.
        draws: All posterior draws.
    """
    apart, change = by_scatter(target, draws)
    return [
        Figure("shift between the scatter's members (posterior sd)", "density", apart.shift, limits.max_shift),
        Figure("change of an sd between the scatter's members (share)", "density",
               apart.change, limits.max_scatter_error),
        Figure("posterior mass that the scatter's members place elsewhere", "density",
               apart.mass, limits.max_member_mass),
        Figure("shift by leaving out the emulator's error (posterior sd)", "density", change.shift, limits.max_shift),
        Figure("change of an sd by leaving out the emulator's error (share)", "density",
               change.width, limits.max_width_change),
    ]  # fmt: skip


def _chance(count: int, size: int) -> float:
    """Return what |sd - 1| exceeds along some direction once in 1,000 samples of a standard normal.

    Their covariances are drawn by Bartlett's decomposition (1933): a triangle of normals, and of chi on the diagonal.
    """
    rng = np.random.default_rng(0)
    freedom = np.maximum(count - 1.0 - np.arange(size), 1e-9)
    triangle = np.tril(rng.normal(size=(2000, size, size)), -1)
    triangle[:, range(size), range(size)] = np.sqrt(rng.chisquare(freedom, size=(2000, size)))
    deviation = np.abs(np.linalg.svd(triangle, compute_uv=False) / np.sqrt(count) - 1.0).max(axis=1)
    return float(np.quantile(deviation, 0.999))


def _floor(value: float) -> float:
    return float(np.maximum(value, 0.0))  # NaN stays NaN


def by_output(target: Target, residuals: Residuals) -> Table:
    """Tabulate residuals in units of the predicted sd, output by output."""
    return [
        {
            "output": b.name,
            "mean": float(residuals.marginal[:, b.at].mean()),
            "sd": float(residuals.marginal[:, b.at].std()),
            "within_2_sd": float(np.mean(np.abs(residuals.marginal[:, b.at]) < 2.0)),
        }
        for b in target.likelihood.blocks
    ]
