"""The likelihood of the data, by the emulator with its error or by the simulator's own output.

Whitened points hold the simulator's free parameters first, then the noise's (`Likelihood.noise_space`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float
from scipy.stats import chi2

from stages import noise as noises
from stages.artifacts import Layout
from stages.emulator import Emulator, spread_factor, unexplained
from stages.exact import Exact
from stages.observation import Data, read
from stages.parameters import Space
from stages.scatter import excess
from stages.settings import LikelihoodConfig, Noise, SelectConfig
from stages.transforms import TRANSFORMS

_NEAR_ROWS = 50  # held-out rows near the data that the emulator's error is read from, at least


class Prediction(NamedTuple):
    """What an emulator says at the data: a mean in the transformed scale, and how far from it an output may lie.

    The error's covariance is factor^T factor + diag(rest). That of a random simulator's own scatter is
    scatter^T scatter; `excess` is the error's variance along each of its factors, in units of the scatter's.
    """

    mean: Float[Array, " n"]
    factor: Float[Array, "k n"]
    rest: Float[Array, " n"]
    scatter: Float[Array, "s n"] | None = None
    excess: Float[Array, " s"] | None = None

    @property
    def factors(self) -> Float[Array, "f n"]:
        """The factors of error and scatter together, the excess being one of either."""
        if self.scatter is None or self.excess is None:
            return self.factor
        return jnp.concatenate([self.factor, jnp.sqrt(1.0 + self.excess)[:, None] * self.scatter])

    @property
    def variance(self) -> Float[Array, " n"]:
        """The variance about the mean, of error and scatter together."""
        return self.rest + (self.factors**2).sum(axis=0)

    @property
    def scatter_variance(self) -> Float[Array, " n"]:
        """The part of the variance that is the simulator's own."""
        return jnp.zeros_like(self.mean) if self.scatter is None else (self.scatter**2).sum(axis=0)


