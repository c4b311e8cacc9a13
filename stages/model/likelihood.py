"""The likelihood of the data, by the emulator with its error or by the simulator's own output.

Whitened points hold the simulator's free parameters first, then the noise's (`Likelihood.noise_space`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int

from simfer.stages.model import low_rank
from simfer.stages.model import noise as noises
from simfer.stages.model.block import Block
from simfer.stages.model.covariance import Joint, joints
from simfer.stages.model.information import variance_of_output
from simfer.stages.model.observation import Data, read
from simfer.stages.model.outputs import Layout
from simfer.stages.model.prediction import Prediction
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.settings import Noise, Observation, Prior
from simfer.stages.settings.noise import names_used, quantities


def _log_prob(
    blocks: Sequence[Block], distribution: dist.Distribution, data: Mapping[str, Array]
) -> Float[Array, "..."]:
    """Return the log probability of coded data of one output, or of several that scatter together."""
    if len(blocks) == 1:
        return blocks[0].log_prob(distribution, data[blocks[0].name])
    return distribution.log_prob(jnp.concatenate([data[b.name] for b in blocks]))


class Observed(Protocol):
    """What a likelihood is made of, in a slice of the config."""

    @property
    def observation(self) -> Observation:
        """Where the data are."""

    @property
    def noise(self) -> Mapping[str, Noise]:
        """How they scatter, by output."""

    @property
    def noise_parameters(self) -> Mapping[str, float | Prior]:
        """What the noise of several outputs shares."""


def read_data(problem: Observed, layout: Layout) -> Data:
    """Read the data that a config names, with the columns that its noise takes."""
    shared = problem.noise_parameters
    needed = {output: [name for name in names_used(output, noise) if name not in shared]
              for output, noise in problem.noise.items()}  # fmt: skip
    return read(problem.observation, layout, needed)


def read_likelihood(problem: Observed, layout: Layout, transform: Mapping[str, str]) -> Likelihood:
    """Read the data of a config, and put them together with its noise."""
    every = {name: transform.get(name, "none") for name in layout.outputs}
    return Likelihood(problem.noise, read_data(problem, layout), layout, every, problem.noise_parameters)


class Likelihood:
    """The data's probability as a function of the outputs and the noise's parameters."""

    def __init__(
        self,
        noise: Mapping[str, Noise],
        data: Data,
        layout: Layout,
        transform: Mapping[str, str],
        shared: Mapping[str, float | Prior] = {},
    ) -> None:
        self.data, self.layout = data, layout
        self.index = data.index(layout)
        self.joints = joints(noise, data, layout)
        own = {name: joint.of(name, data) for joint in self.joints for name in joint.names}
        self.blocks = [
            Block(name, at, data.series[name].values, transform[name], noise[name],
                  noises.family(noise[name], data.series[name], own.get(name)), data.series[name])
            for name, at in data.slices.items()
        ]  # fmt: skip
        self.together = [joint for joint in self.joints if len(joint.names) > 1]
        self.noise_space = Space(
            {each.name: each.value for each in quantities({name: noise[name] for name in data.slices}, shared)}
        )
        self.is_censored = any(block.is_censored for block in self.blocks)
        self.is_gaussian = all(block.is_gaussian for block in self.blocks) and not self.is_censored

    def arguments(self, block: Block, values: Mapping[str, Any], y: Float[Array, " n"]) -> dict[str, Any]:
        """Return what a block's distribution takes around natural outputs y, of the noise space's named values."""
        return noises.argument_values(block.noise, block.name, values, block.series.columns, y)

    def distribution(
        self, block: Block, y: Float[Array, " n"], values: Mapping[str, Any], error: Float[Array, " n"] | None = None
    ) -> dist.Distribution:
        """Return the distribution of a block's data around natural outputs y.

        `error`, the emulator's variance in the transformed scale, widens it where the family is Gaussian there.
        """
        given = self.arguments(block, values, y)
        if error is not None and block.is_gaussian:
            if block.noise.dist == "none":
                made = dist.Normal if block.transform == "none" else dist.LogNormal
                return made(TRANSFORMS[block.transform].forward(y, noises.smallest(block.values)), jnp.sqrt(error))  # type: ignore[index]
            if block.noise.dist == "MultivariateNormal":
                base = block.family(y)
                return dist.MultivariateNormal(y, covariance_matrix=base.covariance_matrix + jnp.diag(error))
            given["scale"] = jnp.sqrt(given["scale"] ** 2 + error)
        return block.family(y, **given)

    def exact(
        self,
        mean: Float[Array, " n"],
        values: Mapping[str, Any],
        data: Mapping[str, Array] | None = None,
        error: Float[Array, " n"] | None = None,
    ) -> Float[Array, ""]:
        """Return the log likelihood of outputs that carry no error; `mean` is in the transformed scale.

        `data` by output take the place of the observed ones; `error`, a variance of each datum's own in the transformed
        scale, widens families that are Gaussian there.
        """
        given = self._observed() if data is None else data
        parts = [_log_prob(*part, given).sum() for part in self.parts(mean, values, error)]
        return jnp.sum(jnp.stack(parts))

    def parts(
        self, mean: Float[Array, " n"], values: Mapping[str, Any], error: Float[Array, " n"] | None = None
    ) -> Iterator[tuple[list[Block], dist.Distribution]]:
        """Yield what scatters on its own with its distribution: one output's data, or several outputs' together."""
        for b in self.blocks:
            joint = next((joint for joint in self.together if b.name in joint.names), None)
            if joint is None:
                own = self.distribution(b, b.natural(mean), values, None if error is None else error[b.at])
                yield [b], own
            elif b.name == joint.names[0]:
                blocks = [other for other in self.blocks if other.name in joint.names]
                covariance = jnp.asarray(joint.matrix)
                if error is not None:
                    widths = [error[each.at] if each.is_gaussian else jnp.zeros(len(each.values)) for each in blocks]
                    covariance = covariance + jnp.diag(jnp.concatenate(widths))
                outputs = jnp.concatenate([each.natural(mean) for each in blocks])
                yield blocks, dist.MultivariateNormal(outputs, covariance_matrix=covariance)

    @cached_property
    def across(self) -> Float[np.ndarray, "n n"] | None:
        """The covariances between data of different outputs, and zeros elsewhere; None where there are none."""
        if not self.together:
            return None
        across = np.zeros((len(self.index), len(self.index)))
        for joint in self.together:
            at = self._at(joint)
            across[np.ix_(at, at)] = joint.matrix
        for b in self.blocks:
            across[b.at, b.at] = 0.0
        return across

    @cached_property
    def _given_others(self) -> dict[str, Float[np.ndarray, " n"]]:
        """The variance of each datum of outputs that scatter together, given all others of these."""
        given = np.zeros(len(self.index))
        for joint in self.together:
            given[self._at(joint)] = 1.0 / np.diag(np.linalg.inv(joint.matrix))
        return {b.name: given[b.at] for b in self.blocks for joint in self.together if b.name in joint.names}

    def _at(self, joint: Joint) -> Int[np.ndarray, " m"]:
        """Return where the data of outputs that scatter together are among all data."""
        return np.concatenate([np.arange(b.at.start, b.at.stop) for b in self.blocks if b.name in joint.names])

    def flat(self, data: Mapping[str, Array] | None = None) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        """Return data, the observed ones if left out, as a flow sees them, and the log volume that this takes."""
        given, parts, volume = self._observed() if data is None else data, [], jnp.asarray(0.0)
        for b in self.blocks:
            t = TRANSFORMS[b.scale].forward(given[b.name], noises.smallest(b.values))  # type: ignore[index]
            volume -= jnp.log(jnp.abs(TRANSFORMS[b.scale].slope(t))).sum()  # type: ignore[index]
            parts.append(t)
        return jnp.concatenate(parts), volume

    def from_flat(self, y: Float[Array, " n"]) -> dict[str, Float[Array, " n"]]:
        """Return data by output that `flat` turned into what a flow sees."""
        return {b.name: TRANSFORMS[b.scale].inverse(y[b.at]) for b in self.blocks}  # type: ignore[index]

    def _observed(self) -> dict[str, Array]:
        return {b.name: jnp.asarray(b.coded) for b in self.blocks}

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
            noise.append(self.covariance(b, values, b.natural(prediction.mean)))
        gap, factor = jnp.concatenate(gaps), prediction.factors
        # A random simulator's factors are as many as the data, or more: no low rank to make use of.
        if all(each.ndim == 1 for each in noise) and prediction.scatter is None:
            return low_rank.log_prob(gap, factor, jnp.concatenate(noise) + prediction.rest) - jacobian
        dense = [jnp.diag(each) if each.ndim == 1 else each for each in noise]
        covariance = jax.scipy.linalg.block_diag(*dense) + factor.T @ factor + jnp.diag(prediction.rest)
        covariance = covariance if self.across is None else covariance + self.across
        return dist.MultivariateNormal(jnp.zeros_like(gap), covariance_matrix=covariance).log_prob(gap) - jacobian

    def covariance(self, block: Block, values: Mapping[str, Any], y: Float[Array, " n"]) -> Float[Array, "..."]:
        """Return the covariance of a block's Gaussian noise about natural outputs y; each variance if independent."""
        if block.noise.dist == "MultivariateNormal":
            return block.family(jnp.zeros(len(block.values))).covariance_matrix
        if block.noise.dist == "none":
            return jnp.zeros(block.values.shape)
        return jnp.broadcast_to(self.arguments(block, values, y)["scale"] ** 2, block.values.shape)

    def variances(self, values: Mapping[str, Any]) -> Float[Array, " n"]:
        """Return each datum's variance by Gaussian noise in which outputs have no say, and no two data in common."""
        return jnp.concatenate([self.covariance(b, values, jnp.asarray(b.values)) for b in self.blocks])

    def pointwise(
        self, mean: Float[Array, " n"], error: Float[Array, " n"] | None, values: Mapping[str, Any]
    ) -> dict[str, Float[Array, "..."]]:
        """Return each datum's log likelihood, by output (one number for a joint distribution: of several, `a+b`)."""
        observed = self._observed()
        return {
            "+".join(block.name for block in blocks): _log_prob(blocks, distribution, observed)
            for blocks, distribution in self.parts(mean, values, error)
        }

    def noise_variance(self, mean: Float[Array, " n"], values: Mapping[str, Any]) -> Float[Array, " n"]:
        """Return each datum's variance about an output without error, in the transformed scale (to first order).

        Of noise that has no variance it is one over the information that a datum has of the output.
        Where noise is correlated, it is the variance of a datum given the others: what the data share (an offset that
        the noise integrates over, say) tells no two outputs apart, and must not make an emulator's error look small.
        """
        parts: list[Array] = []
        given_all = self._given_others
        for b in self.blocks:
            if b.name in given_all:
                slope = TRANSFORMS[b.transform].slope(mean[b.at])  # type: ignore[index]
                parts.append(jnp.asarray(given_all[b.name]) / jnp.maximum(slope**2, 1e-300))
            elif b.is_gaussian:
                covariance = self.covariance(b, values, b.natural(mean))
                parts.append(covariance if covariance.ndim == 1 else 1.0 / jnp.diag(jnp.linalg.inv(covariance)))
            else:
                scatter = lambda t, b=b: self.distribution(b, b.inverse(t), values)  # noqa: E731
                parts.append(variance_of_output(scatter, mean[b.at]))
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

        They are coded, and censored at the limits of the observed ones; `shown` has them as a file would.
        An offset that the noise integrates over is drawn from its prior, or from what the observed data say it is.
        """
        error_key, *keys = jax.random.split(key, 1 + len(self.blocks))
        if prediction is not None:
            first, second = jax.random.split(error_key)
            mean = mean + jax.random.normal(first, (len(prediction.factors),)) @ prediction.factors
            mean = mean + jnp.sqrt(prediction.rest) * jax.random.normal(second, mean.shape)
        drawn = {}
        key_of = dict(zip((b.name for b in self.blocks), keys, strict=True))
        for blocks, scatter in self.parts(mean, values):
            first = blocks[0]
            new = noises.at_observed_offset(first.noise, scatter, first.values) if observed_offset else scatter
            ends = np.cumsum([len(b.values) for b in blocks])[:-1]
            for b, own in zip(blocks, jnp.split(new.sample(key_of[first.name]), ends), strict=True):
                drawn[b.name] = b.censor(own)
        return {b.name: drawn[b.name] for b in self.blocks}

    def shown(self, data: Mapping[str, Array]) -> dict[str, Array]:
        """Return coded data as a file has them: a censored one at its limit."""
        return {b.name: b.decode(data[b.name]) for b in self.blocks}

    def offsets(self, mean: Float[Array, " n"], values: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """Return how far the data say they lie from each output, where the noise integrates over an offset; or zero.

        `mean`, at all data, is in the transformed scale.
        """
        return {
            b.name: noises.observed_offset(b.noise, self.distribution(b, b.natural(mean), values), b.values)[0]
            for b in self.blocks
        }
