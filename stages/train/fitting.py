"""Fit an architecture to rows: an ensemble by descent, or in closed form a model and its twins without each fold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.emulator import Emulator, predict
from simfer.stages.emulator.networks import draw_networks
from simfer.stages.emulator.scatter import MOST_OUTPUTS, Scatter, make_scatter, num_entries
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress, until_the_first
from simfer.stages.settings import Train
from simfer.stages.train.checkpoints import Checkpoint
from simfer.stages.train.descent import History, descend, descend_slower
from simfer.stages.train.feed import Rows, whole
from simfer.stages.train.losses import Loss, Metric, capped, loss_of, negative_log_likelihood
from simfer.stages.train.stream import Stream


class Fitted(NamedTuple):
    """What was fitted, and who did not see which fold: the members by number, or a twin of a ClosedForm for each."""

    networks: PyTree
    unseen_folds: Int[np.ndarray, " members"]
    history: History | None = None
    twins: Mapping[int, ClosedForm] = {}

    def each_with_fold(self) -> tuple[list[PyTree], Int[np.ndarray, " k"]]:
        """Return members, or twins, one by one, and the fold that each did not see."""
        if self.twins:
            return list(self.twins.values()), np.asarray(list(self.twins))
        arrays, static = eqx.partition(self.networks, eqx.is_array)
        members = [jax.tree.map(lambda leaf, m=m: leaf[m], arrays) for m in range(len(self.unseen_folds))]
        return [eqx.combine(member, static) for member in members], self.unseen_folds

    def unseen(
        self, emulator: Emulator, z: Float[np.ndarray, "n size"], fold: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n members outputs"], Bool[np.ndarray, "n members 1"]]:
        """Return what members predict at rows of known folds, and which of them did not see the row.

        The points of a twin stand for members that did not.
        """
        if not self.twins:
            return predict(emulator, z), np.stack([fold == m for m in self.unseen_folds], axis=1)[:, :, None]
        members = np.zeros((len(z), emulator.num_members, emulator.layout.size))
        for number, twin in self.twins.items():
            own = np.flatnonzero(fold == number)
            members[own] = predict(eqx.tree_at(lambda e: e.networks, emulator, twin), z[own])
        return members, np.ones((*members.shape[:2], 1), bool)


def fit(
    settings: Train,
    rows: Rows | Stream,
    fold: Int[np.ndarray, " n"],
    context: Mapping[str, Any],
    progress: Progress,
    folder: Path | None = None,
    metric: Metric | None = None,
) -> Fitted:
    """Fit what `train.architecture` names to rows, each of them in a fold.

    An ensemble's members train side by side, each from its own start and without its own fold, and each one's best is
    kept; a killed training goes on from what it left in `folder`. A ClosedForm is fitted to all rows, and again
    without each fold to know its error.
    """
    settings = settings.descending(len(fold))
    keys = _keys(jax.random.key(settings.seed), settings.ensemble_size)
    networks = draw_networks(settings, rows.sizes, keys[0], context)
    if isinstance(networks, ClosedForm):
        if isinstance(rows, Stream):
            raise _too_large(settings, "is fitted to all rows at once")
        return _fit_closed(networks, rows, fold, progress)
    folds = 1 + np.arange(settings.ensemble_size) % (int(fold.max()))
    feed = rows.feed(folds) if isinstance(rows, Stream) else whole(rows, fold, folds)
    loss = loss_of(metric, settings.derivative_weight)
    networks, history = descend(settings, networks, loss, feed, keys[1], progress, *_named("train", folder))
    return Fitted(networks, folds, history)


@partial(jax.jit, static_argnums=1)
def _keys(key: PRNGKeyArray, members: int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Return for each member a key to build it by, and one to train it by."""
    keys = jax.random.split(key, (members, 2))
    return keys[:, 0], keys[:, 1]


def _too_large(settings: Train, why: str) -> StageError:
    return StageError(
        f'train.memory: the rows take more, and "{settings.architecture}" {why}; raise it, or take fewer rows '
        "(refine.keep) or principal components of large outputs (dataset.pca)"
    )


def _named(name: str, folder: Path | None) -> tuple[str, Checkpoint | None]:
    return name, Checkpoint(folder / name) if folder else None


def _fit_closed(model: ClosedForm, rows: Rows, fold: Int[np.ndarray, " n"], progress: Progress) -> Fitted:
    given = [rows.x, rows.y]
    if rows.slopes is not None and model.learns_derivatives:
        given.append(rows.slopes)
    x, y, *derivatives = (np.asarray(each, float) for each in given)
    folds = range(1, int(fold.max()) + 1)
    what = f"{type(model).__name__}, {len(x)} rows of {y.shape[1]} numbers, 1 + {len(folds)} fits"
    with progress.task("train", total=1 + len(folds), unit="fits") as task, until_the_first(progress, what):
        model = model.fit(x, y, *derivatives)
        task.advance(1)
        twins = {}
        for number in folds:
            twins[number] = model.fit(*(each[fold != number] for each in (x, y, *derivatives)))
            task.advance(1)
    return Fitted(model, np.asarray(folds), twins=twins)


