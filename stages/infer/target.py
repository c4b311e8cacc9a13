"""What is sampled: the likelihood of what the emulator predicts, with the error that it makes at the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.batches import in_batches
from simfer.stages.emulator.emulator import spread_factor, unexplained
from simfer.stages.emulator.flow import Flow
from simfer.stages.emulator.scatter import excess_of_few
from simfer.stages.errors import StageError
from simfer.stages.infer.predictor import Predictor
from simfer.stages.model.likelihood import Likelihood, read_likelihood
from simfer.stages.model.near_data import near_data, temper
from simfer.stages.model.prediction import Prediction
from simfer.stages.model.projection import project
from simfer.stages.model.space import Space
from simfer.stages.settings import LikelihoodConfig

_MOST_FACTORS = 8  # of the covariance of residuals; what they leave of each variance is on a diagonal
Point = TypeVar("Point", Array, np.ndarray)  # one, or many of them


class ErrorModel:
    """The emulator's error at the data: that of held-out rows near the data, and the spread where the sampler stands.

    Of a random simulator it is what those rows vary beyond the scatter that was predicted for them (`excess_of_few`):
    total variance = noise + scatter + spread + excess, and nothing is in two of them. `with_error = False` leaves
    spread and excess out; the scatter is no error.
    """

    def __init__(
        self, predictor: Predictor, likelihood: Likelihood, near: bool = True, with_error: bool = True
    ) -> None:
        self.predictor, self.index = predictor, np.asarray(likelihood.index)
        self._members, self._components = predictor.at(likelihood.index), predictor.components(likelihood.index)
        self.random = predictor.random
        rows = predictor.cross_validation if with_error else None
        self.with_error = rows is not None
        size = len(likelihood.index)
        self.factor, self.rest = np.zeros((0, size)), np.zeros(size)
        self.excess = np.zeros(0 if self.random is None else len(self.random.excess))
        if rows is None:
            return
        if self.random is not None:
            weights = self._weights_by_mean(likelihood) if near else np.full(len(self.random.whitened), 1.0)
            whitened, spread = np.asarray(self.random.whitened), np.asarray(self.random.spread)
            self.excess = excess_of_few(whitened, spread, weights / weights.sum())
            return
        y = np.asarray(rows.y)
        weights = near_data(likelihood, y) if near else np.full(len(y), 1.0 / len(y))
        residuals = np.asarray(rows.residuals)[:, likelihood.index]
        spread = np.asarray(rows.spread)[:, likelihood.index]
        rest = residuals * np.sqrt(unexplained(residuals, spread, weights))
        _, once, datum, count = np.unique(likelihood.index, True, True, True)
        if (count == 1).all():
            self.factor, self.rest = split_covariance(rest, weights)
        else:
            self.factor, self.rest = of_replicates(*split_covariance(rest[:, once], weights), datum, count)
        if likelihood.is_gaussian:  # factors of zeros cost next to nothing where they are integrated out, and another
            missing = min(_MOST_FACTORS, size) - len(self.factor)  # number of factors is another program to compile
            self.factor = np.pad(self.factor, ((0, max(missing, 0)), (0, 0)))

    def _weights_by_mean(self, likelihood: Likelihood) -> Float[np.ndarray, " rows"]:
        """Weigh a random simulator's rows by what their parameters predict: never by an output that was drawn.

        Rows picked for an output near the data would have residuals that lead to the data, and too small ones.
        """

        def score(z: Float[Array, " size"]) -> Float[Array, ""]:
            prediction = self.predict(z)
            values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
            if likelihood.is_gaussian:
                return likelihood.marginal(prediction, values)
            return likelihood.exact(prediction.mean, values)

        distance = -in_batches(score, self.predictor.training_z)
        return temper(np.where(np.isfinite(distance), distance, np.finfo(float).max))

    @property
    def is_exact(self) -> bool:
        """Whether outputs are taken as they are predicted: without error, and without scatter."""
        return not self.with_error and self.random is None

    @property
    def num_factors(self) -> int:
        """The number of a prediction's factors, those of the scatter the last of them."""
        z = np.zeros(self.predictor.space.size)
        return int(jax.eval_shape(lambda z: self.predict(z).factors, z).shape[0])

    @property
    def num_scatter(self) -> int:
        """The number of the scatter's factors."""
        return len(self.excess)

    def predict(self, z: Float[Array, " size"]) -> Prediction:
        """Predict the outputs at the data, of a whitened point."""
        members = self._members(z)
        factor = jnp.asarray(self.factor)
        if self.with_error:
            factor = jnp.concatenate([factor, spread_factor(members)])
        prediction = Prediction(members.mean(axis=0), factor, jnp.asarray(self.rest))
        if self.random is None:
            return prediction
        scatter = self.predictor.scatter_factor(z)[:, self.index]
        return prediction._replace(scatter=scatter, excess=jnp.asarray(self.excess))

    def drawn(self, z: Float[Array, " size"], weights: Float[Array, " factors"]) -> Float[Array, " n"]:
        """Return the outputs that weights of the factors of error and scatter make of a prediction."""
        if self._components is None or self.random is not None or not self.with_error:
            prediction = self.predict(z)
            return prediction.mean + weights @ prediction.factors
        coefficients, columns, location = self._components
        members, at = coefficients(z), len(self.factor)
        one = members.mean(axis=0) + weights[at:] @ spread_factor(members)  # a product with all data instead of many
        return jnp.asarray(location) + one @ columns + weights[:at] @ self.factor

    def project(self, likelihood: Likelihood) -> Callable[..., Float[Array, ""]] | None:
        """Return the log likelihood of the observed data by their projection; None where there is none."""
        if not self.with_error or self.random is not None:
            return None
        components = self._components
        projection = None if components is None else project(likelihood, components, self.factor, self.rest)
        if components is None or projection is None:
            return None

        def log_likelihood(z: Float[Array, " size"], values: Mapping[str, Any]) -> Float[Array, ""]:
            members = components.coefficients(z)
            return projection.log_prob(members, spread_factor(members), lambda: likelihood.variances(values))

        return log_likelihood

    def mean(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """Return the prediction's mean alone, in the transformed scale."""
        return self._members(z).mean(axis=0)


def split_covariance(
    residuals: Float[np.ndarray, "rows n"], weights: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, " n"]]:
    """Write the covariance of weighted residuals as a few leading factors and a diagonal, its variances exact."""
    values, vectors, variance = _principal(residuals, weights)
    total = max(values.sum(), 1e-300)
    count = min(int(np.searchsorted(np.cumsum(values) / total, 0.99)) + 1, _MOST_FACTORS, len(values))
    factor = (vectors[:, :count] * np.sqrt(np.maximum(values[:count], 0.0))).T
    return factor, np.maximum(variance - (factor**2).sum(axis=0), 0.0)


