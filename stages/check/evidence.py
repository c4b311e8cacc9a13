"""The emulator beside the true simulator, at posterior draws: its error, importance weights, and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

from simfer.stages.batches import in_batches, split_keys
from simfer.stages.check.verdict import Figure
from simfer.stages.infer.target import Target
from simfer.stages.settings import Check
from simfer.stages.summary import Table


class Change(NamedTuple):
    """The largest changes over the parameters, and pairs of them, in the whitened space."""

    shift: float  # of a mean, in posterior sd
    width: float  # of an sd, as a share of it
    correlation: float


class Evidence(NamedTuple):
    """The emulator beside the true simulator, at the usable draws."""

    error: Float[np.ndarray, "draws n"]  # emulated - simulated, in units of the data's sigma
    log_ratio: Float[np.ndarray, " draws"]  # log likelihood by the simulator - by the emulator
    weights: Float[np.ndarray, " draws"]  # Pareto-smoothed, summing to one
    k_hat: float
    change: Change  # of the posterior, by reweighting
    predictive_p: float


def no_evidence(target: Target) -> Evidence:
    """Say that too few draws could be simulated to say anything: every figure fails."""
    nan = float("nan")
    change, nothing = Change(nan, nan, nan), np.array([nan])
    return Evidence(np.full((1, len(target.likelihood.index)), nan), nothing, nothing, nan, change, nan)


def gather(target: Target, draws: Float[np.ndarray, "draws size"], y: Float[np.ndarray, "draws outputs"]) -> Evidence:
    """Hold the likelihood by the emulator against that by what the simulator gave at the same draws."""
    likelihood = target.likelihood
    truth = likelihood.to_transformed(y, target.predictor.floor)

    def one(z: Array, truth: Array, key_data: Array) -> tuple[Array, Array, Array]:
        theta_z, noise_z, _ = target.split(z)
        values = likelihood.noise_space.values(noise_z)
        sigma = jnp.sqrt(likelihood.noise_variance(truth, values))
        exact = likelihood.exact(truth, values)
        replicated = likelihood.replicate(jax.random.wrap_key_data(key_data), None, truth, values)
        return (
            (target.errors.mean(theta_z) - truth) / sigma,
            exact - target.log_likelihood(z),
            likelihood.exact(truth, values, replicated) <= exact,
        )

    rows = (draws, truth, split_keys(0, len(draws)))
    error, ratio, less = in_batches(lambda row: one(*row), rows, together=False)
    weights, k_hat = smooth(np.asarray(ratio))
    change = changes(draws[:, : target.num_named], weights)
    return Evidence(np.asarray(error), np.asarray(ratio), weights, k_hat, change, float(np.mean(less)))


def changes(z: Float[np.ndarray, "draws named"], weights: Float[np.ndarray, " draws"]) -> Change:
    """Return what weights change of the draws' means, sds and correlations."""
    equal = np.full(len(z), 1.0 / len(z))
    before, after = (_moments(z, each) for each in (equal, weights))
    sd = np.maximum(before[1], 1e-300)
    pairs = np.abs(after[2] - before[2])
    return Change(
        float((np.abs(after[0] - before[0]) / sd).max()), float(np.abs(after[1] / sd - 1.0).max()), float(pairs.max())
    )


def _moments(
    z: Float[np.ndarray, "draws named"], weights: Float[np.ndarray, " draws"]
) -> tuple[Float[np.ndarray, " named"], Float[np.ndarray, " named"], Float[np.ndarray, "named named"]]:
    """Return means, sds and correlations of weighted draws."""
    mean = weights @ z
    covariance = (weights[:, None] * (z - mean)).T @ (z - mean)
    sd = np.sqrt(np.diag(covariance))
    return mean, sd, covariance / np.maximum(np.outer(sd, sd), 1e-300)


