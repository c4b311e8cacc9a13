"""What only the simulator can tell of a config: whether its options, parameters, outputs and data fit together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import jax

from simfer.stages.artifacts.simulations import begun_layout
from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.preflight.architecture import architecture_mistakes, layout_mistakes, of_each, unused_mistakes
from simfer.stages.preflight.code import code_mistakes
from simfer.stages.preflight.data import data_mistakes, derived_mistakes, loss_mistakes
from simfer.stages.preflight.foreign import beside_table, experiment_mistakes, solver_settings, without_simulator
from simfer.stages.preflight.names import name_mistakes
from simfer.stages.preflight.numerical import numerical_mistakes
from simfer.stages.preflight.own_model import own_model_mistakes
from simfer.stages.preflight.priors import prior_mistakes, prior_remarks
from simfer.stages.preflight.random import random_mistakes
from simfer.stages.preflight.scatter import scatter_mistakes
from simfer.stages.preflight.simulator import (
    as_plain_python,
    build_simulator,
    derives_outputs,
    parameter_mistakes,
    parts_of,
    shape_mistakes,
    solving_mistakes,
)
from simfer.stages.preflight.sizes import network_size_mistakes, size_mistakes
from simfer.stages.preflight.slopes import derivative_mistakes, slope_mistakes
from simfer.stages.preflight.solver import additive_mistakes, break_mistakes
from simfer.stages.preflight.surroundings import remarks, watched
from simfer.stages.preflight.words import unknown_names
from simfer.stages.progress import Progress, Silent
from simfer.stages.settings import Problem
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.simulators.base import DifferentialSimulator, Simulator, described
from simfer.stages.simulate.simulators.sde import SDESimulator
from simfer.stages.train import optimizers

_NOT_FOR_JAX = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError,
                jax.errors.TracerIntegerConversionError)  # fmt: skip


def mistakes(
    config: Problem, *, simulates: bool = False, progress: Progress | None = None, begun: Sequence[Path] = ()
) -> list[Mistake]:
    """List everything that is wrong with a problem; an empty list means that it can be run.

    A few rows of the prior are solved, twice, where it `simulates` and nothing else is wrong. A simulator that is not
    JAX cannot be traced: it is run at the prior's median, and `progress` is told what it gave, as it is of what the
    user's code looks at that is in no fingerprint; or what it gives is read off rows that are `begun` in some folder.
    """
    progress = progress or Silent()
    with watched() as opened:
        found = _mistakes(config, simulates, progress, begun)
    for remark in [*prior_remarks(config), *remarks(config, opened)]:
        progress.note(f"  note: {remark}")
    return found


def _mistakes(config: Problem, simulates: bool, progress: Progress, begun: Sequence[Path]) -> list[Mistake]:
    if priors := prior_mistakes(config):
        return priors  # of which nothing can be drawn to try
    training = [*of_each(config, architecture_mistakes), *unused_mistakes(config), *optimizers.mistakes(config.train)]
    if config.simulate.kind == "ask":  # what its runs give is seen when they are told
        return [*training, *solver_settings(config)]
    if config.simulate.kind != "jax":
        return [*training, *_foreign(config, progress, begun, bool(training))]
    simulator, simulation = build_simulator(config)
    if simulator is None:
        return training + simulation
    try:
        return _compiled(config, simulator, training, simulates, progress)
    except _NOT_FOR_JAX as error:
        error.add_note(as_plain_python(simulator))
        raise


def _compiled(
    config: Problem, simulator: Simulator, training: list[Mistake], simulates: bool, progress: Progress
) -> list[Mistake]:
    """List what is wrong with a problem whose simulator is JAX, which is traced to see what it gives."""
    solving = solving_mistakes(config, simulator)
    names = parameter_mistakes(config, simulator.parameters)
    found = training + solving + names
    if not names and (wrong := [each for part in parts_of(simulator)[:1] for each in code_mistakes(part)]):
        return [*training, *solving, *wrong]
    if isinstance(simulator, DifferentialSimulator) and not found:
        solving = break_mistakes(config, simulator)
        found = solving
    if isinstance(simulator, SDESimulator) and not found:
        solving = additive_mistakes(config, simulator)
        found = solving
    if solving:
        return found  # no simulation can be tried
    layout = Layout(described(simulator))
    if not training:  # or the networks cannot be built for want of something else
        found += of_each(config, lambda one, where: layout_mistakes(one, where, layout, simulator.stochastic))
        found = found or of_each(config, lambda one, where: network_size_mistakes(one, where, layout))
    found += size_mistakes(config, layout)
    found += random_mistakes(config, layout) if simulator.stochastic else []
    found += scatter_mistakes(config, simulator.stochastic)
    found += name_mistakes(config, layout)
    found += [] if simulates and derives_outputs(simulator) else shape_mistakes(config, simulator, layout)
    found += derivative_mistakes(config, simulator) if config.simulate.derivatives and not found else []
    if config.infer.likelihood == "simulator" and not found:  # NUTS goes along its slopes
        found += slope_mistakes(config, simulator, "infer.likelihood")
    found = [*found, *_dataset(config, layout)]
    found += _likelihood(config, layout, simulator.stochastic) if not config.infer.model or not found else []
    found += beside_table(config, simulator, layout, progress)
    return found if found or not simulates else numerical_mistakes(config)


def of_outputs(config: Problem, layout: Layout) -> list[Mistake]:
    """List where outputs, which only now are known, do not fit what a config says of them."""
    found = of_each(config, lambda one, where: layout_mistakes(one, where, layout, False))
    return [*found, *name_mistakes(config, layout), *_dataset(config, layout), *_likelihood(config, layout)]


def _foreign(config: Problem, progress: Progress, begun: Sequence[Path], is_broken: bool) -> list[Mistake]:
    """List what is wrong with a problem whose simulator is not JAX; it is run only where all else is right."""
    with closing(build_backend(config.simulate, Space(config.parameters))) as backend:
        backend.ready(progress)
        found = [*solver_settings(config), *without_simulator(config)]
        found += experiment_mistakes(config, backend.stochastic)
        found += parameter_mistakes(config, backend.parameters)
        if found or is_broken:
            return found
        known = begun_layout(begun)
        if known is not None:
            backend.know(known)
        elif found := backend.mistakes(progress):
            return found
        layout = Layout(backend.outputs())
    found += of_each(config, lambda one, where: layout_mistakes(one, where, layout, backend.stochastic))
    found = found or of_each(config, lambda one, where: network_size_mistakes(one, where, layout))
    found += size_mistakes(config, layout)
    found += random_mistakes(config, layout) if backend.stochastic else []
    found += scatter_mistakes(config, backend.stochastic)
    found += [*name_mistakes(config, layout), *_dataset(config, layout)]
    return [*found, *_likelihood(config, layout, backend.stochastic)]


def _dataset(config: Problem, layout: Layout) -> list[Mistake]:
    """List what is asked of outputs that there are not, or that are smaller."""
    found = unknown_names("dataset.transform", config.dataset.transform, layout.outputs)
    found += unknown_names("dataset.pca", config.dataset.pca, layout.outputs)
    return found + [
        Mistake(f"dataset.pca.{name}", f"got {wanted} components, expected fewer than the output has values: {size}")
        for name, wanted in config.dataset.pca.items()
        if name in layout.outputs and wanted >= (size := layout.outputs[name].size)
    ]


def _likelihood(config: Problem, layout: Layout, stochastic: bool = False) -> list[Mistake]:
    """List where outputs, data and noise do not belong together, or what is wrong with a model of one's own."""
    if config.infer.model:
        return own_model_mistakes(config, layout, stochastic)
    return [
        *unknown_names("noise", config.noise, layout.outputs),
        *loss_mistakes(config),
        *data_mistakes(config, layout),
        *derived_mistakes(config, layout),
    ]