def of_replicates(
    factor: Float[np.ndarray, "k m"],
    rest: Float[np.ndarray, " m"],
    datum: Int[np.ndarray, " n"],
    count: Int[np.ndarray, " m"],
) -> tuple[Float[np.ndarray, "j n"], Float[np.ndarray, " n"]]:
    """Return the error at data, of which several may be of one output: these have all of its error in common.

    Args:
        factor: Of the outputs' error, each output once.
        rest: The error's variance that no factor has.
        datum: Which of the outputs each datum is of.
        count: How many data each output has.
    """
    shared = np.flatnonzero(count > 1)
    own = np.zeros((len(shared), len(rest)))
    own[np.arange(len(shared)), shared] = np.sqrt(rest[shared])
    return np.concatenate([factor, own])[:, datum], np.where(count[datum] > 1, 0.0, rest[datum])


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
    """What is sampled: a log likelihood over whitened points of `size` components, of the data or of others.

    A point holds the simulator's free parameters, the noise's, and, where the prediction's error (and the scatter of a
    random simulator) cannot be integrated out in closed form, standard normal weights of their factors: the sampler
    then integrates over them.
    """

    log_likelihood: Callable[..., Float[Array, ""]]
    size: int
    likelihood: Likelihood
    errors: ErrorModel
    num_scatter: int = 0  # of a point's components, at its end, that stand for the scatter of these very data
    chains: Path | None = None  # the file that chains are kept in, to go on from
    guide: Target | None = None  # of the emulator, where the simulator is the likelihood: it says cheaply where to look

    @property
    def predictor(self) -> Predictor:
        """What predicts the outputs."""
        return self.errors.predictor

    @property
    def flow(self) -> Flow | None:
        """What gives the density of the data where their scatter is not Gaussian."""
        return self.predictor.flow

    def flow_input(self, z: Float[Array, " size"]) -> Float[Array, " inputs"]:
        """Return what the flow is given at a point."""
        return self.predictor.flow_input(*self.split(z)[:2])

    def log_ratio(self, z: Float[Array, " size"]) -> Float[Array, ""]:
        """Return the log density of what is sampled over that of a standard normal, which every prior is here."""
        return self.log_likelihood(z) + self.log_ring(z)

    def log_ring(self, z: Float[Array, " size"]) -> Float[Array, ""]:
        """Return what keeps the components of a periodic parameter away from the origin, beside their standard normal.

        Only their direction counts, so any density of their distance that integrates to one will do: a ring, and not a
        wedge that ends in a point. Zero where nothing is periodic.
        """
        theta_z, noise_z, _ = self.split(z)
        return self.predictor.space.log_ring(theta_z) + self.likelihood.noise_space.log_ring(noise_z)

    @property
    def num_named(self) -> int:
        """The number of a point's first components that are parameters, of the simulator and of the noise."""
        return self.predictor.space.size + self.likelihood.noise_space.size

    @property
    def num_predicted(self) -> int:
        """How many numbers an evaluation predicts: at all data, with the factors of their error."""
        return len(self.likelihood.index) * (1 + self.errors.num_factors)

    @property
    def space(self) -> Space:
        """The simulator's parameters, a point's first components: a hierarchy of them may be sampled otherwise."""
        return self.predictor.space

    @property
    def components(self) -> list[str]:
        """What these are called."""
        return [*self.predictor.space.components, *self.likelihood.noise_space.components]

    def starts(self) -> Float[np.ndarray, "rows size"]:
        """Return points that chains may begin from: rows that are simulated, all else (noise, error) at zero."""
        z = np.asarray(self.predictor.training_z)
        return np.pad(z, ((0, 0), (0, self.size - z.shape[1])))

    def split(self, z: Point) -> tuple[Point, Point, Point]:
        """Part points into the simulator's parameters, the noise's, and the weights of error and scatter."""
        at, end = self.predictor.space.size, self.num_named
        return z[..., :at], z[..., at:end], z[..., end:]


