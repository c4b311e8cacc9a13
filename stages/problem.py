"""What only the simulator can tell of a config: whether its options, parameters, outputs and data fit together."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from pydantic import TypeAdapter, ValidationError

from stages import noise as noises
from stages import observation, optimizers
from stages.architectures import ARCHITECTURES
from stages.architectures.base import ClosedForm
from stages.artifacts import DERIVATIVES, Layout
from stages.emulator import build_networks, network_options
from stages.errors import ConfigError, Problem
from stages.parameters import Space
from stages.plugins import resolve
from stages.scatter import MOST_OUTPUTS, num_entries
from stages.settings import ProblemConfig, Solver, Train
from stages.simulators import SIMULATORS
from stages.simulators.base import (
    DifferentialSimulator,
    FunctionSimulator,
    ODESimulator,
    Output,
    RandomODESimulator,
    Simulator,
    StochasticSimulator,
)
from stages.simulators.sde import SDE_SOLVERS, SDESimulator, sde_solver
from stages.solvers import solvers

_EXPECTED = {  # instead of Pydantic's words, which speak of "integers"
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": 'text in quotes, such as "name"',
    "finite_number": "a finite number",
}
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
    found += _of_each(config, _architecture)
    found += optimizers.problems(config.train)
    simulator = _simulator(config, found)
    if simulator is None:
        return found
    retry = config.simulate.retry
    if isinstance(simulator, (ODESimulator, RandomODESimulator)):
        found += _solver(config.simulate.solver, "simulate.solver")
        found += _solver(retry, "simulate.retry") if retry else []
    if isinstance(simulator, SDESimulator):
        found += _sde_solver(config.simulate.solver, simulator, "simulate.solver")
        found += _sde_solver(retry, simulator, "simulate.retry") if retry else []
    if retry and isinstance(simulator, (FunctionSimulator, StochasticSimulator)):
        what = f"{config.simulate.simulator} is no differential equation: solved again, a row fails again; remove it"
        found.append(Problem("simulate.retry", what))
    found += _names("parameters", config.parameters, simulator.parameters, needed=True)
    if isinstance(simulator, SDESimulator) and not found:
        found += _additive(config, simulator)
    if any(problem.where.startswith(("simulate.solver", "simulate.retry")) for problem in found):
        return found  # no simulation can be tried
    layout = Layout(simulator.outputs())
    if not any(problem.where.startswith("train.") for problem in found):
        found += _of_each(config, lambda one: _layout(one, layout, simulator.stochastic))
    found += _random(config, layout) if simulator.stochastic else []
    found += _outputs(config, simulator, layout)
    found += _derivatives(config, simulator) if config.simulate.derivatives and not found else []
    found += _names("dataset.transform", config.dataset.transform, layout.outputs)
    found += _names("dataset.pca", config.dataset.pca, layout.outputs)
    found += [
        Problem(f"dataset.pca.{name}", f"got {wanted} components, expected fewer than the output has values: {size}")
        for name, wanted in config.dataset.pca.items()
        if name in layout.outputs and wanted >= (size := layout.outputs[name].size)
    ]
    found += _names("noise", config.noise, layout.outputs)
    found += _loss(config)
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


def _of_each(config: ProblemConfig, check: Callable[[ProblemConfig], list[Problem]]) -> list[Problem]:
    """List what is wrong with each architecture that may be trained."""
    found: list[Problem] = []
    for name in dict.fromkeys([*config.train.tried, *config.compare.architectures]):
        one = config.model_copy(update={"train": config.train.alone(name)})
        place = "train.candidates" if name in config.train.candidates else "compare.architectures"
        where = "train.architecture" if name == config.train.architecture else place
        found += [Problem(p.where.replace("train.architecture", where), p.what) for p in check(one)]
    return list(dict.fromkeys(found))  # a wrong activation is one mistake, whoever has it


def _architecture(config: ProblemConfig) -> list[Problem]:
    from stages.architectures.base import GIVEN, Architecture

    found: list[Problem] = []
    make = _resolve("train.architecture", config.train.architecture, ARCHITECTURES, Architecture, found)
    if make is None:
        return found
    known = [name for name in inspect.signature(make).parameters if name not in GIVEN]
    found += _names("train.options", config.train.options, known)
    return found or _options(config.train, make) or _trial(config.train, Layout({"y": Output()}), 1, "train.options")


def _options(train: Train, make: Callable[..., Any]) -> list[Problem]:
    """List the options whose values are not what the constructor's annotations say."""
    found, hints = [], _hints(make)
    for name, value in network_options(train).items():
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            expected = _EXPECTED.get(first["type"], first["msg"].removeprefix("Input should be "))
            near = _nearest(str(value), get_args(hints[name])) if first["type"] == "literal_error" else ""
            where = f"train.options.{name}" if name in train.options else f"train.{name}"
            found.append(Problem(where, f"got {json.dumps(value, default=str)}, expected {expected}.{near}"))
    return found


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """Return what a constructor's annotations say of plain values; one's own class need not have any."""
    try:
        hints = get_type_hints(make.__init__, include_extras=True)
    except (NameError, TypeError):
        return {}
    plain = (bool, int, float, str)
    return {
        name: hint
        for name, hint in hints.items()
        if hint in plain or get_origin(hint) is Literal or get_args(hint)[:1] in {(each,) for each in plain}
    }


