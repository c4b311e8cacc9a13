"""Train the density of data of any shape: means by squared error, then all of it by the likelihood of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.batches import in_batches
from simfer.stages.emulator.flow import Density, Flow, build_densities
from simfer.stages.errors import StageError
from simfer.stages.model.likelihood import Observed, read_likelihood
from simfer.stages.progress import Progress
from simfer.stages.settings import Train, TrainConfig
from simfer.stages.train.descent import History, descend, descend_slower
from simfer.stages.train.feed import Feed, Rows, whole
from simfer.stages.train.losses import Loss, loss_of, mean_of, median_of

_COPIED = 40_000  # rows with their copies: more noise than this on a row teaches nothing
_MOST_COPIES = 8
_MEAN_STEPS, _MEAN_RATE, _PATIENCE = 1500, 1e-2, 600
_AVERAGING = 0.98  # of weights, over some fifty steps: few rows are learned by heart long before the rate falls
_WILD = 30.0  # nats beyond the median row, from where on a row counts by the logarithm of its own


class Sample(NamedTuple):
    """Data that the simulator and the noise made, at the inputs of a flow."""

    x: Float[np.ndarray, "n inputs"]
    y: Float[np.ndarray, "n data"]
    fold: Int[np.ndarray, " n"]


class Candidate(NamedTuple):
    """A trained density, and what rows that its members did not see think of it."""

    flow: Flow
    about: Mapping[str, Any]
    log_density: Float[np.ndarray, " rows"]  # of each, by a member that did not see it
    history: History


def sample(config: TrainConfig, dataset: TrainingSet, x: Float[np.ndarray, "rows size"]) -> Sample:
    """Draw noise on top of the rows that networks may see, several times where rows are few.

    Every copy has noise parameters of its own, from their prior. All copies of a row are in its fold.
    """
    likelihood = read_likelihood(cast(Observed, config), dataset.layout, dataset.transform)
    if likelihood.is_censored:
        raise StageError(
            "train.scatter: a flow learns a density, and data of which a bound alone is known have none; take "
            'train.scatter = "gaussian", or leave these data out'
        )
    _, fold = dataset.points()
    training = np.flatnonzero(fold != TEST)
    outputs = dataset.outputs(0, int(training[-1]) + 1)[training][:, likelihood.index]
    exact = all(noise.dist == "none" for noise in config.noise.values())
    copies = 1 if exact else int(np.clip(_COPIED // len(training), 1, _MOST_COPIES))
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(config.train.seed + 2), row))(
        jnp.arange(copies * len(training))
    )

    def one(mean: Array, key: Array) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        noise_z = jax.random.normal(first, (likelihood.noise_space.size,))
        drawn = likelihood.replicate(second, None, mean, likelihood.noise_space.values(noise_z))
        return noise_z, likelihood.flat(drawn)[0]

    means = jnp.asarray(np.repeat(outputs, copies, axis=0))
    noise_z, y = map(np.asarray, jax.jit(jax.vmap(one))(means, keys))
    inputs = np.concatenate([np.repeat(x, copies, axis=0), noise_z], axis=1)
    return Sample(inputs, y, np.repeat(fold[training], copies))


class Beginning(NamedTuple):
    """What all densities are trained from: rows at unit size, and means that were trained on them."""

    settings: Train
    rows: Sample
    scaled: Rows
    held_out: Int[np.ndarray, " members"]  # the fold that each member does not see
    keys: Array
    about: Mapping[str, Any]
    means: Any
    scales: tuple[
        np.ndarray, np.ndarray, np.ndarray, np.ndarray
    ]  # centre and spread of inputs, location and scale of data


class Start(NamedTuple):
    """Densities before they are trained, what their header says of them, and how they learn."""

    members: Density
    about: Mapping[str, Any]
    rate: float
    frozen: tuple[str, ...] = ()  # weights of splines' layers that stay as they are


def begin(settings: Train, rows: Sample, progress: Progress) -> Beginning:
    """Bring rows to unit size, and train means by squared error."""
    spread, scale = rows.x.std(axis=0), rows.y.std(axis=0)
    if not (scale > 0).all() or not np.isfinite(rows.y).all():
        raise StageError(
            "train.scatter: a flow learns the density of data that scatter, and a datum does not, or is not finite; "
            'observe less, or take train.scatter = "gaussian"'
        )
    scales = rows.x.mean(axis=0), np.where(spread > 0, spread, 1.0), rows.y.mean(axis=0), scale
    scaled = Rows((rows.x - scales[0]) / scales[1], (rows.y - scales[2]) / scale)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 2), (settings.ensemble_size, 2))
    held_out = 1 + np.arange(settings.ensemble_size) % int(rows.fold.max())
    about = {"size": rows.y.shape[1], "inputs": rows.x.shape[1], "layers": 0, "width": settings.flow.width}
    about |= {"bins": settings.flow.bins, "sees": False, "dtype": settings.dtype, "members": settings.ensemble_size}
    about |= {"folds": int(rows.fold.max())}
    quick = _settings(settings, min(_MEAN_STEPS, settings.steps), _MEAN_RATE)
    means, feed = build_densities(about, keys[:, 0]).mean, whole(scaled, rows.fold, held_out)
    means, _ = _averaged(quick, means, loss_of(), feed, keys[:, 1], progress, "flow: means")
    return Beginning(settings, rows, scaled, held_out, keys, about, means, scales)


def train(begun: Beginning, name: str, start: Start, progress: Progress) -> Candidate:
    """Train densities from where they start, data being scaled by their axes."""
    base = np.asarray(start.members.base[0], float)
    feed = whole(Rows(begun.scaled.x, begun.scaled.y @ base.T), begun.rows.fold, begun.held_out)
    members, history = _descended(begun, start, feed, progress, f"flow: {name}")
    center, spread, location, scale = begun.scales
    scales = map(jnp.asarray, (center, spread, location, base / scale))
    flow = Flow(members, *scales, folds=begun.about["folds"])
    return Candidate(flow, start.about, _unseen(flow, begun), history)


def _settings(settings: Train, steps: int, rate: float) -> Train:
    changed = {"steps": steps, "learning_rate": rate, "patience": _PATIENCE, "finish_steps": 0}
    by_adam = settings.model_copy(update=changed | {"optimizer": "adam", "optimizer_options": {}})
    return by_adam.descending(0)  # which gives it its batch


def _descended(begun: Beginning, start: Start, feed: Any, progress: Progress, name: str) -> tuple[Density, History]:
    loss = partial(_with_frozen, start.frozen) if start.frozen else _negative_log_density
    settings = _settings(begun.settings, begun.settings.flow.steps, start.rate)
    return _averaged(settings, start.members, loss, feed, begun.keys[:, 1], progress, name)


def _averaged(
    settings: Train, networks: Any, loss: Loss, feed: Feed, keys: Array, progress: Progress, name: str
) -> tuple[Any, History]:
    """Descend, weights being averaged; where the loss is not finite, once more at a lower rate."""
    return descend_slower(
        settings,
        lambda slower: descend(slower, networks, loss, feed, keys, progress, name, averaging=_AVERAGING),
    )


def _with_frozen(frozen: tuple[str, ...], density: Density, rows: Rows, robust: bool | float) -> Float[Array, ""]:
    """Return the same, some weights of the splines' layers learning nothing."""

    def weights(density: Density) -> list[Array]:
        assert density.bend is not None
        return [getattr(layer, name) for layer in density.bend.layers for name in frozen]

    still = [jax.lax.stop_gradient(each) for each in weights(density)]
    return _negative_log_density(eqx.tree_at(weights, density, still), rows, robust)


