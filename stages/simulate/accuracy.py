"""The solver's own error: rows solved again, far more exactly, in steps too short to leap over anything.

What an adaptive solver's tolerance promises holds for what its steps have seen. A pulse that lies within one step, or
a fixed step that is too long, changes outputs without a word: all statuses are ok. Only another solve can tell.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from simfer.stages.batches import compiler_options, in_batches
from simfer.stages.devices import platform
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.outputs import Layout, Status
from simfer.stages.model.plugins import resolve
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate, Solver
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.backends.lanes import Lanes, choose_kind
from simfer.stages.simulate.ensemble import build_ensemble
from simfer.stages.simulate.simulators.base import DifferentialSimulator, described
from simfer.stages.simulate.solve.solvers import Limits, solvers

ROWS = 16  # are solved again
_TIGHTER = 0.01  # the tolerances of the second solve, in units of the first one's
_SHARE = 0.125  # of the usual save interval, which no step of the second solve is longer than
_MOST = 4096  # such steps in all, at least: save times may be close together in a small part of the whole
_STEPS = 2**16  # a row that takes more is left out


class Resolved(NamedTuple):
    """Rows as another solve has them: flat outputs, and which of them it could solve."""

    y: Float[np.ndarray, "rows outputs"]
    ok: Bool[np.ndarray, " rows"]


class Points(NamedTuple):
    """At most `ROWS` whitened points, and what the random keys of a stochastic simulator were made of."""

    z: Float[np.ndarray, "rows size"]
    rows: Int[np.ndarray, " rows"]
    stream: str


class Again:
    """A config's rows solved with other limits: one compiled call of `ROWS` rows, whatever the limits are."""

    def __init__(self, settings: Simulate, space: Space) -> None:
        self._settings, solver = settings.solver, reference_solver(settings.solver)
        self._ensemble = build_ensemble(settings, space)
        again = settings.model_copy(update={"solver": solver, "derivatives": False, "retry": None, "batch_size": ROWS})
        kind = choose_kind(self._ensemble.simulator, again)
        self.is_solved = isinstance(kind, Lanes)
        self.layout = Layout(described(self._ensemble.simulator))

        def call(z: Array, real: Array, seeds: Array, limits: Limits) -> tuple[dict[str, Array], Array]:
            solution, _ = kind(space.values(z), real, seeds, limits)
            return solution.outputs, solution.status

        self._call = jax.jit(call, compiler_options=compiler_options("little"))  # for a few solves of a few rows

    @property
    def longest(self) -> float:
        """The longest step of the far more exact solve."""
        simulator = self._ensemble.simulator
        assert isinstance(simulator, DifferentialSimulator)
        start, stop = simulator.span
        usual = float(np.median(np.diff(simulator.times))) if len(simulator.times) > 1 else stop - start
        return max(_SHARE * usual, (stop - start) / _MOST)

    def as_set(self, points: Points) -> Resolved:
        """Solve rows as the config says."""
        if not self._settings.fixed_step:
            return self._within(points, 1.0, self._settings.max_step or np.inf)
        solved = self._ensemble(*points)
        return Resolved(self._flat(solved.outputs), solved.status == Status.OK)

    def exactly(self, points: Points) -> Resolved:
        """Solve rows at tolerances a hundred times tighter, and in short steps."""
        return self._within(points, _TIGHTER, self.longest)

    def in_long_steps(self, points: Points) -> Resolved:
        """Solve rows at tolerances a hundred times tighter, in steps as long as these allow."""
        return self._within(points, _TIGHTER, np.inf)

    def _within(self, points: Points, tighter: float, longest: float) -> Resolved:
        z, rows, stream = points
        given = (tighter * self._settings.rtol, tighter * self._settings.atol, longest)
        limits = Limits(*map(np.asarray, map(float, given)))
        missing = ROWS - len(z)
        padded = np.pad(z, [(0, missing), (0, 0)]), np.arange(ROWS) < len(z)
        seeds = np.asarray(self._ensemble.seeds(np.pad(rows, (0, missing)), stream))
        outputs, status = jax.device_get(self._call(*padded, seeds, limits))
        return Resolved(self._flat(outputs)[: len(z)], (status == Status.OK)[: len(z)])

    def _flat(self, outputs: dict[str, np.ndarray]) -> Float[np.ndarray, "rows outputs"]:
        return np.concatenate([outputs[name].reshape(len(outputs[name]), -1) for name in self.layout.outputs], axis=1)


def reference_solver(solver: Solver) -> Solver:
    """Return a solver that chooses its steps, as near to the config's own as there is."""
    kind = solvers().get(solver.solver)
    name = solver.solver
    if kind is not None and not issubclass(kind, diffrax.AbstractAdaptiveSolver):
        name = "Rodas5P" if issubclass(kind, diffrax.AbstractImplicitSolver) else "Tsit5"
    steps = max(solver.max_steps, _STEPS)
    first = None if solver.fixed_step else solver.dt0
    changes: dict[str, Any] = {"solver": name, "fixed_step": False, "dt0": first, "max_step": None, "max_steps": steps}
    return solver.model_copy(update=changes)


def solve_again(settings: Simulate, space: Space) -> Again | None:
    """Return what solves a config's rows again, the same one for the same config; None where no solver has a part."""
    if settings.kind != "jax":
        return None
    made = resolve(settings.simulator, SIMULATORS)
    again = _built(made, settings.model_dump_json(exclude_unset=True), json.dumps(space.to_json()), platform())
    return again if again.is_solved else None


def in_sigma(
    likelihood: Likelihood,
    y: Float[np.ndarray, "rows outputs"],
    exact: Float[np.ndarray, "rows outputs"],
    noise: Float[np.ndarray, "rows noise"],
    floor: float,
) -> Float[np.ndarray, "rows n"]:
    """Return how far rows lie from their exact solution at the data, in units of the data's sigma there.

    `noise` are whitened parameters of the noise; where it has no variance, nobody can say: NaN.
    """
    truth = likelihood.to_transformed(exact, floor)

    def sigma(row: tuple[Array, Array]) -> Array:
        mean, z = row
        return jnp.sqrt(likelihood.noise_variance(mean, likelihood.noise_space.values(z)))

    try:
        sigmas = in_batches(sigma, (truth, noise))
    except NotImplementedError:
        sigmas = np.full_like(truth, np.nan)
    gap = likelihood.to_transformed(y, floor) - truth
    return np.where(np.isfinite(sigmas) & (sigmas > 0.0), gap / np.where(sigmas > 0.0, sigmas, 1.0), np.nan)


@lru_cache(maxsize=4)
def _built(made: Any, settings: str, space: str, _: str) -> Again:
    return Again(Simulate.model_validate_json(settings), Space.from_json(json.loads(space)))
