"""What only the simulator can tell of a config: whether its options, parameters, outputs and data fit together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from simfer.stages.artifacts.arrays import DERIVATIVES
from simfer.stages.artifacts.simulations import begun_layout
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.labels import ERROR, INSIDE, POINT, SCATTER
from simfer.stages.emulator.scatter import MOST_OUTPUTS
from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.preflight.architecture import (
    architecture_mistakes,
    layout_mistakes,
    of_each,
    option_mistakes,
    unused_mistakes,
)
from simfer.stages.preflight.code import code_mistakes
from simfer.stages.preflight.data import data_mistakes, derived_mistakes, loss_mistakes
from simfer.stages.preflight.foreign import beside_table, solver_settings, without_simulator
from simfer.stages.preflight.numerical import numerical_mistakes
from simfer.stages.preflight.own_model import own_model_mistakes
from simfer.stages.preflight.priors import prior_mistakes, prior_remarks
from simfer.stages.preflight.scatter import scatter_mistakes
from simfer.stages.preflight.sizes import network_size_mistakes, size_mistakes
from simfer.stages.preflight.solver import additive_mistakes, break_mistakes, sde_solver_mistakes, solver_mistakes
from simfer.stages.preflight.surroundings import remarks, watched
from simfer.stages.preflight.words import resolved, unknown_names
from simfer.stages.progress import Progress, Silent
from simfer.stages.settings import Problem
from simfer.stages.settings.names import ARCHITECTURES, SIMULATORS
from simfer.stages.settings.spelling import unwritable
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.ensemble import assemble
from simfer.stages.simulate.simulators.base import (
    DifferentialSimulator,
    FunctionSimulator,
    ODESimulator,
    RandomODESimulator,
    Simulator,
    StochasticSimulator,
    described,
)
from simfer.stages.simulate.simulators.experiments import Experiments
from simfer.stages.simulate.simulators.sde import SDESimulator
from simfer.stages.train import optimizers

_NOT_FOR_JAX = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError,
                jax.errors.TracerIntegerConversionError)  # fmt: skip
_NAMES_TAKEN = {
    "simulation",
    "row",
    "chain",
    "draw",
    "z",
    "status",
    "num_steps",
    "attempt",
    "fold",
    "parameter",
    "whitened",
    INSIDE,
    POINT,
}


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
    simulator, simulation = _simulator(config)
    if simulator is None:
        return training + simulation
    try:
        return _compiled(config, simulator, training, simulates, progress)
    except _NOT_FOR_JAX as error:
        error.add_note(_as_plain_python(simulator))
        raise


def _compiled(
    config: Problem, simulator: Simulator, training: list[Mistake], simulates: bool, progress: Progress
) -> list[Mistake]:
    """List what is wrong with a problem whose simulator is JAX, which is traced to see what it gives."""
    solving = _solving(config, simulator)
    names = _parameters(config, simulator.parameters)
    found = training + solving + names
    if not names and (wrong := [each for part in _parts(simulator)[:1] for each in code_mistakes(part)]):
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
    found += _random(config, layout) if simulator.stochastic else []
    found += scatter_mistakes(config, simulator.stochastic)
    found += [*_names(config, layout), *_shapes(config, simulator, layout)]
    found += _derivatives(config, simulator) if config.simulate.derivatives and not found else []
    if config.infer.likelihood == "simulator" and not found:  # NUTS goes along its slopes
        found += _slopes(config, simulator, "infer.likelihood")
    found = [*found, *_dataset(config, layout)]
    found += _likelihood(config, layout, simulator.stochastic) if not config.infer.model or not found else []
    found += beside_table(config, layout, progress)
    return found if found or not simulates else numerical_mistakes(config)


def of_outputs(config: Problem, layout: Layout) -> list[Mistake]:
    """List where outputs, which only now are known, do not fit what a config says of them."""
    found = of_each(config, lambda one, where: layout_mistakes(one, where, layout, False))
    return [*found, *_names(config, layout), *_dataset(config, layout), *_likelihood(config, layout)]


def _foreign(config: Problem, progress: Progress, begun: Sequence[Path], is_broken: bool) -> list[Mistake]:
    """List what is wrong with a problem whose simulator is not JAX; it is run only where all else is right."""
    with closing(build_backend(config.simulate, Space(config.parameters))) as backend:
        backend.ready(progress)
        found = [*solver_settings(config), *without_simulator(config)]
        found += _parameters(config, backend.parameters)
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
    found += _random(config, layout) if backend.stochastic else []
    found += scatter_mistakes(config, backend.stochastic)
    found += [*_names(config, layout), *_dataset(config, layout)]
    return [*found, *_likelihood(config, layout, backend.stochastic)]


def _parameters(config: Problem, known: Mapping[str, str]) -> list[Mistake]:
    """List parameters that the simulator does not take, nor another's prior, and those that are missing."""
    upper = {name for prior in Space(config.parameters).priors.values() for name in prior.needs}
    given = [name for name in config.parameters if name in known or name not in upper]
    return unknown_names("parameters", given, known, needed=True)


