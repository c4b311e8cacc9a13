"""Stage 3: a training set becomes an emulator, which is judged by rows that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from simfer.stages import plots
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import Emulator, member_variance, predict, unexplained_share
from simfer.stages.emulator.networks import network_options
from simfer.stages.emulator.saved import assemble, load_emulator, make_header, save_emulator
from simfer.stages.emulator.scatter import Scatter, cross_validated
from simfer.stages.model import pca as basis
from simfer.stages.model.outputs import Layout
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig
from simfer.stages.summary import Summary
from simfer.stages.train.candidates import select
from simfer.stages.train.checkpoints import forget
from simfer.stages.train.descent import History
from simfer.stages.train.fitting import Fitted, fit, fit_scatter
from simfer.stages.train.losses import value_and_slopes
from simfer.stages.train.scaling import Scaling, prepare
from simfer.stages.train.stream import Stream

_PREDICTED_BYTES = 2**27  # of all members' predictions that are held at a time
_UNUSED = (
    "the rows carry derivatives, and an architecture that is fitted in closed form takes no notice of them: leave "
    "simulate.derivatives out, or take a network that is trained by descent (residual, mlp)"
)


def run(config: TrainConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Train an ensemble, judge it on rows that it has not seen, and save it; or take the best of those trained."""
    if config.train.chooses:
        return select(config, inputs, folder)
    dataset, settings = TrainingSet.load(inputs["dataset"][0], config.fraction), config.train
    rows, fold, given, scaling, metric = prepare(config, dataset)
    if isinstance(rows, Stream):
        without = ", and trained on without finish_steps" if settings.finish_steps else ""
        gigabytes = f"{settings.memory / 1e9:g} GB"
        progress.note(f"  train: the rows take more than train.memory, {gigabytes}: read from disk{without}")
    begun = time.perf_counter()
    fitted = fit(settings, rows, fold, given, progress, folder, metric)
    random, second = None, None
    if dataset.stochastic:
        fitted, random, second = fit_scatter(settings, fitted, rows, fold, given, scaling.scale, progress, folder)
    emulator = _assemble(config, dataset, fitted, random, scaling, given["families"], time.perf_counter() - begun)
    save_emulator(emulator, folder)
    if fitted.history:
        _write_history(folder / "history.csv", fitted.history)
    summary = _summary(folder, emulator, fitted, second, dataset, settings.memory)
    forget(folder)
    return summary


def load(folder: Path, config: TrainConfig) -> Emulator:
    """Load the emulator: named parameters in, named outputs out."""
    return load_emulator(folder, config.train.architecture, config.train.candidates)


def _assemble(
    config: TrainConfig,
    dataset: TrainingSet,
    fitted: Fitted,
    random: Scatter | None,
    scaling: Scaling,
    families: Sequence[str],
    seconds: float,
) -> Emulator:
    """Put the emulator together, its error read from the rows that the members did not see, block by block."""
    settings, layout, bases = config.train, dataset.layout, dataset.bases()
    z, fold = dataset.points()
    networks, closed = fitted.networks, isinstance(fitted.networks, ClosedForm)
    num_used = int((np.isin(fold, fitted.held_out) & (fold != TEST)).sum())
    stored = make_header(
        space=dataset.space,
        layout=layout,
        transform=dataset.transform,
        floor=dataset.floor,
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
    folder: Path, emulator: Emulator, fitted: Fitted, second: History | None, dataset: TrainingSet, memory: int
) -> Summary:
    z, fold = dataset.points()
    rows = _blocks(np.flatnonzero(fold == TEST)[:2000], emulator, memory)[0]
    y, z = dataset.outputs(rows[0], rows[-1] + 1)[rows - rows[0]], z[rows]
    members, spread = predict(emulator, z), dataset.scale
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


def _slope_errors(emulator: Emulator, dataset: TrainingSet, rows: Int[np.ndarray, " n"]) -> dict[str, float]:
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
