"""Stage 3: a training set becomes an emulator, which is judged by rows that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from stages import basis, plots
from stages.architectures.base import ClosedForm
from stages.artifacts import TEST, Dataset, Layout
from stages.checkpoints import forget
from stages.descent import History
from stages.domain import Domain
from stages.emulator import Emulator, member_variance, network_options, predict, unexplained_share
from stages.feed import Rows
from stages.fitting import Fitted, fit, fit_scatter
from stages.losses import Metric, value_and_slopes, whitening
from stages.noise import known_scale
from stages.parameters import Space
from stages.progress import Progress
from stages.saved import assemble, make_header, save_emulator
from stages.scatter import Scatter, cross_validated
from stages.selection import select
from stages.settings import TrainConfig
from stages.stream import Stream
from stages.transforms import TRANSFORMS

_PREDICTED_BYTES = 2**27  # of all members' predictions that are held at a time
_UNUSED = (
    "the rows carry derivatives, and an architecture that is fitted in closed form takes no notice of them: leave "
    "simulate.derivatives out, or take a network that is trained by descent (residual, mlp)"
)
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
    """Scaled rows that are no test rows, the fold of each, what constructors are given, and the scaling."""

    rows: Rows | Stream
    fold: Int[np.ndarray, " n"]
    given: dict[str, Any]
    scaling: Scaling
    metric: Metric | None


def run(config: TrainConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train an ensemble, judge it on rows that it has not seen, and save it; or take the best of those trained."""
    if config.train.chooses:
        return select(config, inputs, folder)
    dataset, settings = Dataset.load(inputs["dataset"][0], config.fraction), config.train
    rows, fold, given, scaling, metric = prepare(config, dataset)
    if isinstance(rows, Stream):
        progress.note(f"  train: the rows take more than train.memory, {settings.memory / 1e9:g} GB: read from disk")
    begun = time.perf_counter()
    fitted = fit(settings, rows, fold, given, progress, folder, metric)
    random, second = None, None
    if dataset.header.get("stochastic"):
        fitted, random, second = fit_scatter(settings, fitted, rows, fold, given, scaling.scale, progress, folder)
    emulator = _assemble(config, dataset, fitted, random, scaling, given["families"], time.perf_counter() - begun)
    save_emulator(emulator, folder)
    if fitted.history:
        _write_history(folder / "history.csv", fitted.history)
    summary = _summary(folder, emulator, fitted, second, dataset, settings.memory)
    forget(folder)
    return summary


def prepare(config: TrainConfig, dataset: Dataset) -> Prepared:
    """Scale the rows that networks may see, and gather what a constructor may ask for."""
    settings, (z, fold) = config.train, dataset.points()
    space, layout = Space.from_json(dataset.header["space"]), Layout.from_json(dataset.header["layout"])
    coordinates, seen = np.asarray(space.inputs(z)), fold != TEST
    weighs = settings.derivative_weight > 0 and dataset.derivatives(0, 1) is not None
    at, targets = _sample(dataset, len(z), weighs, settings.memory)
    scaling = _scaling(dataset, coordinates[seen], targets[seen[at]], bool(settings.robust))
    families = ("normal",) * space.size if scaling.mixes else space.families
    given = {"layout": layout, "families": families, "varies": tuple((scaling.scale > 0).tolist())}

    def read(start: int, stop: int) -> Rows:
        y, slopes = dataset.targets(start, stop), dataset.target_derivatives(start, stop) if weighs else None
        return _rows(scaling, coordinates[start:stop], y, slopes)

    if len(at) == len(z):
        sample = read(0, len(z)).pick(seen)
        metric = _metric(config, layout, dataset, np.asarray(sample.y), scaling)
        return Prepared(sample, fold[seen], given, scaling, metric)
    sample = _rows(scaling, coordinates[at], targets).pick(seen[at])
    metric = _metric(config, layout, dataset, np.asarray(sample.y), scaling)
    return Prepared(Stream(read, fold, dataset.piece, settings.memory), fold, given, scaling, metric)