def _solving(config: Problem, simulator: Simulator) -> list[Mistake]:
    """List what keeps the simulator's equation from being solved, at first or once more."""
    solver, retry = config.simulate.solver, config.simulate.retry
    found = []
    if isinstance(simulator, (ODESimulator, RandomODESimulator)):
        found += solver_mistakes(solver, "simulate.solver")
        found += solver_mistakes(retry, "simulate.retry") if retry else []
    if isinstance(simulator, SDESimulator):
        found += sde_solver_mistakes(solver, simulator, "simulate.solver")
        found += sde_solver_mistakes(retry, simulator, "simulate.retry") if retry else []
    if retry and isinstance(simulator, (FunctionSimulator, StochasticSimulator)):
        what = f"{config.simulate.simulator} is no differential equation: solved again, a row fails again; remove it"
        found.append(Mistake("simulate.retry", what))
    return found


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


def _simulator(config: Problem) -> tuple[Simulator | None, list[Mistake]]:
    """Make the simulator; None, and why, where that cannot be."""
    found: list[Mistake] = []
    make = resolved("simulate.simulator", config.simulate.simulator, SIMULATORS, Simulator, found)
    if make is None:
        return None, found
    for where, table in _options(config).items():
        found += _option_names(config, make, where, table)
    if not isinstance(getattr(make, "parameters", None), Mapping):
        found.append(Mistake("simulate.simulator", 'the class needs parameters = {"name": "unit", ...}'))
    for where, table in _options(config).items() if not found else ():
        found += option_mistakes(make, table, {name: f"{where}.{name}" for name in table})
    if config.experiments and getattr(make, "stochastic", False):
        found.append(Mistake("experiments", "the simulator is random; several experiments take one that is not"))
    if found:
        return None, found
    try:
        return assemble(make, config.simulate), []
    except (ValueError, TypeError) as error:
        return None, [Mistake("simulate.options", str(error))]


def _options(config: Problem) -> dict[str, dict[str, Any]]:
    """Return what the simulator is made with, by its place: once, or for each experiment."""
    tables = config.simulate.experiments
    if not tables:
        return {"simulate.options": config.simulate.options}
    return {f"experiments.{name}.options": config.simulate.options | table for name, table in tables.items()}


def _option_names(config: Problem, make: Any, where: str, table: Mapping[str, Any]) -> list[Mistake]:
    """List options that there are not, and those that are missing."""
    options = inspect.signature(make).parameters
    return unknown_names(where, table, options) + [
        Mistake(where, f"{config.simulate.simulator} needs {name}")
        for name, option in options.items()
        if option.default is inspect.Parameter.empty and name not in table
    ]


def _parts(simulator: Simulator) -> list[Simulator]:
    """Return the simulators of experiments, or the one."""
    return list(simulator.parts.values()) if isinstance(simulator, Experiments) else [simulator]


def _random(config: Problem, layout: Layout) -> list[Mistake]:
    """List what cannot be done with a random simulator."""
    found = []
    make = resolved("train.architecture", config.train.architecture, ARCHITECTURES, ClosedForm, [])
    if make is not None:
        what = (
            f'the simulator is random, and "{config.train.architecture}" learns no scatter; take a network that is '
            "trained by descent (residual, mlp)"
        )
        found.append(Mistake("train.architecture", what))
    if layout.size > MOST_OUTPUTS:
        what = (
            f"the simulator is random and gives {layout.size} values, of which the emulator learns a covariance; "
            f"expected at most {MOST_OUTPUTS}: observe at fewer times, or fewer outputs"
        )
        found.append(Mistake("simulate.options", what))
    if config.infer.likelihood == "simulator":
        what = "the simulator is random, so that nobody knows its likelihood: it cannot stand in the emulator's place"
        found.append(Mistake("infer.likelihood", what))
    if config.check.reweight:
        what = "the simulator is random: nobody knows its likelihood, which the weights would be made of; leave it out"
        found.append(Mistake("check.reweight", what))
    if config.dataset.pca:
        what = "the simulator is random: its scatter is learned as a covariance of the values themselves; leave pca out"
        found.append(Mistake("dataset.pca", what))
    if config.refine.keep is not None:
        what = (
            "the simulator is random: rows chosen by an output that chance had a part in would teach the emulator too "
            "small a scatter; leave keep out"
        )
        found.append(Mistake("refine.keep", what))
    return found