def build_target(config: LikelihoodConfig, predictor: Predictor, near: bool = True) -> Target:
    """Put predictor, error and data together; the error is that `near` the data, or that of the whole training set."""
    likelihood = read_likelihood(config, predictor.layout, predictor.transform)
    with_error, flow = config.infer.emulator_error == "full", predictor.flow
    errors = ErrorModel(predictor, likelihood, near and flow is None, with_error)
    at, end = predictor.space.size, predictor.space.size + likelihood.noise_space.size
    if flow is not None:
        return Target(_by_flow(predictor, flow, likelihood), end, likelihood, errors)
    projected = errors.project(likelihood)
    rest = jnp.asarray(errors.rest) if likelihood.is_censored else None
    latent, scatter = (0, 0) if likelihood.is_gaussian else (errors.num_factors, errors.num_scatter)

    def log_likelihood(z: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
        values = likelihood.noise_space.values(z[at:end])
        if errors.is_exact:
            return likelihood.exact(errors.mean(z[:at]), values, data)
        if projected is not None and data is None:
            return projected(z[:at], values)
        if likelihood.is_gaussian:
            return likelihood.marginal(errors.predict(z[:at]), values, data)
        return likelihood.exact(errors.drawn(z[:at], z[end:]), values, data, rest)

    return Target(log_likelihood, end + latent, likelihood, errors, scatter)


def _by_flow(predictor: Predictor, flow: Flow, likelihood: Likelihood) -> Callable[..., Float[Array, ""]]:
    """Return the log likelihood by a flow, in whose density noise and scatter are, and the members' disagreement."""
    at, size = predictor.space.size, len(flow.location)
    if size != len(likelihood.index) or len(flow.center) != at + likelihood.noise_space.size:
        raise StageError(
            f"the emulator's flow knows the density of {size} data with {len(flow.center) - at} parameters of their "
            f"noise, and these are {len(likelihood.index)} with {likelihood.noise_space.size}: train it for these data"
        )

    def log_likelihood(z: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
        y, volume = likelihood.flat(data)
        return flow.log_prob(predictor.flow_input(z[:at], z[at:]), y) + volume

    return log_likelihood
