"""Whether the outputs of a simulator have the derivatives that a config asks for."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from simfer.stages.errors import Mistake
from simfer.stages.model.space import Space
from simfer.stages.settings import Problem
from simfer.stages.simulate.simulators.base import DifferentialSimulator, Simulator


def derivative_mistakes(config: Problem, simulator: Simulator) -> list[Mistake]:
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
    return slope_mistakes(config, simulator, where)


def slope_mistakes(config: Problem, simulator: Simulator, where: str) -> list[Mistake]:
    """List why JAX cannot differentiate a simulator, for what the key at `where` asks of it."""
    space = Space(config.parameters)
    try:
        solve = lambda p: simulator.solve(p, config.simulate.solver).outputs  # noqa: E731
        eqx.filter_eval_shape(lambda p: jax.jvp(solve, (p,), (p,)), space.values(jnp.zeros(space.size)))
    except Exception as error:  # whatever the user's code has in it that JAX cannot differentiate
        reason = str(error).partition("\n")[0]
        return [Mistake(where, f"JAX cannot differentiate {config.simulate.simulator} in forward mode: {reason}")]
    return []
