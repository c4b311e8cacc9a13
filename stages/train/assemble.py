"""From fitted networks to an emulator: its error is read from rows that its members did not see, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import Emulator, member_variance, unexplained_share
from simfer.stages.emulator.header import make_header
from simfer.stages.emulator.networks import network_options
from simfer.stages.emulator.saved import assemble
from simfer.stages.emulator.scatter import Scatter, cross_validated
from simfer.stages.model import pca as basis
from simfer.stages.settings import Train
from simfer.stages.train.fitting import Fitted
from simfer.stages.train.scaling import Scaling

_PREDICTED_BYTES = 2**27  # of all members' predictions that are held at a time


class Unseen(NamedTuple):
    """Rows, and what members that did not see them make of each."""

    z: Float[np.ndarray, "n size"]
    y: Float[np.ndarray, "n outputs"]
    residuals: Float[np.ndarray, "n outputs"]
    spread: Float[np.ndarray, "n outputs"]
    member: Int[np.ndarray, " n"]  # the first that did not see the row
    members: Float[np.ndarray, "n members outputs"]  # what all of them predict; of no row where nobody asks for it


class Collected(NamedTuple):
    """The last of the rows that members did not see, and means over all of them."""

    training_z: Float[np.ndarray, "kept size"]
    training_y: Float[np.ndarray, "kept outputs"]
    residuals: Float[np.ndarray, "kept outputs"]
    spread: Float[np.ndarray, "kept outputs"]
    squared: Float[np.ndarray, " outputs"]  # the mean square of the residuals
    variance: Float[np.ndarray, " outputs"]  # the mean of the spread

    def add(self, rows: Unseen, total: int, keep: int) -> Collected:
        """Return this with some of `total` rows."""
        even = np.full(len(rows.z), 1.0 / total)
        return Collected(
            np.concatenate([self.training_z, rows.z])[-keep:],
            np.concatenate([self.training_y, rows.y])[-keep:],
            np.concatenate([self.residuals, rows.residuals])[-keep:],
            np.concatenate([self.spread, rows.spread])[-keep:],
            self.squared + even @ rows.residuals**2,
            self.variance + even @ rows.spread,
        )


def assemble_emulator(
    settings: Train,
    dataset: TrainingSet,
    fitted: Fitted,
    random: Scatter | None,
    scaling: Scaling,
    families: Sequence[str],
    seconds: float,
) -> Emulator:
    """Put the emulator together; `random` is the scatter of a random simulator, `seconds` what training took."""
    z, fold = dataset.points()
    total = int((np.isin(fold, fitted.unseen_folds) & (fold != TEST)).sum())
    emulator = _without_rows(settings, dataset, fitted, random, scaling, families, seconds, total)
    keep, outputs = emulator.header.num_rows, dataset.layout.size
    empty = np.zeros((0, outputs))
    collected = Collected(z[:0], empty, empty, empty, np.zeros(outputs), np.zeros(outputs))
    for_scatter: list[Unseen] = []
    for rows in _unseen(emulator, dataset, fitted, scaling, settings.memory, random is not None):
        collected = collected.add(rows, total, keep)
        if random is not None:
            for_scatter.append(rows)
    variance = collected.squared * unexplained_share(collected.squared, collected.variance)
    if random is not None:
        variance = np.zeros(outputs)  # it is in the scatter's directions instead
        random = _validated(random, for_scatter, emulator, scaling, keep)
    return replace(
        emulator,
        base_variance=jax.device_put(variance),
        random=random,
        training_z=jax.device_put(collected.training_z),
        training_y=jax.device_put(collected.training_y),
        residuals=jax.device_put(collected.residuals),
        spread=jax.device_put(collected.spread),
    )


def _without_rows(
    settings: Train,
    dataset: TrainingSet,
    fitted: Fitted,
    random: Scatter | None,
    scaling: Scaling,
    families: Sequence[str],
    seconds: float,
    total: int,
) -> Emulator:
    """Return an emulator that predicts, and knows no error yet."""
    networks, closed = fitted.networks, isinstance(fitted.networks, ClosedForm)
    z, fold = dataset.points()
    bases = dataset.bases()
    header = make_header(
        space=dataset.space,
        layout=dataset.layout,
        transform=dataset.transform,
        floor=dataset.floor,
        families=families,
        networks=networks,
        architecture=settings.architecture,
        options=network_options(settings),
        dtype="float64" if closed else settings.dtype,
        num_members=_num_points(networks) if closed else settings.ensemble_size,
        num_rows=total,
        seconds=seconds,
        components=basis.counts(bases),
        coordinate_units=dataset.coordinate_units,
        num_scattered=None if random is None else random.base.shape[1],
    )
    domain = Domain.of(np.concatenate([np.asarray(rows) for rows in dataset.space.beside_circle(z[fold != TEST])]))
    scales = {name: getattr(scaling, name) for name in ("center", "whitening", "location", "scale")}
    return assemble(header, networks, {name: part[0] for name, part in bases.items()}, domain=domain, **scales)


def _num_points(model: ClosedForm) -> int:
    return len(eqx.filter_eval_shape(model.sigma_points, np.zeros(model.in_size)))


def blocks(rows: Int[np.ndarray, " n"], emulator: Emulator, memory: int) -> list[Int[np.ndarray, " rows"]]:
    """Cut rows into blocks whose predictions are held at a time, of sizes that `predict` takes at a time."""
    size = min(_PREDICTED_BYTES, memory // 4) // (8 * emulator.num_members * emulator.layout.size)
    size = size // 256 * 256 or (128 if size >= 128 else 64)
    return np.split(rows, range(size, len(rows), size))


def _unseen(
    emulator: Emulator, dataset: TrainingSet, fitted: Fitted, scaling: Scaling, memory: int, with_members: bool
) -> Iterator[Unseen]:
    """Yield the rows that some member did not see, block by block."""
    (z, fold), bases = dataset.points(), dataset.bases()
    for at in blocks(np.flatnonzero(fold != TEST), emulator, memory):
        y = dataset.outputs(at[0], at[-1] + 1)[at - at[0]]
        members, out = fitted.unseen(emulator, z[at], fold[at])
        honest = basis.without_own_fold(y, fold[at], scaling.location, dataset.layout.slices, bases)
        if not (used := out.any(axis=(1, 2))).all():
            at, y, honest, members, out = at[used], y[used], honest[used], members[used], out[used]
        residuals = ((honest[:, None] - members) * out).sum(axis=1) / out.sum(axis=1)
        variance, first = member_variance(members), out.argmax(axis=1)[:, 0]
        yield Unseen(z[at], y, residuals, variance, first, members if with_members else members[:0].copy())


def _validated(random: Scatter, unseen: Sequence[Unseen], emulator: Emulator, scaling: Scaling, keep: int) -> Scatter:
    """Return the scatter with what rows say of it that members did not see."""
    rows = Unseen(*map(np.concatenate, zip(*unseen, strict=True)))
    inputs = np.asarray(emulator.space.inputs(rows.z)) - scaling.center
    x = (inputs @ scaling.whitening.T).astype(emulator.header.dtype)
    return cross_validated(random, x, rows.member, rows.residuals, rows.members, keep)
