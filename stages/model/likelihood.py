"""The likelihood of the data, by the emulator with its error or by the simulator's own output.

Whitened points hold the simulator's free parameters first, then the noise's (`Likelihood.noise_space`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.model import noise as noises
from simfer.stages.model.observation import Data
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.settings import Noise


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
            transformed = TRANSFORMS[b.transform].forward(given[b.name], noises.smallest(b.values))  # type: ignore[index]
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

        Of noise that has no variance it is one over the information that a datum has of the output.
        Where noise is correlated, it is the variance of a datum given the others: what the data share (an offset that
        the noise integrates over, say) tells no two outputs apart, and must not make an emulator's error look small.
        """
        parts = []
        for b in self.blocks:
            if b.is_gaussian:
                covariance = self._covariance(b, values)
                parts.append(covariance if covariance.ndim == 1 else 1.0 / jnp.diag(jnp.linalg.inv(covariance)))
            else:
                scatter = lambda t, b=b: self.distribution(b, b.inverse(t), values)  # noqa: E731
                parts.append(noises.variance_of_output(scatter, mean[b.at]))
        return jnp.concatenate(parts)

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
