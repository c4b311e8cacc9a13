"""Whether a solver is one, and one for this equation."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from simfer.stages.errors import Mistake, UserCodeError, did_you_mean
from simfer.stages.model.space import Space
from simfer.stages.settings import Problem, Solver
from simfer.stages.simulate.simulators.base import DifferentialSimulator
from simfer.stages.simulate.simulators.sde import SDE_SOLVERS, SDESimulator, sde_solver
from simfer.stages.simulate.solve.odes import FlatODE
from simfer.stages.simulate.solve.solvers import solvers


def solver_mistakes(solver: Solver, where: str) -> list[Mistake]:
    """List what is wrong with a solver of ordinary differential equations."""
    known = solvers()
    if solver.solver not in known:
        what = f'got "{solver.solver}", expected one of {", ".join(sorted(known))}.{did_you_mean(solver.solver, known)}'
        return [Mistake(f"{where}.solver", what)]
    if not solver.fixed_step and not issubclass(known[solver.solver], diffrax.AbstractAdaptiveSolver):
        what = f"{solver.solver} cannot choose its steps: give fixed_step = true and dt0"
        return [Mistake(f"{where}.solver", what)]
    return []


def sde_solver_mistakes(solver: Solver, simulator: SDESimulator, where: str) -> list[Mistake]:
    """List what is wrong with a solver of stochastic differential equations."""
    name = sde_solver(solver)
    if name not in SDE_SOLVERS:
        kinds = "; ".join(
            f"{kind}: {', '.join(k for k, v in SDE_SOLVERS.items() if v == kind)}"
            for kind in dict.fromkeys(SDE_SOLVERS.values())
        )
        return [
            Mistake(
                f"{where}.solver", f'got "{name}", which cannot solve a stochastic equation; expected one of {kinds}'
            )
        ]
    if not solver.fixed_step and solver.solver == name and not _is_adaptive(name):
        return [Mistake(f"{where}.solver", f"{name} cannot choose its steps: give fixed_step = true and dt0")]
    if solver.max_step is not None and (solver.fixed_step or not _is_adaptive(name)):
        return [Mistake(f"{where}.max_step", "steps are of one length here, dt0: give that, and leave max_step out")]
    if not _is_adaptive(name) and (steps := simulator.num_steps(solver)) > solver.max_steps:
        what = f"got {solver.max_steps}; steps of dt0 = {solver.dt0} through the whole time are {steps}"
        return [Mistake(f"{where}.max_steps", what)]
    return []


def break_mistakes(config: Problem, simulator: DifferentialSimulator) -> list[Mistake]:
    """List what is wrong with when the equation jumps and what is dosed."""
    has_doses, where = simulator.doses is not None, "simulate.simulator"
    if simulator.jumps is None and not has_doses:
        return []
    if isinstance(simulator, SDESimulator):
        what = "jumps and doses are those of an ODESimulator; here a save time at each jump ends a step there"
        return [Mistake(where, what)]
    if has_doses and simulator.event is not None:
        what = (
            "got doses and an event: a dose may leap over what ends the solve; let the vector field stop in its place"
        )
        return [Mistake(where, what)]
    space = Space(config.parameters)
    values, key = space.values(jnp.zeros(space.size)), jax.random.key(0) if simulator.stochastic else None
    try:
        FlatODE(simulator, values, key).breaks(values, simulator.begin(values, key))
    except UserCodeError as error:
        return [Mistake(where, str(error))]
    times = np.ravel(np.asarray(simulator.doses(values)[0], float)) if simulator.doses is not None else np.zeros(0)
    if (early := times[times < (start := simulator.span[0])]).size:
        what = f"doses: got one at {early.min():g} (every prior at its median), before the solve begins, at {start:g}"
        return [Mistake(where, f"{what}; give the simulator a start as early")]
    return []


def additive_mistakes(config: Problem, simulator: SDESimulator) -> list[Mistake]:
    """List what is wrong where a solver takes noise that does not depend on the state."""
    name = sde_solver(config.simulate.solver)
    space = Space(config.parameters)
    if SDE_SOLVERS[name] != "additive noise" or simulator.is_additive(space.values(jnp.zeros(space.size))):
        return []
    what = f"{name} is for noise that does not depend on the state, and this diffusion does; take Euler or ItoMilstein"
    return [Mistake("simulate.solver.solver", what)]


def _is_adaptive(name: str) -> bool:
    return isinstance(getattr(diffrax, name)(), diffrax.AbstractAdaptiveSolver)