def _negative_log_density(density: Density, rows: Rows, robust: bool | float) -> Float[Array, ""]:
    """Return the mean over rows, for each datum; a row far beyond the median one counts by its logarithm."""
    each = -jax.vmap(density.log_prob)(rows.x, rows.y)
    limit = jax.lax.stop_gradient(median_of(each, rows.real)) + _WILD
    beyond = jnp.log1p(jnp.maximum(each - limit, 0.0))
    return mean_of(jnp.minimum(each, limit) + beyond, rows.real) / rows.y.shape[1]


def _unseen(flow: Flow, begun: Beginning) -> Float[np.ndarray, " used"]:
    """Return the log density of each fold's rows, by the first member that did not see them."""
    rest = eqx.filter(flow.members, eqx.is_inexact_array, inverse=True)

    def one(weights: Any, x: Array, y: Array) -> Array:
        alone = eqx.combine(jax.tree.map(lambda leaf: leaf[None], weights), rest)
        return replace(flow, members=alone).log_prob(x, y)

    return _by_fold(flow.members, one, begun.rows.x, begun.rows.y, begun)


def residuals(begun: Beginning) -> Float[np.ndarray, "used data"]:
    """Return the residuals of each fold's rows, by the first member that did not see them."""
    rest = eqx.filter(begun.means, eqx.is_inexact_array, inverse=True)

    def one(weights: Any, x: Array, y: Array) -> Array:
        return y - eqx.combine(weights, rest)(x.astype(begun.settings.dtype)).astype(y.dtype)

    return _by_fold(begun.means, one, np.asarray(begun.scaled.x), np.asarray(begun.scaled.y), begun)


def _by_fold(
    members: Any,
    one: Callable[[Any, Array, Array], Array],
    x: Float[np.ndarray, "n inputs"],
    y: Float[np.ndarray, "n data"],
    begun: Beginning,
) -> Float[np.ndarray, "used ..."]:
    """Evaluate each fold's rows by the first member that did not see them."""
    weights = eqx.filter(members, eqx.is_inexact_array)
    parts = []
    for member, number in enumerate(dict.fromkeys(begun.held_out.tolist())):
        own = np.flatnonzero(begun.rows.fold == number)
        mine = jax.tree.map(lambda leaf, m=member: leaf[m], weights)
        parts.append(in_batches(partial(_at_row, one, mine), (x[own], y[own])))
    return np.concatenate(parts)


def _at_row(one: Callable[[Any, Array, Array], Array], weights: Any, row: tuple[Array, Array]) -> Array:
    return one(weights, *row)
