"""What only the simulator can tell of a config: whether its options, parameters, outputs and data fit together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from stages import noise as noises
from stages import observation
from stages.architectures import ARCHITECTURES
from stages.artifacts import Layout
from stages.errors import ConfigError, Problem
from stages.plugins import resolve
from stages.settings import ProblemConfig, Solver
from stages.simulators import SIMULATORS
from stages.simulators.base import FunctionSimulator, ODESimulator, Simulator, StochasticSimulator

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
}


def problems(config: ProblemConfig) -> list[Problem]:
    """List everything that is wrong with a problem; an empty list means that it can be run."""
    found: list[Problem] = []
    found += _architecture(config)
    if not hasattr(optax, config.train.optimizer):
        near = _nearest(config.train.optimizer, [name for name in dir(optax) if name.islower()])
        found.append(Problem("train.optimizer", f'optax has no "{config.train.optimizer}".{near}'))
    simulator = _simulator(config, found)
    if simulator is None:
        return found
    if isinstance(simulator, ODESimulator):
        found += _solver(config.simulate.solver, "simulate.solver")
        found += _solver(config.simulate.retry, "simulate.retry") if config.simulate.retry else []
    elif config.simulate.retry and isinstance(simulator, (FunctionSimulator, StochasticSimulator)):
        what = f"{config.simulate.simulator} is no differential equation: solved again, a row fails again; remove it"
        found.append(Problem("simulate.retry", what))
    found += _names("parameters", config.parameters, simulator.parameters, needed=True)
    layout = Layout(simulator.outputs())
    found += _outputs(config, simulator, layout)
    found += _names("dataset.transform", config.dataset.transform, layout.outputs)
    found += _names("noise", config.noise, layout.outputs)
    return found + _data(config, layout)


def _simulator(config: ProblemConfig, found: list[Problem]) -> Simulator | None:
    make = _resolve("simulate.simulator", config.simulate.simulator, SIMULATORS, Simulator, found)
    if make is None:
        return None
    found_before = len(found)
    options = inspect.signature(make).parameters
    found += _names("simulate.options", config.simulate.options, options)
    for name, option in options.items():
        if option.default is inspect.Parameter.empty and name not in config.simulate.options:
            found.append(Problem("simulate.options", f"{config.simulate.simulator} needs {name}"))
    if not isinstance(getattr(make, "parameters", None), Mapping):
        found.append(Problem("simulate.simulator", 'the class needs parameters = {"name": "unit", ...}'))
    if len(found) > found_before:
        return None
    try:
        return make(**config.simulate.options)
    except (ValueError, TypeError) as error:
        found.append(Problem("simulate.options", str(error)))
        return None


def _architecture(config: ProblemConfig) -> list[Problem]:
    from stages.architectures.base import Architecture

    found: list[Problem] = []
    make = _resolve("train.architecture", config.train.architecture, ARCHITECTURES, Architecture, found)
    if make is None:
        return found
    known = [name for name in inspect.signature(make).parameters if name not in {"in_size", "out_size", "key"}]
    found += _names("train.options", config.train.options, known)
    if not found:
        try:
            eqx.filter_eval_shape(lambda key: make(1, 1, key=key, **config.train.options), jax.random.key(0))
        except (ValueError, TypeError) as error:
            found.append(Problem("train.options", str(error)))
    return found


def _resolve(
    where: str, name: str, table: Mapping[str, str], kind: type, found: list[Problem]
) -> Callable[..., Any] | None:
    try:
        make = resolve(name, table, where)
    except ConfigError as error:
        found += error.problems
        return None
    if not (inspect.isclass(make) and issubclass(make, kind)):
        base = "ODESimulator or FunctionSimulator" if kind is Simulator else kind.__name__
        found.append(Problem(where, f"{name.rpartition('/')[2]} is not a class that inherits from {base}"))
        return None
    if inspect.isabstract(make):
        missing = ", ".join(sorted(getattr(make, "__abstractmethods__", ())))
        found.append(Problem(where, f"{make.__name__} does not define {missing}"))
        return None
    return make


def _solver(solver: Solver, where: str) -> list[Problem]:
    kinds = [
        name
        for name, value in vars(diffrax).items()
        if inspect.isclass(value) and issubclass(value, diffrax.AbstractSolver) and not name.startswith("Abstract")
    ]
    found = []
    if solver.solver not in kinds:
        what = f'got "{solver.solver}", expected a Diffrax solver.{_nearest(solver.solver, kinds)}'
        found.append(Problem(f"{where}.solver", what))
    if not found and not solver.fixed_step:
        made = getattr(diffrax, solver.solver)()
        if not isinstance(made, diffrax.AbstractAdaptiveSolver):
            what = f"{solver.solver} cannot choose its steps: give fixed_step = true and dt0"
            found.append(Problem(f"{where}.solver", what))
    return found


def _names(where: str, given: Iterable[str], known: Iterable[str], needed: bool = False) -> list[Problem]:
    given, known = list(given), list(known)
    found = [
        Problem(f"{where}.{name}", f"unknown; expected one of {', '.join(known) or '(none)'}.{_nearest(name, known)}")
        for name in given
        if name not in known
    ]
    missing = [name for name in known if name not in given] if needed else []
    return found + [
        Problem(f"{where}.{name}", "missing: the simulator takes it; give it a prior or a fixed number")
        for name in missing
    ]


def _outputs(config: ProblemConfig, simulator: Simulator, layout: Layout) -> list[Problem]:
    taken = _NAMES_TAKEN | {dim for output in layout.outputs.values() for dim in output.dims}
    names = [*layout.outputs, *config.parameters]
    found = [
        Problem("simulate.simulator", f'"{name}" names two things, or one that simfer uses itself; rename it')
        for name in sorted({name for name in names if names.count(name) > 1 or name in taken})
    ]
    given = {name: jnp.asarray(1.0) for name in simulator.parameters}
    seen = eqx.filter_eval_shape(lambda p: simulator.solve(p, config.simulate.solver).outputs, given)
    for name, output in layout.outputs.items():
        if name not in seen or seen[name].shape != output.shape:
            got = seen[name].shape if name in seen else "nothing"
            what = f"output {name}: got {got} from the simulator, expected {output.shape} as its outputs() says"
            found.append(Problem("simulate.simulator", what))
    return found


def _data(config: ProblemConfig, layout: Layout) -> list[Problem]:
    try:
        data = observation.read(config.observation.file, layout)
    except ConfigError as error:
        return error.problems
    found = [
        Problem(f"noise.{name}", f"missing: the data hold {name}; say how they scatter around the output")
        for name in data.series
        if name not in config.noise
    ]
    for name, noise in config.noise.items():
        if name not in data.series:
            if name in layout.outputs:
                found.append(Problem(f"noise.{name}", f"the data hold no column {name}"))
            continue
        found += noises.problems(name, noise, data.series[name].values)
        transform = config.dataset.transform.get(name, "none")
        if noise.dist == "LogNormal" and transform != "log":
            what = f'got "{transform}"; LogNormal noise needs "log", or the emulator can give it a negative median'
            found.append(Problem(f"dataset.transform.{name}", what))
        if ":" in noise.dist:
            found += _custom_noise(name, noise, layout)
    return found


def _custom_noise(name: str, noise: Any, layout: Layout) -> list[Problem]:
    where = f"noise.{name}"
    try:
        make = resolve(noise.dist, {}, f"{where}.dist")
    except ConfigError as error:
        return error.problems
    known = list(inspect.signature(make).parameters)[1:]
    return _names(where, noises.arguments(noise), known)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f' Did you mean "{near[0]}"?' if near else ""
