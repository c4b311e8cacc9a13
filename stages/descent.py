"""Gradient descent: every member of an ensemble side by side, each stopped by rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from stages.errors import StageError
from stages.progress import Progress
from stages.settings import Train

Loss = Callable[[PyTree, "Rows"], Float[Array, ""]]
_CHUNK = 100  # optimizer steps in one compiled call, between two looks at the validation rows


class Rows(NamedTuple):
    """Network inputs and scaled outputs, and the derivatives of these by those where they are known."""

    x: Float[Array, "n size"]
    y: Float[Array, "n outputs"]
    slopes: Float[Array, "n size outputs"] | None = None

    def pick(self, at: Any) -> Rows:
        """Return some of the rows."""
        return Rows(*(None if part is None else part[at] for part in self))  # type: ignore[arg-type]


class History(NamedTuple):
    """Losses (mean squared error in units of each output's spread) of every member, and where each was best."""

    steps: Float[np.ndarray, " looks"]
    train: Float[np.ndarray, "looks members"]
    validation: Float[np.ndarray, "looks members"]
    best: Float[np.ndarray, " members"]


def descend(
    settings: Train, networks: PyTree, loss: Loss, rows: Rows, picks: Picks, progress: Progress, name: str
) -> tuple[PyTree, History]:
    """Bring a loss down for every member side by side, and keep each one's best."""
    weights, static = eqx.partition(networks, eqx.is_inexact_array)
    trace = Trace(weights, settings.patience)
    with progress.task(name, total=settings.steps + settings.finish_steps, unit="steps") as task:
        for phase in _phases(settings, static, loss, rows, picks):
            weights = trace.best if trace.looks else weights  # a later phase goes on from the best so far
            state, at = phase.start(weights), 0
            trace.begin_phase()
            while at < phase.steps and not trace.is_stale():
                chunk = min(_CHUNK, phase.steps - at)
                weights, state, train_loss, validation_loss = phase.advance(weights, state, at, chunk)
                at += chunk
                trace.look(weights, chunk, np.asarray(train_loss), np.asarray(validation_loss))
                task.advance(chunk, train=float(np.median(train_loss)), validation=float(np.median(validation_loss)))
            task.advance(phase.steps - at)
    return eqx.combine(trace.best, static), trace.history()


class Picks(NamedTuple):
    """What is each member's own: the rows that it trains on, those that stop it, and its key."""

    train: Int[Array, "members n"]
    validation: Int[Array, "members m"]
    key: PRNGKeyArray


def stack(masks: Iterable[Bool[np.ndarray, " n"]]) -> Int[Array, "members n"]:
    """Turn masks into rows of indices, the shorter ones filled up from their own beginning."""
    picked = [np.flatnonzero(mask) for mask in masks]
    longest = max(map(len, picked))
    return jnp.asarray(np.stack([np.resize(each, longest) for each in picked]))


class _Phase(NamedTuple):
    steps: int
    start: Callable[[PyTree], PyTree]
    advance: Callable[[PyTree, PyTree, int, int], tuple[PyTree, PyTree, Array, Array]]


def _phases(settings: Train, static: PyTree, loss: Loss, rows: Rows, picks: Picks) -> list[_Phase]:
    def loss_at(weights: PyTree, at: Int[Array, " n"]) -> Float[Array, ""]:
        return loss(eqx.combine(weights, static), rows.pick(at))

    def phase(steps: int, optimizer: Any, step: Callable[..., Any]) -> _Phase:
        def advance(weights: PyTree, state: PyTree, own: Picks, at: Array, chunk: int) -> Any:
            def body(carry: tuple[PyTree, PyTree], i: Array) -> Any:
                *carry, value = step(*carry, own.train, jax.random.fold_in(own.key, i))
                return tuple(carry), value

            (weights, state), losses = jax.lax.scan(body, (weights, state), at + jnp.arange(chunk))
            return weights, state, losses.mean(), loss_at(weights, own.validation)

        compiled = jax.jit(jax.vmap(advance, in_axes=(0, 0, 0, None, None)), static_argnums=4)
        return _Phase(steps, jax.vmap(optimizer.init), lambda w, s, at, n: compiled(w, s, picks, jnp.asarray(at), n))

    first_order, newton = _optimizer(settings), optax.lbfgs(memory_size=20)
    size = min(settings.batch_size, picks.train.shape[1])

    def batch_step(weights: PyTree, state: PyTree, train: Array, key: PRNGKeyArray) -> tuple[PyTree, PyTree, Array]:
        at = train[jax.random.randint(key, (size,), 0, len(train))] if size < len(train) else train
        value, slope = jax.value_and_grad(loss_at)(weights, at)
        updates, state = first_order.update(slope, state, weights)
        return optax.apply_updates(weights, updates), state, value

    def newton_step(weights: PyTree, state: PyTree, train: Array, key: PRNGKeyArray) -> tuple[PyTree, PyTree, Array]:
        value, slope = optax.value_and_grad_from_state(lambda w: loss_at(w, train))(weights, state=state)
        updates, state = newton.update(
            slope, state, weights, value=value, grad=slope, value_fn=lambda w: loss_at(w, train)
        )
        return optax.apply_updates(weights, updates), state, value

    phases = [phase(settings.steps, first_order, batch_step)]
    return phases + ([phase(settings.finish_steps, newton, newton_step)] if settings.finish_steps else [])


def _optimizer(settings: Train) -> optax.GradientTransformation:
    rate: Any = {
        "constant": lambda: settings.learning_rate,
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            0.0, settings.learning_rate, max(settings.steps // 50, 1), settings.steps
        ),
        "exponential": lambda: optax.exponential_decay(settings.learning_rate, max(settings.steps // 7, 1), 0.5),
    }[settings.schedule]()
    make = getattr(optax, settings.optimizer, None)
    if make is None:
        raise StageError(f'train.optimizer: optax has no "{settings.optimizer}"; try adam, adamw, nadam or lion')
    return make(rate, **settings.optimizer_options)


class Trace:
    """Each member's best weights so far, and how long ago any of them got better."""

    def __init__(self, weights: PyTree, patience: int) -> None:
        members = len(jax.tree.leaves(weights)[0])
        self.best, self.patience, self.step, self.since = weights, patience, 0, 0
        self.lowest, self.best_step = np.full(members, np.inf), np.zeros(members)
        self.looks: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.finishing = False

    def begin_phase(self) -> None:
        """Give every member its patience back."""
        # A finish that runs away is no harm: the best weights of the phase before it are kept.
        self.since, self.finishing = 0, bool(self.looks)

    def is_stale(self) -> bool:
        """Say whether no member got better for as long as patience lasts."""
        return self.since >= self.patience

    def look(self, weights: PyTree, steps: int, train: np.ndarray, validation: np.ndarray) -> None:
        """Keep the weights of members that got better, or raise where a loss is not finite."""
        self.step += steps
        if not np.isfinite(train).all() and not (self.finishing and np.isfinite(self.lowest).all()):
            raise StageError(
                f"the training loss was not finite at step {self.step}. Try a smaller train.learning_rate, or a "
                "dataset.transform (log) for outputs that span decades"
            )
        better = validation < self.lowest
        self.since = 0 if better.any() else self.since + steps
        self.lowest = np.where(better, validation, self.lowest)
        self.best_step = np.where(better, self.step, self.best_step)
        self.best = _where(jnp.asarray(better), weights, self.best)
        self.looks.append((self.step, train, validation))

    def history(self) -> History:
        """Return the losses of every look."""
        steps, train, validation = (np.asarray(part) for part in zip(*self.looks, strict=True))
        return History(steps, train, validation, self.best_step)


def _where(better: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)
