"""Rows as networks see them: inputs and outputs at unit size, errors in the units asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.model import pca as basis
from simfer.stages.model.noise import known_scale
from simfer.stages.settings import TrainConfig
from simfer.stages.train.feed import Rows
from simfer.stages.train.losses import Metric, whitening
from simfer.stages.train.stream import Stream

_CORRELATED = 0.2  # below this the inputs are those of an independent design


class Scaling(NamedTuple):
    """Centre and whitening of the inputs, location of the outputs, scale of what a network predicts.

    After a round of refinement the rows fill a sliver of the whitened prior: the network must see it at unit size.
    """

    center: Float[np.ndarray, " size"]
    whitening: Float[np.ndarray, "size size"]
    location: Float[np.ndarray, " outputs"]
    scale: Float[np.ndarray, " predicted"]
    moved: Float[np.ndarray, " predicted"]  # from the location that the training set has

    @property
    def mixes(self) -> bool:
        """Whether an input is a mixture of several parameters."""
        return bool(np.tril(self.whitening, -1).any())


class Prepared(NamedTuple):
    """Scaled rows that are no test rows, the fold of each, what constructors may ask for, and the scaling."""

    rows: Rows | Stream
    fold: Int[np.ndarray, " n"]
    context: dict[str, Any]
    scaling: Scaling
    metric: Metric | None


def prepare(config: TrainConfig, dataset: TrainingSet) -> Prepared:
    """Scale the rows that networks may see, and gather what a constructor may ask for."""
    settings, (z, fold) = config.train, dataset.points()
    end = int(np.flatnonzero(fold != TEST)[-1]) + 1  # of a share of the rows, those after it are test rows throughout
    z, fold = z[:end], fold[:end]
    space, layout = dataset.space, dataset.layout
    coordinates, training = np.asarray(space.inputs(z)), fold != TEST
    weighs = settings.derivative_weight > 0 and dataset.derivatives(0, 1) is not None
    at, targets = _sample(dataset, len(z), weighs, settings.memory)
    scaling = _scaling(dataset, coordinates[training], targets[training[at]], bool(settings.robust))
    families = ("normal",) * space.size if scaling.mixes else space.families
    context = {"layout": layout, "families": families, "varies": tuple((scaling.scale > 0).tolist())}

    def read(start: int, stop: int) -> Rows:
        y, slopes = dataset.targets(start, stop), dataset.target_derivatives(start, stop) if weighs else None
        return _rows(scaling, coordinates[start:stop], y, slopes)

    if len(at) == len(z):
        sample = read(0, len(z)).pick(training)
        metric = _metric(config, dataset, np.asarray(sample.y), scaling)
        return Prepared(sample, fold[training], context, scaling, metric)
    sample = _rows(scaling, coordinates[at], targets).pick(training[at])
    metric = _metric(config, dataset, np.asarray(sample.y), scaling)
    return Prepared(Stream(read, fold, dataset.piece, settings.memory), fold, context, scaling, metric)


def _sample(
    dataset: TrainingSet, num: int, weighs: bool, memory: int
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k predicted"]]:
    """Return the numbers and the targets of all rows, or where these take more memory of some from end to end."""
    size, predicted = dataset.space.size, dataset.targets(0, 1).shape[1]
    most = memory // (8 * (size + predicted * (1 + size * weighs)))
    if num <= most:
        return np.arange(num), dataset.targets(0, num)
    pieces = max(most // (8 * dataset.piece), 1)
    starts = np.linspace(0, max(num - dataset.piece, 0), pieces).astype(int) // dataset.piece * dataset.piece
    spans = [
        (start, min(start + min(dataset.piece, max(most // 8, 1)), num)) for start in dict.fromkeys(starts.tolist())
    ]
    return np.concatenate([np.arange(*span) for span in spans]), np.concatenate([dataset.targets(*s) for s in spans])


def _rows(
    scaling: Scaling,
    coordinates: Float[np.ndarray, "k size"],
    targets: Float[np.ndarray, "k predicted"],
    slopes: Float[np.ndarray, "k size predicted"] | None = None,
) -> Rows:
    """Scale rows, and derivatives so that they are of what a network predicts by what it sees."""
    x, scale = (coordinates - scaling.center) @ scaling.whitening.T, np.where(scaling.scale > 0, scaling.scale, 1.0)
    scaled = None if slopes is None else np.linalg.inv(scaling.whitening).T @ slopes / scale
    return Rows(x, (targets - scaling.moved) / scale, scaled)


def _scaling(
    dataset: TrainingSet, inputs: Float[np.ndarray, "n size"], targets: Float[np.ndarray, "n predicted"], robust: bool
) -> Scaling:
    layout, counts = dataset.layout, basis.counts(dataset.bases())
    location, spread = dataset.location.copy(), dataset.scale.copy()
    own = basis.short_slices(layout.slices, counts)
    moved = np.zeros(targets.shape[1])
    for name, at in layout.slices.items():
        if robust and name not in counts:
            moved[own[name]], spread[at] = _middle(targets[:, own[name]], spread[at])
            location[at] += moved[own[name]]
    scale = np.concatenate(
        [_loudness(targets[:, own[name]]) if name in counts else spread[at] for name, at in layout.slices.items()]
    )
    covariance = np.atleast_2d(np.cov(inputs.T)) + 1e-12 * np.eye(inputs.shape[1])
    sd = np.sqrt(np.diag(covariance))
    if np.abs(covariance / np.outer(sd, sd) - np.eye(len(sd))).max() < _CORRELATED:
        # Mixed by what correlates by chance, an input that does nothing would seem to do something.
        covariance = np.diag(sd**2)
    return Scaling(inputs.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance)), location, scale, moved)


def _middle(
    values: Float[np.ndarray, "n k"], spread: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return medians, and spreads as half the rows have them: a wild row moves neither (Rousseeuw & Croux 1993)."""
    middle = np.median(values, axis=0)
    robust = 1.4826 * np.median(np.abs(values - middle), axis=0)  # the sd of a Gaussian
    return middle, np.where(robust > 0, np.minimum(robust, spread), spread)


def _metric(
    config: TrainConfig, dataset: TrainingSet, targets: Float[np.ndarray, "n predicted"], scaling: Scaling
) -> Metric | None:
    """Return what errors are measured by, in scaled units; None where these will do."""
    if config.train.loss == "whitened":
        return whitening(targets)
    if config.train.loss == "scaled":
        return None
    slices = basis.short_slices(dataset.layout.slices, basis.counts(dataset.bases()))
    metric = np.ones(len(scaling.scale))
    for name, noise in config.noise.items():
        sigma = known_scale(noise, dataset.transform[name])
        assert sigma is not None, "the config was held against the simulator"
        metric[slices[name]] = scaling.scale[slices[name]] / sigma
    return metric


def _loudness(coefficients: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Return scales for coefficients: geometric means of their own spread and of the leading one's.

    By its own spread every component counts alike and the weak ones, which are hard, overfit; by the leading one's
    they count as they do in the output, and are learned last. In between the error was 0.6 of either (gray_scott).
    """
    spread = coefficients.std(axis=0)
    return np.sqrt(spread * spread.max())