class Block(NamedTuple):
    """One output's data: where they lie, their values, transform and family."""

    name: str
    at: slice
    values: Float[np.ndarray, " n"]
    transform: str
    noise: Noise
    family: Callable[..., dist.Distribution]

    def natural(self, mean: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Undo the transform of a mean at all data, for these data."""
        return self.inverse(mean[..., self.at])

    def inverse(self, t: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Undo the transform."""
        return TRANSFORMS[self.transform].inverse(t)  # type: ignore[index]

    @property
    def is_gaussian(self) -> bool:
        """Whether the noise is Gaussian in the scale in which the emulator's error is."""
        return noises.GAUSSIAN.get(self.noise.dist) == self.transform


class Likelihood:
    """The data's probability as a function of the outputs and the noise's parameters."""

    def __init__(self, noise: Mapping[str, Noise], data: Data, layout: Layout, transform: Mapping[str, str]) -> None:
        self.data, self.layout = data, layout
        self.index = data.index(layout)
        self.blocks = [
            Block(name, at, data.series[name].values, transform[name], noise[name],
                  noises.family(noise[name], data.series[name].values))
            for name, at in data.slices.items()
        ]  # fmt: skip
        self.noise_space = Space(
            {f"{name}_{key}": value for name in data.slices for key, value in noises.arguments(noise[name]).items()}
        )
        self.is_gaussian = all(block.is_gaussian for block in self.blocks)

    def arguments(self, block: Block, values: Mapping[str, Any]) -> dict[str, Any]:
        """Pick a block's noise arguments out of the noise space's named values."""
        return {key: values[f"{block.name}_{key}"] for key in noises.arguments(block.noise)}

    def distribution(
        self, block: Block, y: Float[Array, " n"], values: Mapping[str, Any], error: Float[Array, " n"] | None = None
    ) -> dist.Distribution:
        """Return the distribution of a block's data around natural outputs y.

        `error`, the emulator's variance in the transformed scale, widens it where the family is Gaussian there.
        """
        given = self.arguments(block, values)
        if error is not None and block.is_gaussian:
            if block.noise.dist == "MultivariateNormal":
                base = block.family(y)
                return dist.MultivariateNormal(y, covariance_matrix=base.covariance_matrix + jnp.diag(error))
            given["scale"] = jnp.sqrt(given["scale"] ** 2 + error)
        return block.family(y, **given)

    def exact(
        self, mean: Float[Array, " n"], values: Mapping[str, Any], data: Mapping[str, Array] | None = None
    ) -> Float[Array, ""]:
        """Return the log likelihood of outputs that carry no error; `mean` is in the transformed scale.

        `data` by output take the place of the observed ones.
        """
        given = self._observed() if data is None else data
        parts = [self.distribution(b, b.natural(mean), values).log_prob(given[b.name]).sum() for b in self.blocks]
        return jnp.sum(jnp.stack(parts))

    def _observed(self) -> dict[str, Array]:
        return {b.name: jnp.asarray(b.values) for b in self.blocks}

    def marginal(
        self, prediction: Prediction, values: Mapping[str, Any], data: Mapping[str, Array] | None = None
    ) -> Float[Array, ""]:
        """Return the log likelihood with error and scatter integrated out; every family Gaussian."""
        given = self._observed() if data is None else data
        gaps, noise, jacobian = [], [], jnp.asarray(0.0)
        for b in self.blocks:
            transformed = TRANSFORMS[b.transform].forward(given[b.name], noises.SMALLEST)  # type: ignore[index]
            gaps.append(transformed - prediction.mean[b.at])
            jacobian += transformed.sum() if b.transform == "log" else 0.0
            noise.append(self._covariance(b, values))
        gap, factor = jnp.concatenate(gaps), prediction.factors
        # A random simulator's factors are as many as the data, or more: no low rank to make use of.
        if all(each.ndim == 1 for each in noise) and prediction.scatter is None:
            diagonal = jnp.concatenate(noise) + prediction.rest
            density = dist.LowRankMultivariateNormal(jnp.zeros_like(gap), factor.T, diagonal)
        else:
            dense = [jnp.diag(each) if each.ndim == 1 else each for each in noise]
            covariance = jax.scipy.linalg.block_diag(*dense) + factor.T @ factor + jnp.diag(prediction.rest)
            density = dist.MultivariateNormal(jnp.zeros_like(gap), covariance_matrix=covariance)
        return density.log_prob(gap) - jacobian

    def _covariance(self, block: Block, values: Mapping[str, Any]) -> Float[Array, "..."]:
        if block.noise.dist == "MultivariateNormal":
            return block.family(jnp.zeros(len(block.values))).covariance_matrix
        return jnp.broadcast_to(self.arguments(block, values)["scale"] ** 2, block.values.shape)

    def pointwise(
        self, mean: Float[Array, " n"], error: Float[Array, " n"] | None, values: Mapping[str, Any]
    ) -> dict[str, Float[Array, "..."]]:
        """Return each datum's log likelihood, by output (one number for a joint distribution)."""
        return {
            b.name: self.distribution(b, b.natural(mean), values, None if error is None else error[b.at]).log_prob(
                jnp.asarray(b.values)
            )
            for b in self.blocks
        }

    def noise_variance(self, mean: Float[Array, " n"], values: Mapping[str, Any]) -> Float[Array, " n"]:
        """Return each datum's variance about an output without error, in the transformed scale (to first order).

        Where noise is correlated, it is the variance of a datum given the others: what the data share (an offset that
        the noise integrates over, say) tells no two outputs apart, and must not make an emulator's error look small.
        """
        parts = []
        for b in self.blocks:
            if b.is_gaussian:
                covariance = self._covariance(b, values)
                parts.append(covariance if covariance.ndim == 1 else 1.0 / jnp.diag(jnp.linalg.inv(covariance)))
            else:
                # Of data about d(mean datum) / d(transformed output): a Binomial's datum is in other units.
                at = mean[b.at]
                slope = jax.jvp(lambda t, b=b: self._data_mean(b, t, values), (at,), (jnp.ones_like(at),))[1]
                variance = self.distribution(b, b.inverse(at), values).variance
                parts.append(variance / jnp.maximum(slope**2, 1e-300))
        return jnp.concatenate(parts)

    def _data_mean(self, block: Block, t: Float[Array, " n"], values: Mapping[str, Any]) -> Float[Array, " n"]:
        return self.distribution(block, block.inverse(t), values).mean

    def to_transformed(self, y: Float[np.ndarray, "rows d"], floor: float) -> Float[np.ndarray, "rows n"]:
        """Pick the outputs at the data out of flat natural rows, and transform them."""
        parts = [TRANSFORMS[b.transform].forward(y[:, self.index[b.at]], floor) for b in self.blocks]  # type: ignore[index]
        return np.concatenate(parts, axis=1)

    def replicate(
        self,
        key: Array,
        prediction: Prediction | None,
        mean: Float[Array, " n"],
        values: Mapping[str, Any],
        observed_offset: bool = False,
    ) -> dict[str, Float[Array, " n"]]:
        """Draw data of the same shape as the observed ones, the emulator's error and the scatter drawn with them.

        An offset that the noise integrates over is drawn from its prior, or from what the observed data say it is.
        """
        error_key, *keys = jax.random.split(key, 1 + len(self.blocks))
        if prediction is not None:
            first, second = jax.random.split(error_key)
            mean = mean + jax.random.normal(first, (len(prediction.factors),)) @ prediction.factors
            mean = mean + jnp.sqrt(prediction.rest) * jax.random.normal(second, mean.shape)
        drawn = {}
        for b, k in zip(self.blocks, keys, strict=True):
            new = self.distribution(b, b.natural(mean), values)
            drawn[b.name] = (noises.at_observed_offset(b.noise, new, b.values) if observed_offset else new).sample(k)
        return drawn

    def offsets(self, mean: Float[Array, " n"], values: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """Return how far the data say they lie from each output, where the noise integrates over an offset; or zero.

        `mean`, at all data, is in the transformed scale.
        """
        return {
            b.name: noises.observed_offset(b.noise, self.distribution(b, b.natural(mean), values), b.values)[0]
            for b in self.blocks
        }


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
        self.factor, self.rest = _split_covariance(rest, weights)

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
        return _temper(np.where(np.isfinite(distance), distance, np.finfo(float).max))

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


def _split_covariance(
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


def select_near_data(
    config: SelectConfig, layout: Layout, size: int, y: Iterable[Float[np.ndarray, "rows d"]]
) -> Bool[np.ndarray, " rows"]:
    """Say which simulated rows are near enough to the data to train on: the `refine.keep` closest ones, and more.

    They come in blocks. Close is a high likelihood, the noise at its priors' medians. No row is left out that the
    stretched posterior of `size` parameters could hold, however many there are: log likelihood ratios there are half
    a chi-squared (Wilks 1938), here up to its 99.9 % point.
    """
    transform = {name: config.dataset.transform.get(name, "none") for name in layout.outputs}
    likelihood = Likelihood(config.noise, read(config.observation.file, layout), layout, transform)
    at_data = [likelihood.to_transformed(block, config.dataset.floor) for block in y]
    distance = _distance(likelihood, np.concatenate(at_data))
    reach = 0.5 * chi2.ppf(0.999, size) * config.refine.stretch**2
    closest = np.sort(distance)[: config.refine.keep][-1]
    return distance <= max(closest, distance.min() + reach)


def _distance(likelihood: Likelihood, at_data: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
    finite = jnp.asarray(np.where(np.isfinite(at_data), at_data, 0.0))
    score = -np.asarray(jax.jit(jax.vmap(lambda mean: likelihood.exact(mean, values)))(finite))
    return np.where(np.isfinite(score), score, np.finfo(float).max)


def near_data(likelihood: Likelihood, y: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, " rows"]:
    """Return weights of transformed rows that prefer those near the data, summing to one.

    They are tempered likelihoods, exp(-(distance - smallest) / T), with the smallest T >= 1 at which they still
    count as many rows (1 / sum of squares) as a covariance needs. An emulator of the whole prior is judged by its
    error where the data are, not by that of outputs which nobody observed.
    """
    return _temper(_distance(likelihood, y[:, likelihood.index]))


def _temper(distance: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    gap = distance - distance.min()
    wanted = min(max(_NEAR_ROWS, 0.1 * len(gap)), 0.8 * len(gap))
    low, high = 0.0, 60.0 * np.log(10.0)  # of log T
    for _ in range(60):
        middle = 0.5 * (low + high)
        weights = np.exp(-gap / np.exp(middle))
        enough = weights.sum() ** 2 / (weights**2).sum() >= wanted
        low, high = (low, middle) if enough else (middle, high)
    weights = np.exp(-gap / np.exp(high))
    return weights / weights.sum()
