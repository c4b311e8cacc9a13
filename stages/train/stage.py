"""Stage 3: a training set becomes an emulator, which is judged by rows that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator, save_emulator
from simfer.stages.progress import Progress
from simfer.stages.settings import Train, TrainConfig
from simfer.stages.spans import span
from simfer.stages.summary import Summary
from simfer.stages.train.assemble import assemble_emulator
from simfer.stages.train.candidates import select
from simfer.stages.train.checkpoints import forget
from simfer.stages.train.fitting import fit, fit_scatter
from simfer.stages.train.report import report
from simfer.stages.train.scaling import prepare
from simfer.stages.train.shape import learn_shape
from simfer.stages.train.stream import Stream


def run(
    config: TrainConfig,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
    progress: Progress,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Train an ensemble, judge it on rows that it has not seen, and save it; or take the best of those trained."""
    if config.train.chooses:
        return select(config, inputs, folder, failed)
    dataset, settings = TrainingSet.load(inputs["dataset"][0], config.fraction), config.train
    rows, fold, context, scaling, metric = prepare(config, dataset)
    if isinstance(rows, Stream):
        progress.note(_streamed(settings))
    settings = settings.descending(len(fold), dataset.stochastic)
    begun = time.perf_counter()
    fitted = fit(settings, rows, fold, context, progress, folder, metric)
    random, scatter_history = None, None
    if dataset.stochastic:
        fitted, random, scatter_history = fit_scatter(
            settings, fitted, rows, fold, context, scaling.scale, progress, folder
        )
    seconds = time.perf_counter() - begun
    emulator = assemble_emulator(settings, dataset, fitted, random, scaling, context["families"], seconds)
    shape = None
    if dataset.stochastic and settings.scatter != "gaussian":
        shape = learn_shape(config, dataset, emulator, rows, progress)
        emulator = shape.emulator
    with span("write"):
        save_emulator(emulator, folder)
    summary = report(folder, emulator, fitted, scatter_history, dataset, settings.memory)
    if shape:
        summary["facts"]["scatter"] = shape.words
        summary["warnings"] += shape.warnings
        summary["tables"] |= {"density of the data at held-out rows": shape.table} if shape.table else {}
    forget(folder)
    return summary


def _streamed(settings: Train) -> str:
    without = ", and trained on without finish_steps" if settings.finish_steps else ""
    return f"  train: the rows take more than train.memory, {settings.memory / 1e9:g} GB: read from disk{without}"


def load(folder: Path, config: TrainConfig) -> Emulator:
    """Load the emulator: named parameters in, named outputs out."""
    return load_emulator(folder, config.train.architecture, config.train.candidates)
