"""Gradient descent: every member of an ensemble side by side, each stopped by rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from simfer.stages.devices import local_devices
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import Train
from simfer.stages.train.checkpoints import Checkpoint
from simfer.stages.train.feed import Feed
from simfer.stages.train.losses import Loss
from simfer.stages.train.phases import phases

_RATES = (1.0, 0.3, 0.1)  # of the learning rate, as often as a loss is not finite
_LEARNED = 300  # steps without a better validation loss, after which a loss that runs away ends training and no more


class History(NamedTuple):
    """Losses of every member, and where each was best."""

    steps: Float[np.ndarray, " looks"]
    train: Float[np.ndarray, "looks members"]
    validation: Float[np.ndarray, "looks members"]
    best: Float[np.ndarray, " members"]


def descend_slower(settings: Train, attempt: Callable[[Train], tuple[PyTree, History]]) -> tuple[PyTree, History]:
    """Descend; where the loss is not finite, once more at three tenths of the learning rate, and at a tenth.

    Likelihoods that have a scale to learn run away more easily than squared errors do.
    """
    assert settings.learning_rate is not None  # as `Train.descending` gives it
    for share in _RATES:
        slower = (
            settings if share == 1.0 else settings.model_copy(update={"learning_rate": share * settings.learning_rate})
        )
        try:
            return attempt(slower)
        except StageError as error:
            failure = error
    raise failure


def descend(
    settings: Train,
    networks: PyTree,
    loss: Loss,
    feed: Feed,
    keys: PRNGKeyArray,
    progress: Progress,
    name: str,
    checkpoint: Checkpoint | None = None,
    devices: Sequence[Any] = (),
    averaging: float = 0.0,
) -> tuple[PyTree, History]:
    """Bring a loss down for every member side by side, and keep each one's best, by the same loss made robust.

    What was killed goes on from its checkpoint. Members are shared out among `devices` (all accelerators, if left
    out), between which nothing is sent. With `averaging`, weights are running averages (`phases`).
    """
    devices = devices or local_devices()
    weights, static = eqx.partition(networks, eqx.is_inexact_array)
    num, dtype = len(keys), jax.tree.leaves(weights)[0].dtype
    weights, keys, feed = _shared_out(weights, keys, feed, len(devices))
    trace, saved = Trace(weights, settings.patience), checkpoint.header(len(keys)) if checkpoint else {}
    order = phases(settings, static, loss, feed, keys, devices, averaging)
    with progress.task(name, total=sum(phase.steps for phase in order), unit="steps") as task:
        for number, phase in enumerate(order):
            if number < saved.get("phase", 0):
                task.advance(phase.steps)
                continue
            weights, at = _typed(trace.best if trace.looks else weights, phase.dtype), 0  # on from the best so far
            state = phase.start(weights)
            trace.begin_phase(weights, phase.patience)
            if checkpoint and saved.get("phase") == number:
                weights, state, at = trace.resume(checkpoint, weights, state, saved)
                task.advance(at)
            while at < phase.steps and not trace.is_stale():
                chunk = min(phase.chunk, phase.steps - at)
                weights, state, train, validation = phase.advance(weights, state, at, chunk)
                at += chunk
                trace.look(weights, chunk, train, validation)
                task.advance(chunk, train=float(np.median(train)), validation=float(np.median(validation)))
                if checkpoint:
                    trace.keep(checkpoint, weights, state, {"phase": number, "at": at}, now=False)
            if trace.ran_away:
                progress.note(f"{name}: the loss ran away at step {trace.step}, long after its best, which is kept")
            task.advance(phase.steps - at)
        if checkpoint:
            trace.keep(checkpoint, weights, state, {"phase": len(order) - 1, "at": at}, now=True)
    if not np.isfinite(trace.lowest).all():
        raise StageError(
            f"the loss of the rows that stop a training was never finite: the square of an error there is beyond what "
            f"{settings.dtype} holds. Let the simulator fail where it gives such numbers, or take a dataset.transform "
            '(log, asinh), or train.dtype = "float64"'
        )
    best = _typed(trace.best, str(dtype))
    best = best if len(keys) == num else jax.tree.map(lambda leaf: leaf[:num], best)
    return eqx.combine(best, static), trace.history(num)


def _shared_out(weights: PyTree, keys: PRNGKeyArray, feed: Feed, devices: int) -> tuple[PyTree, PRNGKeyArray, Feed]:
    """Repeat the first members until each device has as many."""
    if len(keys) % devices == 0:
        return weights, keys, feed
    order = np.resize(np.arange(len(keys)), -(-len(keys) // devices) * devices)
    return *jax.jit(partial(jax.tree.map, lambda leaf: leaf[order]))((weights, keys)), feed.members(order)


@partial(jax.jit, static_argnums=1)
def _typed(weights: PyTree, dtype: str) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), weights)


class Trace:
    """Each member's best weights so far, and how long ago any of them got better."""

    def __init__(self, weights: PyTree, patience: int) -> None:
        members = len(jax.tree.leaves(weights)[0])
        self.best, self.patience, self.step, self.since = weights, patience, 0, 0
        self.lowest, self.best_step = np.full(members, np.inf), np.zeros(members)
        self.looks: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.finishing, self.ran_away = False, False

    def begin_phase(self, weights: PyTree, patience: int) -> None:
        """Give every member its patience back; `weights` are the best, in the precision of the phase."""
        # A finish that runs away is no harm: the best weights of the phase before it are kept.
        self.best, self.patience, self.since, self.finishing = weights, patience, 0, bool(self.looks)
        self.ran_away = False

    def is_stale(self) -> bool:
        """Say whether no member got better for as long as patience lasts, or there is nothing to go on from."""
        return self.since >= self.patience or self.ran_away

    def look(self, weights: PyTree, steps: int, train: np.ndarray, validation: np.ndarray) -> None:
        """Keep the weights of members that got better, or raise where a loss is not finite.

        It may be so once all members have learned their rows by heart: a likelihood has no end there, and at every
        learning rate the loss reaches what no number holds. Their best are then long behind, and kept.
        """
        self.step += steps
        if not np.isfinite(train).all() and np.isfinite(self.lowest).all() and self.since >= _LEARNED:
            self.ran_away = True
            return
        if not np.isfinite(train).all() and not (self.finishing and np.isfinite(self.lowest).all()):
            raise StageError(
                f"the training loss was not finite at step {self.step}. Try a smaller train.learning_rate, or a "
                "dataset.transform (log) for outputs that span decades"
            )
        better = validation < self.lowest
        self.since = 0 if better.any() else self.since + steps
        self.lowest = np.where(better, validation, self.lowest)
        self.best_step = np.where(better, self.step, self.best_step)
        self.best = _where(better, weights, self.best)
        self.looks.append((self.step, np.asarray(train, float), np.asarray(validation, float)))

    def history(self, num: int) -> History:
        """Return the losses of every look, of the first `num` members."""
        steps, train, validation = self._losses()
        return History(steps, train[:, :num], validation[:, :num], self.best_step[:num])

    def _losses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        steps, train, validation = (np.asarray(part, float) for part in zip(*self.looks, strict=True))
        return steps, train, validation

    def keep(self, checkpoint: Checkpoint, weights: PyTree, state: PyTree, place: dict[str, int], now: bool) -> None:
        """Write down all that is needed to go on; `place` is the phase and the step in it."""
        header = place | {"looks": len(self.looks), "since": self.since, "members": len(self.lowest)}
        marks = lambda: (self.best, self.lowest, self.best_step, self._losses())  # noqa: E731
        checkpoint.save(header, lambda: (weights, state, *marks()), now)

    def resume(
        self, checkpoint: Checkpoint, weights: PyTree, state: PyTree, saved: Mapping[str, Any]
    ) -> tuple[PyTree, PyTree, int]:
        """Return what was written down, and be what this was then."""
        members = len(self.lowest)
        marks = (np.zeros(members), np.zeros(members))
        losses = (np.zeros(saved["looks"]), *(np.zeros((saved["looks"], members)) for _ in range(2)))
        restored = checkpoint.load((weights, state, self.best, *marks, losses))
        weights, state, self.best, self.lowest, self.best_step, losses = restored
        self.looks = [(int(step), train, validation) for step, train, validation in zip(*losses, strict=True)]
        self.step, self.since, self.finishing = self.looks[-1][0], saved["since"], saved["phase"] > 0
        return weights, state, saved["at"]


@jax.jit
def _where(better: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)