def _sample(
    dataset: Dataset, num: int, weighs: bool, memory: int
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k predicted"]]:
    """Return the numbers and the targets of all rows, or where these take more memory of some from end to end."""
    size, predicted = len(dataset.header["space"]["order"]), dataset.targets(0, 1).shape[1]
    most = memory // (8 * (size + predicted * (1 + size * weighs)))
    if num <= most:
        return np.arange(num), dataset.targets()
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
    dataset: Dataset, inputs: Float[np.ndarray, "n size"], targets: Float[np.ndarray, "n predicted"], robust: bool
) -> Scaling:
    layout, counts = Layout.from_json(dataset.header["layout"]), basis.counts(dataset.bases())
    location, spread = (np.asarray(dataset.header["scaling"][key]) for key in ("location", "scale"))
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
    config: TrainConfig, layout: Layout, dataset: Dataset, targets: Float[np.ndarray, "n predicted"], scaling: Scaling
) -> Metric | None:
    """Return what errors are measured by, in scaled units; None where these will do."""
    if config.train.loss == "whitened":
        return whitening(targets)
    if config.train.loss == "scaled":
        return None
    slices, found = basis.short_slices(layout.slices, basis.counts(dataset.bases())), np.ones(len(scaling.scale))
    for name, noise in config.noise.items():
        sigma = known_scale(noise, dataset.header["transform"][name])
        assert sigma is not None, "the config was held against the simulator"
        found[slices[name]] = scaling.scale[slices[name]] / sigma
    return found