def fit_scatter(
    settings: Train,
    fitted: Fitted,
    rows: Rows | Stream,
    fold: Int[np.ndarray, " n"],
    context: Mapping[str, Any],
    scale: Float[np.ndarray, " outputs"],
    progress: Progress,
    folder: Path | None = None,
) -> tuple[Fitted, Scatter, History]:
    """Train a second ensemble for the scatter, and the first on with it, by the likelihood of the rows.

    The first was trained by squared error, which counts the outputs' scatter as independent and the same everywhere;
    the likelihood weighs each row by the scatter there.
    """
    if fitted.twins:
        raise StageError(
            f'the simulator is random, and train.architecture = "{settings.architecture}" learns no scatter; '
            "take a network that is trained by descent (residual, mlp)"
        )
    if isinstance(rows, Stream):
        raise _too_large(settings, "learns a random simulator's scatter from all rows at once")
    settings = settings.descending(len(fold), random=True)
    active = np.flatnonzero(scale > 0)
    base = _scatter_base(_residuals(fitted, rows.typed(settings.dtype), fold)[:, active])
    keys = _keys(jax.random.fold_in(jax.random.key(settings.seed), 1), settings.ensemble_size)
    others = draw_networks(settings, (rows.x.shape[1], num_entries(len(active))), keys[0], context)
    pair, feed = (fitted.networks, others), whole(rows, fold, fitted.unseen_folds)
    loss = _likelihood_loss(base, active)

    def attempt(slower: Train) -> tuple[PyTree, History]:
        # Of its own name at each rate: what ran away at one is nothing to go on from at another.
        assert slower.learning_rate and settings.learning_rate
        percent = round(100 * slower.learning_rate / settings.learning_rate)
        name, checkpoint = _named("scatter" if percent == 100 else f"scatter-{percent}-percent", folder)
        return descend(slower, pair, loss, feed, keys[1], progress, name, checkpoint)

    (networks, others), history = descend_slower(settings, attempt)
    embedded = np.zeros((len(scale), len(active)))
    embedded[active] = scale[active, None] * base
    return fitted._replace(networks=networks), make_scatter(others, embedded, 0), history


def _scatter_base(residuals: Float[np.ndarray, "n active"]) -> Float[np.ndarray, "active active"]:
    """Return the Cholesky factor of the residuals' covariance, in which no single wild row decides."""
    num, size = residuals.shape
    if size > MOST_OUTPUTS or num < 10 * size:
        raise StageError(
            f"the simulator is random: got {num} rows for the covariance of {size} values; it takes "
            f"10 rows for each, and at most {MOST_OUTPUTS} values. Raise simulate.num_simulations, or observe less"
        )
    far = (residuals**2).mean(axis=1)
    near = residuals * np.sqrt(capped(far, float(np.median(far))) / np.maximum(far, 1e-300))[:, None]
    covariance = np.atleast_2d(np.cov(near.T))
    return np.linalg.cholesky(covariance + 1e-9 * np.diag(np.diag(covariance)))


def _likelihood_loss(base: Float[np.ndarray, "active active"], active: Int[np.ndarray, " active"]) -> Loss:
    """Return the negative log likelihood of rows under a pair of networks, for the mean and for its scatter."""
    whiten = np.linalg.inv(base)

    def loss(pair: tuple[PyTree, PyTree], rows: Rows, robust: bool | float) -> Float[Array, ""]:
        q = (rows.y - jax.vmap(pair[0])(rows.x))[:, active] @ jnp.asarray(whiten.T, rows.y.dtype)
        return negative_log_likelihood(jax.vmap(pair[1])(rows.x), q, robust, rows.real)

    return loss


def _residuals(fitted: Fitted, rows: Rows, fold: Int[np.ndarray, " n"]) -> Float[np.ndarray, "used outputs"]:
    """Return the scaled residuals of each fold's rows, by the first member that did not see them."""
    evaluate = eqx.filter_jit(lambda network, x: jax.vmap(network)(x))
    networks, folds = fitted.each_with_fold()
    parts = []
    for network, number in zip(networks, dict.fromkeys(folds.tolist()), strict=False):
        own = rows.pick(np.flatnonzero(fold == number))
        parts.append(np.asarray(own.y - evaluate(network, own.x), float))
    return np.concatenate(parts)
