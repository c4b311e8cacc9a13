"""What can be said of a posterior where there is no simulator to hold it against, but a table of finished runs."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.check.residuals import is_likelier
from simfer.stages.check.verdict import Figure
from simfer.stages.infer.target import Target
from simfer.stages.model.near_data import near_data
from simfer.stages.settings import Check
from simfer.stages.summary import Table


def figures_without(limits: Check, target: Target, draws: Float[np.ndarray, "draws size"]) -> list[Figure]:
    """Return the figures that runs which no network saw, and the emulator's own predictions, stand for."""
    errors = [
        Figure(f"emulator error at unseen runs near the data, {name} (99th percentile, data sigma)", "emulator",
               _quantile(error.max(axis=1), weights, 0.99), limits.max_emulator_error)
        for name, error, weights in _unseen(target, draws)
    ]  # fmt: skip
    p = Figure(
        "posterior predictive p, by the emulator", "model", _predictive_p(target, draws), limits.min_predictive_p, True
    )
    return [*errors, p]


def table_of(target: Target, draws: Float[np.ndarray, "draws size"]) -> Table:
    """Tabulate the emulator's error at runs that it had not seen, those near the data counting most."""
    return [
        {
            "output": name,
            "median": _quantile(error.max(axis=1), weights, 0.5),
            "percentile_99": _quantile(error.max(axis=1), weights, 0.99),
            "runs_that_count": float(1.0 / (weights**2).sum()),
        }
        for name, error, weights in _unseen(target, draws)
    ]


def _unseen(target: Target, draws: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each output's absolute errors by cross-validation at the data, in their sigma, and the runs' weights."""
    rows, likelihood = target.predictor.cross_validation, target.likelihood
    if rows is None or target.predictor.random is not None:
        return
    y = np.asarray(rows.y)
    weights = near_data(likelihood, y)
    noise = jnp.asarray(target.split(draws)[1].mean(axis=0))
    values = likelihood.noise_space.values(noise)
    variance = jax.jit(lambda means: jax.lax.map(lambda mean: likelihood.noise_variance(mean, values), means))
    sigma = np.sqrt(np.asarray(variance(jnp.asarray(y[:, likelihood.index]))))
    error = np.abs(np.asarray(rows.residuals)[:, likelihood.index]) / sigma
    for block in likelihood.blocks:
        yield block.name, error[:, block.at], weights


def _quantile(values: Float[np.ndarray, " rows"], weights: Float[np.ndarray, " rows"], level: float) -> float:
    order = np.argsort(values)
    at = np.searchsorted(np.cumsum(weights[order]), level * weights.sum())
    return float(values[order][min(int(at), len(values) - 1)])


def _predictive_p(target: Target, draws: Float[np.ndarray, "draws size"]) -> float:
    """Return the share of draws at which data that emulator and noise make are no likelier than the observed ones."""

    def less(row: tuple[Array, Array]) -> Array:
        z, key = row
        theta_z, noise_z, _ = target.split(z)
        values = target.likelihood.noise_space.values(noise_z)
        return is_likelier(target, key, z, values, target.errors.predict(theta_z))

    rows = jnp.asarray(draws), jax.random.split(jax.random.key(0), len(draws))
    return float(np.mean(np.asarray(jax.jit(lambda rows: jax.lax.map(less, rows))(rows))))