def _trial(train: Train, layout: Layout, size: int, where: str) -> list[Problem]:
    """Build the networks without computing anything, for `size` values to learn."""
    given = {"layout": layout, "families": ("normal",), "varies": (True,) * size}
    options, keys = network_options(train), jax.random.split(jax.random.key(0), 1)
    try:
        eqx.filter_eval_shape(
            lambda keys: build_networks(train.architecture, options, (1, size), keys, train.dtype, given), keys
        )
    except (ValueError, TypeError) as error:
        return [Problem(where, str(error))]
    return []


def _layout(config: ProblemConfig, layout: Layout, stochastic: bool) -> list[Problem]:
    """List what keeps an architecture that asks for the outputs' layout from learning them."""
    if "layout" not in inspect.signature(resolve(config.train.architecture, ARCHITECTURES)).parameters:
        return []
    learned = layout.size - len(config.dataset.pca)  # or fewer: of an output with components fewer than its values
    sizes = [learned, *([num_entries(layout.size)] if stochastic else [])]
    tried = (_trial(config.train, layout, size, "train.architecture") for size in sizes)
    return next((found for found in tried if found), [])


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
    known = solvers()
    if solver.solver not in known:
        what = f'got "{solver.solver}", expected one of {", ".join(sorted(known))}.{_nearest(solver.solver, known)}'
        return [Problem(f"{where}.solver", what)]
    if not solver.fixed_step and not issubclass(known[solver.solver], diffrax.AbstractAdaptiveSolver):
        what = f"{solver.solver} cannot choose its steps: give fixed_step = true and dt0"
        return [Problem(f"{where}.solver", what)]
    return []


def _sde_solver(solver: Solver, simulator: SDESimulator, where: str) -> list[Problem]:
    name = sde_solver(solver)
    if name not in SDE_SOLVERS:
        kinds = "; ".join(
            f"{kind}: {', '.join(k for k, v in SDE_SOLVERS.items() if v == kind)}"
            for kind in dict.fromkeys(SDE_SOLVERS.values())
        )
        return [
            Problem(
                f"{where}.solver", f'got "{name}", which cannot solve a stochastic equation; expected one of {kinds}'
            )
        ]
    if not solver.fixed_step and solver.solver == name and not _is_adaptive(name):
        return [Problem(f"{where}.solver", f"{name} cannot choose its steps: give fixed_step = true and dt0")]
    if not _is_adaptive(name) and (steps := simulator.num_steps(solver)) > solver.max_steps:
        what = f"got {solver.max_steps}; steps of dt0 = {solver.dt0} through the whole time are {steps}"
        return [Problem(f"{where}.max_steps", what)]
    return []


def _additive(config: ProblemConfig, simulator: SDESimulator) -> list[Problem]:
    name = sde_solver(config.simulate.solver)
    space = Space(config.parameters)
    if SDE_SOLVERS[name] != "additive noise" or simulator.is_additive(space.values(jnp.zeros(space.size))):
        return []
    what = f"{name} is for noise that does not depend on the state, and this diffusion does; take Euler or ItoMilstein"
    return [Problem("simulate.solver.solver", what)]


def _is_adaptive(name: str) -> bool:
    return isinstance(getattr(diffrax, name)(), diffrax.AbstractAdaptiveSolver)


