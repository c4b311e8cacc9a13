"""Fit an architecture to rows: an ensemble by descent, or in closed form a model and its twins without each fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from stages.architectures.base import ClosedForm
from stages.descent import History, Loss, Picks, Rows, descend, stack
from stages.emulator import Emulator, build_networks, network_options, predict
from stages.errors import StageError
from stages.progress import Progress
from stages.scatter import MOST_OUTPUTS, Scatter, make_scatter, negative_log_likelihood, num_entries
from stages.settings import Train


class Fitted(NamedTuple):
    """What was fitted, and who did not see which fold: the members by number, or a twin of a ClosedForm for each."""

    networks: PyTree
    held_out: Int[np.ndarray, " members"]
    history: History | None = None
    twins: Mapping[int, ClosedForm] = {}

    def unseen(
        self, emulator: Emulator, z: Float[np.ndarray, "n size"], fold: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n members outputs"], Bool[np.ndarray, "n members 1"]]:
        """Return what members predict at rows of known folds, and which of them did not see the row.

        The points of a twin stand for members that did not.
        """
        if not self.twins:
            return predict(emulator, z), np.stack([fold == m for m in self.held_out], axis=1)[:, :, None]
        members = np.zeros((len(z), emulator.header["num_members"], emulator.layout.size))
        for number, twin in self.twins.items():
            own = np.flatnonzero(fold == number)
            members[own] = predict(eqx.tree_at(lambda e: e.networks, emulator, twin), z[own])
        return members, np.ones((*members.shape[:2], 1), bool)


def loss(network: PyTree, rows: Rows) -> Float[Array, ""]:
    """Return the mean squared error in units of each output's spread."""
    return jnp.mean((jax.vmap(network)(rows.x) - rows.y) ** 2)


def loss_with_slopes(weight: float) -> Loss:
    """Return a loss that adds the derivatives' mean squared error, so often as `weight` says (Czarnecki et al. 2017).

    Both are in units of each output's spread, and the derivatives by inputs of unit spread.
    """

    def with_slopes(network: PyTree, rows: Rows) -> Float[Array, ""]:
        assert rows.slopes is not None
        y, slopes = jax.vmap(lambda x: value_and_slopes(network, x))(rows.x)
        return jnp.mean((y - rows.y) ** 2) + weight * jnp.mean((slopes - rows.slopes) ** 2)

    return with_slopes


def value_and_slopes(
    function: Callable[[Array], Array], x: Float[Array, " size"]
) -> tuple[Float[Array, " outputs"], Float[Array, "size outputs"]]:
    """Evaluate a function and its derivatives by each input, in forward mode: inputs are few."""
    along = lambda direction: jax.jvp(function, (x,), (direction,))  # noqa: E731
    return jax.vmap(along, out_axes=(None, 0))(jnp.eye(len(x), dtype=x.dtype))


def fit(
    settings: Train, rows: Rows, fold: Int[np.ndarray, " n"], given: Mapping[str, Any], progress: Progress
) -> Fitted:
    """Fit what `train.architecture` names to rows, each of them in a fold.

    An ensemble's members train side by side, each from its own start and without its own fold, and each one's best is
    kept. A ClosedForm is fitted to all rows, and again without each fold to know its error.
    """
    keys = jax.random.split(jax.random.key(settings.seed), (settings.ensemble_size, 2))
    sizes = (rows.x.shape[1], rows.y.shape[1])
    options = network_options(settings)
    networks = build_networks(settings.architecture, options, sizes, keys[:, 0], settings.dtype, given)
    if isinstance(networks, ClosedForm):
        return _fit_closed(networks, rows, fold, progress)
    held_out = 1 + np.arange(settings.ensemble_size) % (int(fold.max()))
    picks = Picks(stack(fold != m for m in held_out), stack(fold == m for m in held_out), keys[:, 1])
    weight = settings.derivative_weight if rows.slopes is not None else 0.0
    rows, chosen = (rows, loss_with_slopes(weight)) if weight else (rows._replace(slopes=None), loss)
    networks, history = descend(settings, networks, chosen, _typed(rows, settings.dtype), picks, progress, "train")
    return Fitted(networks, held_out, history)


def _typed(rows: Rows, dtype: str) -> Rows:
    return jax.tree.map(lambda part: jnp.asarray(part, dtype), rows)


def _fit_closed(model: ClosedForm, rows: Rows, fold: Int[np.ndarray, " n"], progress: Progress) -> Fitted:
    x, y = np.asarray(rows.x, float), np.asarray(rows.y, float)
    folds = range(1, int(fold.max()) + 1)
    with progress.task("train", total=1 + len(folds), unit="fits") as task:
        model = model.fit(x, y)
        task.advance(1)
        twins = {}
        for number in folds:
            twins[number] = model.fit(x[fold != number], y[fold != number])
            task.advance(1)
    return Fitted(model, np.asarray(folds), twins=twins)


def fit_scatter(
    settings: Train,
    fitted: Fitted,
    rows: Rows,
    fold: Int[np.ndarray, " n"],
    given: Mapping[str, Any],
    scale: Float[np.ndarray, " outputs"],
    progress: Progress,
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
    rows, held_out, active = _typed(rows, settings.dtype), fitted.held_out, np.flatnonzero(scale > 0)
    residuals = _residuals(fitted.networks, rows, fold, held_out)[:, active]
    if len(active) > MOST_OUTPUTS or len(residuals) < 10 * len(active):
        raise StageError(
            f"the simulator is random: got {len(residuals)} rows for the covariance of {len(active)} values; it takes "
            f"10 rows for each, and at most {MOST_OUTPUTS} values. Raise simulate.num_simulations, or observe less"
        )
    covariance = np.atleast_2d(np.cov(residuals.T))
    base = np.linalg.cholesky(covariance + 1e-9 * np.diag(np.diag(covariance)))
    whiten = jnp.asarray(np.linalg.inv(base), settings.dtype)

    def likelihood_loss(pair: tuple[PyTree, PyTree], rows: Rows) -> Float[Array, ""]:
        q = (rows.y - jax.vmap(pair[0])(rows.x))[:, active] @ whiten.T
        return jnp.mean(jax.vmap(negative_log_likelihood)(jax.vmap(pair[1])(rows.x), q))

    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 1), (settings.ensemble_size, 2))
    sizes = (rows.x.shape[1], num_entries(len(active)))
    options = network_options(settings)
    others = build_networks(settings.architecture, options, sizes, keys[:, 0], settings.dtype, given)
    picks = Picks(stack(fold != m for m in held_out), stack(fold == m for m in held_out), keys[:, 1])
    (networks, others), history = descend(
        settings, (fitted.networks, others), likelihood_loss, rows, picks, progress, "scatter"
    )
    embedded = np.zeros((len(scale), len(active)))
    embedded[active] = scale[active, None] * base
    return fitted._replace(networks=networks), make_scatter(others, embedded, 0), history


def _residuals(
    networks: PyTree, rows: Rows, fold: Int[np.ndarray, " n"], held_out: Int[np.ndarray, " members"]
) -> Float[np.ndarray, "used outputs"]:
    """Return the scaled residuals of each fold's rows, by the first member that did not see them."""
    evaluate = eqx.filter_jit(lambda network, x: jax.vmap(network)(x))
    parts = []
    for m, number in enumerate(held_out[: len(set(held_out.tolist()))]):
        network = jax.tree.map(lambda leaf, m=m: leaf[m] if eqx.is_array(leaf) else leaf, networks)
        own = rows.pick(np.flatnonzero(fold == number))
        parts.append(np.asarray(own.y - evaluate(network, own.x), float))
    return np.concatenate(parts)
