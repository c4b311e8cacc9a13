"""What posterior draws predict: replicated data, each datum's log likelihood, shares of the variance, whole curves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.batches import in_batches, split_keys
from simfer.stages.infer.predictor import Predictor
from simfer.stages.infer.target import Target
from simfer.stages.model.prediction import Prediction

_NUM_CURVES, _FEWEST_CURVES = 400, 100  # draws whose whole output is drawn
_CURVE_BYTES = 2**27  # or as many of them as this allows
JOINT = "data"  # what the log likelihood of all data is called where a flow gives it: it cannot be taken apart


class Predictive(NamedTuple):
    """What was computed at every draw, all chains in a row; arrays by output where they are not at all data."""

    replicated: dict[str, Float[np.ndarray, "draws datum"]]  # with noise, error and scatter
    pointwise: dict[str, Float[np.ndarray, "draws *datum"]]  # log likelihoods; one for all data of a joint distribution
    error_share: dict[str, Float[np.ndarray, " draws"]]  # of a datum's variance on average, the emulator's error
    scatter_share: dict[str, Float[np.ndarray, " draws"]]  # and a random simulator's scatter
    curves: dict[str, Float[np.ndarray, "some_draws ..."]]  # whole outputs, without noise
    simulated: dict[str, Float[np.ndarray, "some_draws ..."]]  # of a random simulator: what it may return


def evaluate(target: Target, z: Float[np.ndarray, "chains draws size"], seed: int) -> Predictive:
    """Evaluate at every draw what a reader holds against the data."""
    flat = z.reshape(-1, z.shape[-1])
    keys = split_keys(seed + 1, len(flat))
    predicted = in_batches(lambda point: at_data(target, *point), (flat, keys), together=False)
    allowed = max(_CURVE_BYTES // (8 * target.predictor.layout.size), _FEWEST_CURVES)
    thinned = flat[:: max(len(flat) // min(_NUM_CURVES, allowed), 1)]
    curves = in_batches(lambda z: _curve(target, z), thinned, size=32)
    predictor = target.predictor
    drawn = predictor.random is not None and predictor.flow is None  # a flow draws data, and no whole outputs
    simulated = {} if not drawn else _simulated(predictor, target.split(thinned)[0], seed)
    return Predictive(*(jax.tree.map(np.asarray, values) for values in (*predicted, curves, simulated)))


def at_data(target: Target, z: Array, key_data: Array) -> tuple[dict[str, Array], ...]:
    """Return what is predicted at the data: the first four fields of `Predictive`."""
    likelihood, errors, key = target.likelihood, target.errors, jax.random.wrap_key_data(key_data)
    theta_z, noise_z, weights = target.split(z)
    values, prediction = likelihood.noise_space.values(noise_z), errors.predict(theta_z)
    mean, uncertain, variance = prediction.mean, None, None
    at_each = _shares(prediction, likelihood.noise_variance(mean, values))
    shares = [{b.name: share[b.at].mean() for b in likelihood.blocks} for share in at_each]
    if target.flow is not None:
        replicated = likelihood.from_flat(target.flow.sample(target.flow_input(z), key))
        return replicated, {JOINT: target.log_likelihood(z)}, *shares
    if likelihood.is_gaussian and not errors.is_exact:
        uncertain, variance = prediction, prediction.variance
    elif not errors.is_exact:  # the draw says which error, and which scatter, it is
        mean = mean + weights @ prediction.factors
    replicated = likelihood.replicate(key, uncertain, mean, values, observed_offset=True)
    return likelihood.shown(replicated), likelihood.pointwise(mean, variance, values), *shares


def _shares(prediction: Prediction, noise: Array) -> tuple[Array, Array]:
    """Return which part of each datum's variance is the emulator's error, and which a random simulator's scatter."""
    total, scatter = prediction.variance + noise, prediction.scatter_variance
    return (prediction.variance - scatter) / total, scatter / total


def _curve(target: Target, z: Array) -> dict[str, Array]:
    """Return whole outputs, with the offset that the data ask for where the noise has one."""
    theta_z, noise_z, _ = target.split(z)
    noise = target.likelihood.noise_space.values(noise_z)
    offsets = target.likelihood.offsets(target.errors.mean(theta_z), noise)
    natural = target.predictor.natural(target.predictor.members(theta_z).mean(axis=0))
    return {name: values + offsets.get(name, 0.0) for name, values in natural.items()}


def _simulated(
    predictor: Predictor, z: Float[np.ndarray, "draws size"], seed: int
) -> dict[str, Float[np.ndarray, "draws ..."]]:
    """Draw a random simulator's whole outputs, without noise."""

    def some(z: Array, key_data: Array) -> dict[str, Array]:
        factor, key = predictor.scatter_factor(z), jax.random.wrap_key_data(key_data)
        scatter = jax.random.normal(key, (10, len(factor))) @ factor
        return predictor.natural(predictor.members(z).mean(axis=0) + scatter)

    drawn = in_batches(lambda row: some(*row), (z, split_keys(seed + 2, len(z))), together=False)
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in drawn.items()}
