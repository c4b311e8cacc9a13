"""What NUTS samples: the likelihood of what the emulator predicts, with the error that it makes at the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.emulator.emulator import Emulator, spread_factor, unexplained
from simfer.stages.emulator.scatter import excess
from simfer.stages.infer.exact import Exact
from simfer.stages.model.likelihood import Likelihood, Prediction
from simfer.stages.model.near_data import near_data, temper
from simfer.stages.model.observation import read
from simfer.stages.settings import LikelihoodConfig


class ErrorModel:
    """The emulator's error at the data: that of held-out rows near the data, and the spread where NUTS stands.

    Of a random simulator it is what those rows vary beyond the scatter that was predicted for them (`scatter.excess`):
    total variance = noise + scatter + spread + excess, and nothing is in two of them. `with_error = False` leaves
    spread and excess out; the scatter is no error.
    """

    def __init__(
        self, emulator: Emulator | Exact, likelihood: Likelihood, near: bool = True, with_error: bool = True
    ) -> None:
        self.emulator, self.index = emulator, jnp.asarray(likelihood.index)
        self._members = emulator.at(likelihood.index)
        self.random = emulator.random if isinstance(emulator, Emulator) else None
        self.with_error = with_error and isinstance(emulator, Emulator)
        size = len(likelihood.index)
        self.factor, self.rest = np.zeros((0, size)), np.zeros(size)
        self.excess = np.zeros(0 if self.random is None else len(self.random.excess))
        if not self.with_error:
            return
        assert isinstance(emulator, Emulator)
        if self.random is not None:
            weights = self._weights_by_mean(likelihood) if near else np.full(len(self.random.whitened), 1.0)
            whitened, spread = np.asarray(self.random.whitened), np.asarray(self.random.spread)
            self.excess = excess(whitened, spread, weights / weights.sum())
            return
        y = np.asarray(emulator.training_y)
        weights = near_data(likelihood, y) if near else np.full(len(y), 1.0 / len(y))
        residuals = np.asarray(emulator.residuals)[:, likelihood.index]
        spread = np.asarray(emulator.spread)[:, likelihood.index]
        rest = residuals * np.sqrt(unexplained(residuals, spread, weights))
        self.factor, self.rest = split_covariance(rest, weights)

    def _weights_by_mean(self, likelihood: Likelihood) -> Float[np.ndarray, " rows"]:
        """Weigh a random simulator's rows by what their parameters predict: never by an output that was drawn.

        Rows picked for an output near the data would have residuals that lead to the data, and too small ones.
        """
        values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
        z = jnp.asarray(self.emulator.training_z)

        def score(z: Float[Array, " size"]) -> Float[Array, ""]:
            prediction = self.predict(z)
            if likelihood.is_gaussian:
                return likelihood.marginal(prediction, values)
            return likelihood.exact(prediction.mean, values)

        distance = -np.asarray(jax.jit(lambda z: jax.lax.map(score, z, batch_size=256))(z))
        return temper(np.where(np.isfinite(distance), distance, np.finfo(float).max))

    @property
    def is_exact(self) -> bool:
        """Whether outputs are taken as they are predicted: without error, and without scatter."""
        return not self.with_error and self.random is None

    @property
    def num_factors(self) -> int:
        """The number of a prediction's factors, those of the scatter the last of them."""
        return len(self.factor) + self.with_error * int(self.emulator.header["num_members"]) + self.num_scatter

    @property
    def num_scatter(self) -> int:
        """The number of the scatter's factors."""
        return len(self.excess)

    def predict(self, z: Float[Array, " size"]) -> Prediction:
        """Evaluate the emulator at a whitened point, at the data."""
        members = self._members(z)
        factor = jnp.asarray(self.factor)
        if self.with_error:
            factor = jnp.concatenate([factor, spread_factor(members)])
        prediction = Prediction(members.mean(axis=0), factor, jnp.asarray(self.rest))
        if self.random is None:
            return prediction
        assert isinstance(self.emulator, Emulator)
        scatter = self.emulator.scatter_factor(z)[:, self.index]
        return prediction._replace(scatter=scatter, excess=jnp.asarray(self.excess))

    def mean(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """Evaluate the emulator alone, in the transformed scale."""
        return self._members(z).mean(axis=0)


def split_covariance(
    residuals: Float[np.ndarray, "rows n"], weights: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, " n"]]:
    """Write the covariance of weighted residuals as a few leading factors and a diagonal, its variances exact."""
    values, vectors, variance = _principal(residuals, weights)
    total = max(values.sum(), 1e-300)
    count = min(int(np.searchsorted(np.cumsum(values) / total, 0.99)) + 1, 8, len(values))
    factor = (vectors[:, :count] * np.sqrt(np.maximum(values[:count], 0.0))).T
    return factor, np.maximum(variance - (factor**2).sum(axis=0), 0.0)


def _principal(
    residuals: Float[np.ndarray, "rows n"], weights: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"], Float[np.ndarray, " n"]]:
    """Return the eigenvalues, largest first, the eigenvectors and the diagonal of the residuals' covariance."""
    if residuals.shape[1] > len(residuals):  # a matrix over all data would be large, and most of it empty
        _, roots, axes = np.linalg.svd(residuals * np.sqrt(weights)[:, None], full_matrices=False)
        return roots**2, axes.T, weights @ residuals**2
    covariance = (residuals * weights[:, None]).T @ residuals
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1], vectors[:, ::-1], np.diag(covariance)


class Target(NamedTuple):
    """What NUTS samples: a log likelihood over whitened points of `size` components, of the data or of others."""

    log_likelihood: Callable[..., Float[Array, ""]]
    size: int
    likelihood: Likelihood
    errors: ErrorModel
    num_scatter: int = 0  # of a point's components, at its end, that stand for the scatter of these very data


def build_target(config: LikelihoodConfig, emulator: Emulator | Exact, near: bool = True) -> Target:
    """Put emulator, error and data together as a log likelihood of whitened points.

    A point holds the simulator's free parameters, the noise's, and, where the emulator's error (and the scatter of a
    random simulator) cannot be integrated out in closed form, standard normal weights of their factors: NUTS then
    integrates over them. The error is that `near` the data, or that of the whole training set.
    """
    observed = read(config.observation.file, emulator.layout)
    likelihood = Likelihood(config.noise, observed, emulator.layout, emulator.transform)
    errors = ErrorModel(emulator, likelihood, near, config.infer.emulator_error == "full")
    at, end = emulator.space.size, emulator.space.size + likelihood.noise_space.size
    latent, scatter = (0, 0) if likelihood.is_gaussian else (errors.num_factors, errors.num_scatter)

    def log_likelihood(z: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
        values = likelihood.noise_space.values(z[at:end])
        if errors.is_exact:
            return likelihood.exact(errors.mean(z[:at]), values, data)
        prediction = errors.predict(z[:at])
        if likelihood.is_gaussian:
            return likelihood.marginal(prediction, values, data)
        return likelihood.exact(prediction.mean + z[end:] @ prediction.factors, values, data)

    return Target(log_likelihood, end + latent, likelihood, errors, scatter)