def _names(config: Problem, layout: Layout) -> list[Mistake]:
    """List names that are taken or cannot be written, and coordinates that two outputs have otherwise."""
    axes = [dim for output in layout.outputs.values() for dim in output.dims]
    odd = {name: unwritable(name) for name in (*layout.outputs, *axes)}
    if refused := [Mistake("simulate.simulator", what) for what in odd.values() if what]:
        return refused
    taken = _NAMES_TAKEN | {dim for output in layout.outputs.values() for dim in output.dims}
    names = [*layout.outputs, *config.parameters]
    names += [name + DERIVATIVES for name in layout.outputs if config.simulate.derivatives]
    names += [name + kind for name in layout.outputs for kind in (ERROR, SCATTER)]  # of predictions
    found = [
        Mistake("simulate.simulator", f'"{name}" names two things, or one that simfer uses itself; rename it')
        for name in sorted({name for name in names if names.count(name) > 1 or name in taken})
    ]
    places: dict[str, np.ndarray] = {}
    for name, output in layout.outputs.items():
        for dim in output.dims:
            if not np.array_equal(places.setdefault(dim, output.coords[dim]), output.coords[dim]):
                what = f'output {name}: got coordinates "{dim}" other than those of another output; rename one'
                found.append(Mistake("simulate.simulator", what))
    return found


def _shapes(config: Problem, simulator: Simulator, layout: Layout) -> list[Mistake]:
    """List the outputs that do not come as `outputs()` says."""
    found = []
    given = {name: jnp.asarray(1.0) for name in simulator.parameters}
    key = jax.random.key(0) if simulator.stochastic else None
    seen = eqx.filter_eval_shape(lambda p: simulator.solve(p, config.simulate.solver, key).outputs, given)
    for name, output in layout.outputs.items():
        if name not in seen or seen[name].shape != output.shape:
            got = seen[name].shape if name in seen else "nothing"
            what = f"output {name}: got {got} from the simulator, expected {output.shape} as its outputs() says"
            found.append(Mistake("simulate.simulator", what))
    return found


def _as_plain_python(simulator: Simulator) -> str:
    """Say how code that JAX cannot trace is written as plain Python."""
    return (
        f"{type(simulator).__name__} inherits from Simfer, so JAX traces it, and what it calls must be JAX too. If it "
        "is meant as plain Python (NumPy, SciPy, a library of your own), write a function that inherits nothing, "
        f"def simulate({', '.join(simulator.parameters)}), which returns its outputs as a dict, and name it in "
        "simulate.simulator: it is then run as it is, in processes of its own"
    )


def _derivatives(config: Problem, simulator: Simulator) -> list[Mistake]:
    """List why the outputs of a simulator have no derivatives."""
    given = Space(config.parameters).values(jnp.zeros(Space(config.parameters).size))
    where, event = "simulate.derivatives", getattr(simulator, "event", None)
    if dependent := Space(config.parameters).dependent:
        what = (
            f"the priors of {', '.join(dependent)} depend on others; derivatives by one parameter alone are not learned"
        )
        return [Mistake(where, f"{what} from then: leave it out")]
    if around := Space(config.parameters).periodic:
        what = f"got the periodic {', '.join(around)}; derivatives around a circle are not learned from: leave it out"
        return [Mistake(where, what)]
    if simulator.stochastic:
        what = "the simulator is random, and what is emulated of it, a mean and a covariance, is in no single row"
        return [Mistake(where, f"{what}: leave it out")]
    if isinstance(simulator, DifferentialSimulator) and event is not None:
        state = simulator.begin(given, None)
        if jax.eval_shape(event, jnp.asarray(0.0), state, given).dtype == bool:
            what = "the event is true or false, which says nothing of how it moves; let it return a number that changes"
            return [Mistake(where, f"{what} its sign")]
    return _slopes(config, simulator, where)


def _slopes(config: Problem, simulator: Simulator, where: str) -> list[Mistake]:
    """List why JAX cannot differentiate a simulator, for what the key at `where` asks of it."""
    space = Space(config.parameters)
    try:
        solve = lambda p: simulator.solve(p, config.simulate.solver).outputs  # noqa: E731
        eqx.filter_eval_shape(lambda p: jax.jvp(solve, (p,), (p,)), space.values(jnp.zeros(space.size)))
    except Exception as error:  # whatever the user's code has in it that JAX cannot differentiate
        reason = str(error).partition("\n")[0]
        return [Mistake(where, f"JAX cannot differentiate {config.simulate.simulator} in forward mode: {reason}")]
    return []
