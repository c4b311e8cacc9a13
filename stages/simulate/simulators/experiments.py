"""Several experiments as one simulator: each made with options of its own, its outputs under its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, Scalar

from simfer.stages.model.outputs import Output, Status
from simfer.stages.settings import Solver
from simfer.stages.simulate.simulators.base import Simulator, described
from simfer.stages.simulate.solve.solution import Solution


class Experiments(Simulator):
    """One simulator for each experiment; parameters are shared but for those that each has of its own."""

    parts: dict[str, Any]
    each: tuple[str, ...] = eqx.field(static=True)

    @property
    def parameters(self) -> dict[str, str]:  # type: ignore[override]
        """Name of each parameter -> its unit; `NAME.EXPERIMENT` for those of one experiment."""
        found: dict[str, str] = {}
        for experiment, part in self.parts.items():
            found |= {self._name(name, experiment): unit for name, unit in part.parameters.items()}
        return found

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of each output and coordinate."""
        return {
            f"{experiment}.{name}": unit
            for experiment, part in self.parts.items()
            for name, unit in getattr(part, "units", {}).items()
        }

    def outputs(self) -> dict[str, Output]:
        """Describe each output, its coordinates those of its own experiment."""
        found = {}
        for experiment, part in self.parts.items():
            for name, output in described(part).items():
                dims = tuple(f"{experiment}.{dim}" for dim in output.dims)
                coords = {f"{experiment}.{dim}": output.coords[dim] for dim in output.dims}
                found[f"{experiment}.{name}"] = Output(dims, coords, output.unit)
        return found

    def solve(self, parameters: dict[str, Scalar], solver: Solver, key: PRNGKeyArray | None = None) -> Solution:
        """Run every experiment; the first that fails gives the status."""
        outputs: dict[str, Any] = {}
        status, steps = jnp.asarray(Status.OK, jnp.int8), jnp.asarray(0)
        for experiment, part in self.parts.items():
            own = {name: parameters[self._name(name, experiment)] for name in part.parameters}
            solution = part.solve(own, solver, None)
            outputs |= {f"{experiment}.{name}": value for name, value in solution.outputs.items()}
            status = jnp.where(status == Status.OK, solution.status.astype(jnp.int8), status)
            steps = steps + solution.num_steps
        return Solution(outputs, status, steps)

    def _name(self, name: str, experiment: str) -> str:
        return f"{name}.{experiment}" if name in self.each else name
