"""Whether the simulator that a config names can be made, and gives what it says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.preflight.architecture import option_mistakes
from simfer.stages.preflight.solver import sde_solver_mistakes, solver_mistakes
from simfer.stages.preflight.units import unit_mistakes
from simfer.stages.preflight.words import resolved, unknown_names
from simfer.stages.settings import Problem
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.ensemble import assemble
from simfer.stages.simulate.simulators.base import (
    FunctionSimulator,
    ODESimulator,
    RandomODESimulator,
    Simulator,
    StochasticSimulator,
)
from simfer.stages.simulate.simulators.experiments import Experiments
from simfer.stages.simulate.simulators.sde import SDESimulator


def build_simulator(config: Problem) -> tuple[Simulator | None, list[Mistake]]:
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


def parts_of(simulator: Simulator) -> list[Simulator]:
    """Return the simulators of experiments, or the one."""
    return list(simulator.parts.values()) if isinstance(simulator, Experiments) else [simulator]


def parameter_mistakes(config: Problem, known: Mapping[str, str]) -> list[Mistake]:
    """List parameters that neither the simulator nor a prior takes, those missing, and those in other units."""
    upper = {name for prior in Space(config.parameters).priors.values() for name in prior.needs}
    given = [name for name in config.parameters if name in known or name not in upper]
    return [*unknown_names("parameters", given, known, needed=True), *unit_mistakes(config, known)]


def solving_mistakes(config: Problem, simulator: Simulator) -> list[Mistake]:
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


def derives_outputs(simulator: Simulator) -> bool:
    """Say whether a simulator describes its outputs by what its methods give: then no solve can give others."""
    kinds = (each for each in (ODESimulator, RandomODESimulator, SDESimulator) if isinstance(simulator, each))
    kind, own = next(kinds, None), type(simulator)
    return kind is not None and own.solve is kind.solve and own.outputs is kind.outputs


def shape_mistakes(config: Problem, simulator: Simulator, layout: Layout) -> list[Mistake]:
    """List the outputs that do not come as `outputs()` says."""
    found = []
    given = {name: np.ones(()) for name in simulator.parameters}
    key = jax.random.key(0) if simulator.stochastic else None
    seen = eqx.filter_eval_shape(lambda p: simulator.solve(p, config.simulate.solver, key).outputs, given)
    for name, output in layout.outputs.items():
        if name not in seen or seen[name].shape != output.shape:
            got = seen[name].shape if name in seen else "nothing"
            what = f"output {name}: got {got} from the simulator, expected {output.shape} as its outputs() says"
            found.append(Mistake("simulate.simulator", what))
    return found


def as_plain_python(simulator: Simulator) -> str:
    """Say how code that JAX cannot trace is written as plain Python."""
    return (
        f"{type(simulator).__name__} inherits from Simfer, so JAX traces it, and what it calls must be JAX too. If it "
        "is meant as plain Python (NumPy, SciPy, a library of your own), write a function that inherits nothing, "
        f"def simulate({', '.join(simulator.parameters)}), which returns its outputs as a dict, and name it in "
        "simulate.simulator: it is then run as it is, in processes of its own"
    )
