"""What a random simulator gives at posterior draws, beside the distribution that the emulator predicts for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import norm

from simfer.stages.batches import in_batches, split_keys
from simfer.stages.check.verdict import Figure
from simfer.stages.emulator.normality import normal_p, whitened_scores
from simfer.stages.infer.target import Target
from simfer.stages.model.prediction import Prediction
from simfer.stages.settings import Check
from simfer.stages.summary import Table


class Residuals(NamedTuple):
    """A random simulator's outputs at the usable draws, beside the emulator's predictive distribution there."""

    whitened: Float[np.ndarray, "draws n"]  # standard normal, if that distribution is right
    marginal: Float[np.ndarray, "draws n"]  # each output for itself
    scores: Float[np.ndarray, "draws parameters"]  # of the parameters, whitened by their information
    predictive_p: float


def no_residuals(target: Target) -> Residuals:
    """Say that too few draws could be simulated to say anything."""
    nothing = np.full((1, len(target.likelihood.index)), np.nan)
    return Residuals(nothing, nothing, nothing[:, :0], float("nan"))


def standardise(target: Target, draws: np.ndarray, y: np.ndarray) -> Residuals:
    """Whiten what the simulator gave by the mean and the covariance that the emulator predicts for it.

    A Gaussian of the noise's variance is added to the outputs, and to the covariance: the test is exact all the same,
    and a scatter that no datum could show has no say in it. The emulator's error is left out of the covariance. It is
    the same at every draw nearby, so that it cannot be told from a wrong mean; that is what is looked for.
    """
    likelihood = target.likelihood
    truth = likelihood.to_transformed(y, target.predictor.floor)

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
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
        return both[:, 0], both[:, 1:], marginal, is_likelier(target, second, z, values, prediction)

    rows = (draws, truth, split_keys(0, len(draws)))
    whitened, slopes, marginal, less = in_batches(one, rows, together=False)
    return Residuals(whitened, marginal, whitened_scores(whitened, slopes), float(np.mean(less)))


def is_likelier(target: Target, key: Array, z: Array, values: Mapping[str, Any], prediction: Prediction) -> Array:
    """Say whether the observed data are likelier at a draw than data that the emulator and the noise make there."""
    likelihood, factors = target.likelihood, prediction.factors
    if likelihood.is_gaussian:
        replicated = likelihood.replicate(key, prediction, prediction.mean, values)
    else:  # the draw says which scatter it is
        replicated = likelihood.replicate(key, None, prediction.mean + target.split(z)[2] @ factors, values)
    return target.log_likelihood(z, replicated) <= target.log_likelihood(z)


def scatter_figures(limits: Check, residuals: Residuals) -> list[Figure]:
    """Hold whitened residuals against a standard normal, what chance does once in 1,000 times set aside.

    A mean that is off by some whitened sd moves no posterior mean by more than that many of its sd.
    """
    u = residuals.whitened
    count, size = u.shape
    mean = np.abs(u.mean(axis=0)).max() - norm.isf(0.0005 / size) / np.sqrt(count)
    # Along every direction: outputs that move together otherwise than predicted show in no output's own sd.
    sd = np.abs(np.linalg.svd(u - u.mean(axis=0), compute_uv=False) / np.sqrt(count) - 1.0).max()
    return [
        Figure("whitened residuals, mean beyond chance", "emulator", _floor(mean), limits.max_shift),
        Figure("whitened residuals, |sd - 1| beyond chance", "emulator",
               _floor(sd - _chance(count, size)), limits.max_scatter_error),
        Figure("whitened residuals, p of being normal", "shape",
               normal_p(u, residuals.scores), limits.min_scatter_p, True),
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
