"""Stochastic differential equations."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from simfer.stages.settings import Solver
from simfer.stages.simulate.simulators.base import DifferentialSimulator, Solution

SDE_SOLVERS: dict[str, str] = {
    **dict.fromkeys(("Euler", "ItoMilstein"), "Itô"),
    **dict.fromkeys(("SEA", "SRA1", "ShARK"), "additive noise"),
    **dict.fromkeys(("EulerHeun", "Heun", "Midpoint", "Ralston", "StratonovichMilstein"), "Stratonovich"),
    **dict.fromkeys(("GeneralShARK", "SPaRK", "SlowRK"), "Stratonovich"),
}
"""Diffrax's solvers of a stochastic differential equation, each with how it reads the noise."""

_SDE_SOLVER, _SDE_STEPS = "Euler", 1000  # where the config names no solver, and no step


class SDESimulator(DifferentialSimulator):
    """A simulator that is a stochastic differential equation, dy = vector_field dt + diffusion dW, solved by Diffrax.

    The solver says how the noise is read (`SDE_SOLVERS`). The default is Euler-Maruyama's (Ito's integral), in steps
    of `simulate.solver.dt0`, a thousandth of the whole time if left out. Every save time is the end of a step.

    Args:
        times: The save times: a list that increases, or a table `{ start, stop, num }`.
        start: The time of the initial state; the first save time if left out.

    Example:
        >>> import simfer
        >>> class Walk(simfer.SDESimulator):
        ...     parameters = {"drift": "um/s", "noise": "um/s^(1/2)"}
        ...     units = {"x": "um", "time": "s"}
        ...
        ...     def initial_state(self, p, key):
        ...         return 0.0
        ...
        ...     def vector_field(self, t, y, p):
        ...         return p["drift"]
        ...
        ...     def diffusion(self, t, y, p):
        ...         return p["noise"]
        ...
        ...     def observe(self, t, y, p):
        ...         return {"x": y}
        >>> Walk(times=[1.0, 2.0], start=0.0).outputs()["x"].shape
        (2,)
    """

    stochastic: ClassVar[bool] = True

    @abc.abstractmethod
    def initial_state(self, p: dict[str, Scalar], key: PRNGKeyArray) -> PyTree:
        """Say where it starts.

        Args:
            p: The value of each parameter by name: float64 numbers, in their own units.
            key: A JAX random key, to draw from or not.

        Returns:
            The state at `start`: an array, or a dict or tuple of arrays.
        """

    @abc.abstractmethod
    def diffusion(self, t: Scalar, y: PyTree, p: dict[str, Scalar]) -> PyTree:
        """Say how strong the noise is.

        Args:
            t: The time, in the unit of `times`.
            y: The state there.
            p: The value of each parameter by name.

        Returns:
            The noise's amplitude, in the structure of y, its unit that of y over the root of time's: each component
            has a noise of its own. Or each leaf has a last axis more: it runs over noises that all components share.
        """

    def begin(self, p: dict[str, Scalar], key: PRNGKeyArray | None) -> PyTree:
        """Return the state at `start`."""
        assert key is not None
        return self.initial_state(p, key)

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Solve the equation along one path of the noise, which the key alone decides."""
        assert key is not None
        start_key, noise_key = jax.random.split(key)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.begin(parameters, start_key))
        flat, unravel = ravel_pytree(state)
        method, controller, shortest = self._stepping(solver)
        amplitude = self._amplitude(unravel)
        noise = jax.eval_shape(lambda y, p: amplitude(0.0, y, p), flat, parameters).in_structure()
        area: Any = diffrax.SpaceTimeLevyArea if hasattr(method, "minimal_levy_area") else diffrax.BrownianIncrement
        path: Any
        if shortest is None:  # steps that are known beforehand ask for each increment just once, and need no tree
            path = diffrax.UnsafeBrownianPath(noise, noise_key, levy_area=area)
        else:
            path = diffrax.VirtualBrownianTree(*self.span, 0.5 * shortest, noise, noise_key, levy_area=area)
        drift = diffrax.ODETerm(lambda t, y, p: ravel_pytree(self.vector_field(jnp.asarray(t), unravel(y), p))[0])
        terms: Any = diffrax.MultiTerm(drift, diffrax.ControlTerm(amplitude, path))
        observe = lambda t, y, p: self.observe(t, unravel(y), p)  # noqa: E731
        return self._integrate(parameters, flat, observe, terms, method, None, controller, solver.max_steps)

    def _stepping(self, solver: Solver) -> tuple[Any, Any, float | None]:
        """Return the solver, what chooses its steps, and the shortest that it may choose (None: they are fixed).

        Every save time ends a step: between its ends a step knows nothing of the noise's path.
        """
        method: Any = getattr(diffrax, sde_solver(solver))()
        start, stop = self.span
        if isinstance(method, diffrax.AbstractAdaptiveSolver) and not solver.fixed_step:
            shortest = (stop - start) * 2**-20
            longest = None if solver.max_step is None else max(solver.max_step, shortest)
            steps = diffrax.PIDController(solver.rtol, solver.atol, dtmin=shortest, dtmax=longest)
            # Kept, so that no step is chosen by its own noise (Foster & Jelincic 2024).
            return method, diffrax.ClipStepSizeController(steps, self.times, store_rejected_steps=100), shortest
        return method, diffrax.StepTo(ts=jnp.asarray(self._step_ends(solver))), None

    def _step_ends(self, solver: Solver) -> Float[np.ndarray, " steps+1"]:
        start, stop = self.span
        length = solver.dt0 or (stop - start) / _SDE_STEPS
        knots = np.unique([start, *self.times, stop])
        counts = np.maximum(np.ceil(np.diff(knots) / length - 1e-9), 1).astype(int)
        parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(knots, knots[1:], counts, strict=False)]
        return np.append(np.concatenate(parts), stop)

    def num_steps(self, solver: Solver) -> int:
        """Return the number of steps, where they are fixed."""
        return len(self._step_ends(solver)) - 1

    def is_additive(self, p: dict[str, Scalar]) -> bool:
        """Say whether the diffusion leaves the state aside, judged near the initial one."""
        state = self.begin(p, jax.random.key(0))
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state))
        amplitude = lambda y: ravel_pytree(self.diffusion(jnp.asarray(self.span[0]), unravel(y), p))[0]  # noqa: E731
        slope = jax.jacfwd(amplitude)(flat + 0.1 * (1.0 + jnp.abs(flat)))
        return not bool((slope != 0.0).any())

    def _amplitude(self, unravel: Callable[[Array], PyTree]) -> Callable[[Any, Array, Any], Any]:
        """Return the diffusion as a linear operator from the noises to the flat state's components."""

        def amplitude(t: Scalar, y: Float[Array, " size"], p: dict[str, Scalar]) -> Any:
            state = unravel(y)
            given = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.diffusion(t, state, p))
            shapes, wanted = jax.tree.map(jnp.shape, given), jax.tree.map(jnp.shape, state)
            if shapes == wanted:
                return lx.DiagonalLinearOperator(ravel_pytree(given)[0])
            leaves, over = jax.tree.leaves(given), jax.tree.leaves(state)
            shared = {leaf.shape[-1] if leaf.ndim else None for leaf in leaves}
            if len(shared) != 1 or [leaf.shape[:-1] for leaf in leaves] != [leaf.shape for leaf in over]:
                raise ValueError(f"diffusion: got shapes {shapes}, expected {wanted}, or those with a last axis more")
            return lx.MatrixLinearOperator(jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]))

        return amplitude


def sde_solver(solver: Solver) -> str:
    """Return the solver that a config names for an SDE; the default is not that of an ODE."""
    return solver.solver if "solver" in solver.model_fields_set else _SDE_SOLVER