def _random(config: ProblemConfig, layout: Layout) -> list[Problem]:
    """List what cannot be done with a random simulator."""
    found = []
    make = _resolve("train.architecture", config.train.architecture, ARCHITECTURES, ClosedForm, [])
    if make is not None:
        what = (
            f'the simulator is random, and "{config.train.architecture}" learns no scatter; take a network that is '
            "trained by descent (residual, mlp)"
        )
        found.append(Problem("train.architecture", what))
    if layout.size > MOST_OUTPUTS:
        what = (
            f"the simulator is random and gives {layout.size} values, of which the emulator learns a covariance; "
            f"expected at most {MOST_OUTPUTS}: observe at fewer times, or fewer outputs"
        )
        found.append(Problem("simulate.options", what))
    if config.infer.likelihood == "simulator":
        what = "the simulator is random, so that nobody knows its likelihood: it cannot stand in the emulator's place"
        found.append(Problem("infer.likelihood", what))
    if config.check.reweight:
        what = "the simulator is random: nobody knows its likelihood, which the weights would be made of; leave it out"
        found.append(Problem("check.reweight", what))
    if config.dataset.pca:
        what = "the simulator is random: its scatter is learned as a covariance of the values themselves; leave pca out"
        found.append(Problem("dataset.pca", what))
    if config.refine.keep is not None:
        what = (
            "the simulator is random: rows chosen by an output that chance had a part in would teach the emulator too "
            "small a scatter; leave keep out"
        )
        found.append(Problem("refine.keep", what))
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
    names += [name + DERIVATIVES for name in layout.outputs if config.simulate.derivatives]
    found = [
        Problem("simulate.simulator", f'"{name}" names two things, or one that simfer uses itself; rename it')
        for name in sorted({name for name in names if names.count(name) > 1 or name in taken})
    ]
    given = {name: jnp.asarray(1.0) for name in simulator.parameters}
    key = jax.random.key(0) if simulator.stochastic else None
    seen = eqx.filter_eval_shape(lambda p: simulator.solve(p, config.simulate.solver, key).outputs, given)
    for name, output in layout.outputs.items():
        if name not in seen or seen[name].shape != output.shape:
            got = seen[name].shape if name in seen else "nothing"
            what = f"output {name}: got {got} from the simulator, expected {output.shape} as its outputs() says"
            found.append(Problem("simulate.simulator", what))
    return found


def _derivatives(config: ProblemConfig, simulator: Simulator) -> list[Problem]:
    """List why the outputs of a simulator have no derivatives."""
    given = Space(config.parameters).values(jnp.zeros(Space(config.parameters).size))
    where, event = "simulate.derivatives", getattr(simulator, "event", None)
    if simulator.stochastic:
        what = "the simulator is random, and what is emulated of it, a mean and a covariance, is in no single row"
        return [Problem(where, f"{what}: leave it out")]
    if isinstance(simulator, DifferentialSimulator) and event is not None:
        state = simulator.begin(given, None)
        if jax.eval_shape(event, jnp.asarray(0.0), state, given).dtype == bool:
            what = "the event is true or false, which says nothing of how it moves; let it return a number that changes"
            return [Problem(where, f"{what} its sign")]
    try:
        solve = lambda p: simulator.solve(p, config.simulate.solver).outputs  # noqa: E731
        eqx.filter_eval_shape(lambda p: jax.jvp(solve, (p,), (p,)), given)
    except Exception as error:  # whatever the user's code has in it that JAX cannot differentiate
        reason = str(error).partition("\n")[0]
        return [Problem(where, f"JAX cannot differentiate {config.simulate.simulator} in forward mode: {reason}")]
    return []


def _loss(config: ProblemConfig) -> list[Problem]:
    """List the outputs in units of whose noise no error can be had beforehand."""
    if config.train.loss != "chi_squared":
        return []
    transforms = {name: config.dataset.transform.get(name, "none") for name in config.noise}
    what = 'needs noise that is Gaussian where the network learns it, its scale a number; take "scaled" or "whitened"'
    return [
        Problem("train.loss", f'got "chi_squared", which {what} (noise.{name}, dataset.transform.{name})')
        for name, noise in config.noise.items()
        if noises.known_scale(noise, transforms[name]) is None
    ]


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