def _loudness(coefficients: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Return scales for coefficients: geometric means of their own spread and of the leading one's.

    By its own spread every component counts alike and the weak ones, which are hard, overfit; by the leading one's
    they count as they do in the output, and are learned last. In between the error was 0.6 of either (gray_scott).
    """
    spread = coefficients.std(axis=0)
    return np.sqrt(spread * spread.max())


def _assemble(
    config: TrainConfig,
    dataset: Dataset,
    fitted: Fitted,
    random: Scatter | None,
    scaling: Scaling,
    families: Sequence[str],
    seconds: float,
) -> Emulator:
    """Put the emulator together, its error read from the rows that the members did not see, block by block."""
    settings, header, bases = config.train, dataset.header, dataset.bases()
    z, fold = dataset.points()
    networks, closed = fitted.networks, isinstance(fitted.networks, ClosedForm)
    num_used = int((np.isin(fold, fitted.held_out) & (fold != TEST)).sum())
    stored = make_header(
        space=Space.from_json(header["space"]),
        layout=(layout := Layout.from_json(header["layout"])),
        transform=header["transform"],
        floor=header["floor"],
        families=families,
        networks=networks,
        architecture=settings.architecture,
        options=network_options(settings),
        dtype="float64" if closed else settings.dtype,
        num_members=_num_points(networks) if closed else settings.ensemble_size,
        seconds=seconds,
        num_rows=num_used,
        components=basis.counts(bases),
        coordinate_units=dataset.coordinate_units,
    )
    if random is not None:
        stored["num_scattered"] = random.base.shape[1]
    rows, outputs = stored["num_rows"], layout.size
    blank: dict[str, Any] = {"training_z": np.zeros((rows, z.shape[1])), "training_y": np.zeros((rows, outputs))}
    blank |= {name: np.zeros((rows, outputs)) for name in ("residuals", "spread")}
    blank["base_variance"] = np.zeros(outputs)
    first, scales = {name: each[0] for name, each in bases.items()}, dict[str, Any](scaling._asdict())
    scales["domain"] = Domain.of(z[fold != TEST])
    names = ("training_z", "training_y", "residuals", "spread")
    emulator = assemble(stored, networks, first, **scales, **blank)
    kept = [blank[name][:0] for name in names]
    squared, variance = np.zeros(outputs), np.zeros(outputs)
    unseen: list[tuple[np.ndarray, ...]] = []  # for a random simulator's scatter
    for at in _blocks(np.flatnonzero(fold != TEST), emulator, settings.memory):
        y = dataset.outputs(at[0], at[-1] + 1)[at - at[0]]
        members, out = fitted.unseen(emulator, z[at], fold[at])
        used = out.any(axis=(1, 2))
        honest = basis.without_own_fold(y, fold[at], scaling.location, layout.slices, bases)
        residuals = ((honest[:, None] - members) * out).sum(axis=1)[used] / out.sum(axis=1)[used]
        even = np.full(len(residuals), 1.0 / num_used)
        spread = member_variance(members[used])
        squared, variance = squared + even @ residuals**2, variance + even @ spread
        block = (z[at][used], y[used], residuals, spread)
        kept = [np.concatenate(parts)[-rows:] for parts in zip(kept, block, strict=True)]
        if random is not None:
            unseen.append((z[at][used], out[used].argmax(axis=1)[:, 0], residuals, members[used]))
    arrays = dict(zip(names, kept, strict=True))
    arrays["base_variance"] = squared * unexplained_share(squared, variance)
    if random is not None:
        arrays["base_variance"] = np.zeros(outputs)  # it is in the scatter's directions instead
        points, unseen_by, residuals, members = (np.concatenate(parts) for parts in zip(*unseen, strict=True))
        x = ((np.asarray(emulator.space.inputs(points)) - scaling.center) @ scaling.whitening.T).astype(settings.dtype)
        random = cross_validated(random, x, unseen_by, residuals, members, rows)
    return assemble(stored, networks, first, random=random, **scales, **arrays)


def _num_points(model: ClosedForm) -> int:
    return len(eqx.filter_eval_shape(model.sigma_points, jnp.zeros(model.in_size)))


def _blocks(rows: Int[np.ndarray, " n"], emulator: Emulator, memory: int) -> list[Int[np.ndarray, " rows"]]:
    """Cut rows into blocks whose predictions are held at a time."""
    size = min(_PREDICTED_BYTES, memory // 4) // (8 * emulator.header["num_members"] * emulator.layout.size)
    size = max(size // 256, 1) * 256  # `predict` takes as many at a time
    return np.split(rows, range(size, len(rows), size))


def _write_history(file: Path, history: History) -> None:
    members = range(history.train.shape[1])
    names = ["step", *[f"train_{i}" for i in members], *[f"validation_{i}" for i in members]]
    table = np.column_stack([history.steps, history.train, history.validation])
    np.savetxt(file, table, delimiter=",", header=",".join(names), comments="", fmt="%.8g")


def _summary(
    folder: Path, emulator: Emulator, fitted: Fitted, second: History | None, dataset: Dataset, memory: int
) -> dict[str, Any]:
    z, fold = dataset.points()
    rows = _blocks(np.flatnonzero(fold == TEST)[:2000], emulator, memory)[0]
    y, z = dataset.outputs(rows[0], rows[-1] + 1)[rows - rows[0]], z[rows]
    members, spread = predict(emulator, z), np.asarray(dataset.header["scaling"]["scale"])
    mean = members.mean(axis=1)
    variance = np.asarray(jax.vmap(emulator.variance)(jnp.asarray(members)))
    scatter = np.zeros_like(variance)
    if emulator.random is not None:
        factors = eqx.filter_jit(lambda z: jax.lax.map(emulator.scatter_factor, z, batch_size=256))(jnp.asarray(z))
        scatter = np.asarray(((1.0 + emulator.random.excess)[:, None] * factors**2).sum(axis=1))
    sd = np.sqrt(variance + scatter)
    truth, emulated = (_flat(emulator, each) for each in (y, mean))
    pictures = []
    for name, history in (("losses.png", fitted.history), ("losses_scatter.png", second)):
        if history is not None:
            plots.losses(folder / name, history.steps, history.train, history.validation, history.best)
            pictures.append(name)
    pictures.append("held_out.png")
    plots.held_out(folder / "held_out.png", emulator.layout, truth, emulated, _flat_sd(emulator, mean, sd))
    scattered = _flat_sd(emulator, mean, np.sqrt(scatter))
    table, slopes = [], _slope_errors(emulator, dataset, rows)
    for name, at in emulator.layout.slices.items():
        error, scale = emulated[:, at] - truth[:, at], spread[at]
        table.append(
            {
                "output": name,
                "unit": emulator.layout.outputs[name].unit,
                "error_rms": float(np.sqrt(np.mean(error**2))),
                "error_median": float(np.median(np.abs(error))),
                **({"scatter_predicted": float(np.sqrt(np.mean(scattered[:, at] ** 2)))} if second else {}),
                "spread": float(truth[:, at].std(axis=0).mean()),
                # In the transformed scale, where the network learns and the error is about the same everywhere.
                "unexplained_variance": float(np.mean((mean - y)[:, at] ** 2) / max(np.mean(scale**2), 1e-300)),
                **({"slopes_unexplained": slopes[name]} if slopes else {}),
            }
        )
    facts = {"architecture": emulator.header["architecture"]} | _size(fitted)
    if shown := _fields(emulator.layout, truth, emulated):
        plots.fields(folder / "fields.png", shown, len(truth))
        pictures.append("fields.png")
    title = "held-out error" + (", of which the simulator's own scatter is a part" if second else "")
    warnings = [_UNUSED] if slopes and fitted.twins else []
    return {"facts": facts, "tables": {title: table}, "warnings": warnings, "pictures": pictures}


def _slope_errors(emulator: Emulator, dataset: Dataset, rows: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Return which share of the mean square of each output's derivatives at some rows is error; none if not known."""
    rows = rows[: max(_PREDICTED_BYTES // (80 * emulator.space.size * emulator.layout.size), 1)]
    truth = dataset.derivatives(rows[0], rows[-1] + 1)
    if truth is None:
        return {}
    truth, z = truth[rows - rows[0]], jnp.asarray(dataset.points()[0][rows])
    slopes = lambda z: value_and_slopes(lambda z: emulator.members(z).mean(axis=0), z)[1]  # noqa: E731
    by_z = jax.jit(lambda z: jax.lax.map(slopes, z, batch_size=64))(z)
    error = np.asarray(by_z / emulator.space.input_speeds(z)[:, :, None]) - truth
    return {
        name: float(np.sum(error[:, :, at] ** 2) / max(np.sum(truth[:, :, at] ** 2), 1e-300))
        for name, at in emulator.layout.slices.items()
    }


def _size(fitted: Fitted) -> dict[str, Any]:
    weights = jax.tree.leaves(eqx.filter(fitted.networks, eqx.is_inexact_array))
    if fitted.history is None:
        return {"weights": sum(leaf.size for leaf in weights)}
    return {
        "members": len(fitted.held_out),
        "weights": sum(leaf[0].size for leaf in weights),
        "steps": int(fitted.history.steps[-1]),
        "validation_loss": float(np.median(fitted.history.validation.min(axis=0))),
    }


def _fields(layout: Layout, truth: np.ndarray, emulated: np.ndarray) -> list[plots.Field]:
    """Return every output over two dimensions, those with a single entry not counted, at its row of median error."""
    found = []
    for name, output in layout.outputs.items():
        long = [dim for dim in output.dims if len(output.coords[dim]) > 1]
        if len(long) == 2:
            one, other = truth[:, layout.slices[name]], emulated[:, layout.slices[name]]
            row = np.argsort(((other - one) ** 2).sum(axis=1))[len(one) // 2]
            y, x = (np.asarray(output.coords[dim], float) for dim in long)
            both = (values[row].reshape(len(y), len(x)) for values in (one, other))
            found.append(plots.Field(name, output.unit, (long[0], long[1]), y, x, *both))
    return found


def _flat(emulator: Emulator, y: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n outputs"]:
    natural = emulator.natural(jnp.asarray(y))
    return np.concatenate([np.asarray(value).reshape(len(y), -1) for value in natural.values()], axis=1)


def _flat_sd(emulator: Emulator, mean: np.ndarray, sd: np.ndarray) -> Float[np.ndarray, "n outputs"]:
    slopes = [
        TRANSFORMS[emulator.transform[name]].slope(jnp.asarray(mean[:, at]))
        for name, at in emulator.layout.slices.items()
    ]
    return sd * np.abs(np.concatenate([np.asarray(slope) for slope in slopes], axis=1))
