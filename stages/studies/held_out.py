"""How far an emulator is off at rows that no network has seen, in units of the data's sigma."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.batches import in_batches
from simfer.stages.emulator.emulator import Emulator, predict
from simfer.stages.model.likelihood import Likelihood, Observed, read_likelihood

_MOST_ROWS = 2000
_FEW_ROWS = 30


class HeldOut(NamedTuple):
    """Test rows, the unit in which errors at the data are measured, and the outputs' spread."""

    z: Float[np.ndarray, "rows size"]
    y: Float[np.ndarray, "rows outputs"]
    sigma: Float[np.ndarray, "rows n"]
    unit: str  # "data sigma", or "spread" where the noise has no variance
    likelihood: Likelihood
    spread: Float[np.ndarray, " outputs"]
    num_seen: int  # rows that are no test rows
    warnings: list[str]

    def error(self, emulator: Emulator) -> Float[np.ndarray, "rows n"]:
        """Return |emulated - simulated| at the data, in units of sigma."""
        index = self.likelihood.index
        mean = predict(emulator, self.z, index).mean(axis=1)
        return np.abs(mean - self.y[:, index]) / self.sigma

    def unexplained(self, emulator: Emulator) -> float:
        """Return the mean squared error over all outputs that change, in units of their variance (1 - R^2)."""
        changing = np.flatnonzero(self.spread > 0)
        error = predict(emulator, self.z, changing).mean(axis=1) - self.y[:, changing]
        return float(np.mean((error / self.spread[changing]) ** 2))


def held_out(dataset: TrainingSet, problem: Observed) -> HeldOut:
    """Read the test rows, and how the data would scatter about each: the noise's parameters at their medians."""
    layout, spread = dataset.layout, dataset.scale
    z, fold = dataset.points()
    rows = np.flatnonzero(fold == TEST)[:_MOST_ROWS]
    y = dataset.outputs(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
    likelihood = read_likelihood(problem, layout, dataset.transform)
    values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
    sigma = np.sqrt(in_batches(lambda mean: likelihood.noise_variance(mean, values), y[:, likelihood.index]))
    unit = "data sigma"
    if not (np.isfinite(sigma).all() and (sigma > 0).all()):
        sigma, unit = np.broadcast_to(np.where(spread > 0, spread, np.inf)[likelihood.index], sigma.shape), "spread"
    return HeldOut(
        z[rows], y, sigma, unit, likelihood, spread, int((fold != TEST).sum()), _warnings(dataset, len(rows))
    )


def _warnings(dataset: TrainingSet, count: int) -> list[str]:
    warnings = ["the simulator is random: its own scatter is part of every error here"] * dataset.stochastic
    if count < _FEW_ROWS:
        warnings.append(
            f"there are {count} test rows alone, so that figures are coarse; a larger dataset.test_fraction, or more "
            "simulations, give more"
        )
    return warnings