def smooth(log_ratio: Float[np.ndarray, " draws"]) -> tuple[Float[np.ndarray, " draws"], float]:
    """Return Pareto-smoothed importance weights and their k-hat (Vehtari et al. 2024)."""
    from arviz_stats.base import array_stats

    # An impossible draw has weight zero, which Pareto smoothing must see as a number.
    finite = np.isfinite(log_ratio)
    if not finite.any():
        return np.full(len(log_ratio), np.nan), np.inf
    log_ratio = np.where(finite, log_ratio, log_ratio[finite].max() - 700.0)
    if np.ptp(log_ratio) < 1e-9:
        return np.full(len(log_ratio), 1.0 / len(log_ratio)), 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # where one draw has all the weight: no tail
        log_weights, k_hat = map(np.asarray, array_stats.psislw(-log_ratio))  # it takes log likelihoods
    if np.isnan(log_weights).any() or np.isnan(k_hat):
        log_weights, k_hat = log_ratio, np.asarray(np.inf)
    return np.exp(log_weights - logsumexp(log_weights)), float(k_hat)


def emulator_figures(limits: Check, target: Target, evidence: Evidence) -> list[Figure]:
    """Return the figures that are the emulator's."""
    return [
        Figure(f"emulator error, {b.name} (99th percentile, data sigma)", "emulator",
               float(np.quantile(np.abs(evidence.error[:, b.at]), 0.99)), limits.max_emulator_error)
        for b in target.likelihood.blocks
    ] + weight_figures(limits, evidence.weights, evidence.log_ratio, evidence.k_hat, evidence.change)  # fmt: skip


def weight_figures(
    limits: Check,
    weights: Float[np.ndarray, " draws"],
    log_ratio: Float[np.ndarray, " draws"],
    k_hat: float,
    change: Change,
) -> list[Figure]:
    """Return the figures of importance weights, and of what they change."""
    efficiency = 1.0 / np.sum(weights**2) / len(weights)
    return [
        Figure("log likelihood, simulator - emulator (sd)", "emulator", float(np.std(log_ratio)), limits.max_log_ratio),
        # Where the weights hardly differ, the shape of their tail is noise: then efficiency alone decides.
        Figure("Pareto k-hat", "emulator", k_hat if efficiency < 0.95 else min(k_hat, 0.0), limits.max_k_hat),
        Figure("importance sampling efficiency", "emulator", float(efficiency), limits.min_efficiency, True),
        Figure("largest shift by reweighting (posterior sd)", "emulator", change.shift, limits.max_shift),
        Figure("largest change of an sd by reweighting (share)", "emulator", change.width, limits.max_width_change),
        Figure("largest change of a correlation by reweighting", "emulator",
               change.correlation, limits.max_correlation_change),
    ]  # fmt: skip


def dropped(target: Target, draws: np.ndarray, y: np.ndarray) -> dict[str, Float[np.ndarray, "draws n"]]:
    """Return what principal components drop of the simulated outputs at the data, in units of the data's sigma."""
    lost, likelihood = target.predictor.dropped(y), target.likelihood
    if not lost:
        return {}
    truth = likelihood.to_transformed(y, target.predictor.floor)

    def variance(row: tuple[Array, Array]) -> Array:
        return likelihood.noise_variance(row[0], likelihood.noise_space.values(row[1]))

    sigma = np.sqrt(in_batches(variance, (truth, target.split(draws)[1])))
    return {
        b.name: lost[b.name][:, likelihood.data.series[b.name].index] / sigma[:, b.at]
        for b in likelihood.blocks
        if b.name in lost
    }


def errors(target: Target, evidence: Evidence, lost: Mapping[str, np.ndarray]) -> Table:
    """Tabulate the emulator's error at the posterior, in units of the data's sigma."""
    size = np.abs(evidence.error)
    return [
        {
            "output": b.name,
            "median": float(np.median(size[:, b.at])),
            "percentile_99": float(np.quantile(size[:, b.at], 0.99)),
        }
        | ({"pca_drops_99": float(np.quantile(np.abs(lost[b.name]), 0.99))} if b.name in lost else {})
        for b in target.likelihood.blocks
    ]
