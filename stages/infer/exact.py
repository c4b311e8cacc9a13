"""The simulator in an emulator's place: the same likelihood, at the simulator's own cost and without its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import Emulator, natural_outputs
from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.settings import SimulateConfig, Solver, Transform
from simfer.stages.simulate.ensemble import build_simulator
from simfer.stages.simulate.simulators.base import Simulator


class Exact(eqx.Module):
    """A `Predictor` that simulates; gradients go forward through the solver."""

    simulator: Simulator
    solver: Solver = eqx.field(static=True)
    space: Space
    layout: Layout = eqx.field(static=True)
    units: Mapping[str, str] = eqx.field(static=True)
    transform: Mapping[str, Transform] = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    training_z: Float[Array, "rows size"]  # where chains may start: rows that are simulated already
    domain: Domain  # of the rows that the emulator was trained on

    def __init__(self, settings: SimulateConfig, emulator: Emulator) -> None:
        if settings.simulate.kind != "jax":
            what = "the simulator is not JAX, and so has no likelihood that can be differentiated; leave it out"
            raise ConfigError([Mistake("infer.likelihood", what)])
        self.simulator, self.solver = build_simulator(settings.simulate), settings.simulate.solver
        self.layout, self.units, self.transform = emulator.layout, emulator.units, emulator.transform
        self.space = Space(settings.parameters).with_units(self.simulator.parameters)
        self.floor, self.training_z, self.domain = emulator.floor, emulator.training_z, emulator.domain

    @property
    def cross_validation(self) -> None:
        """None: the simulator makes no error."""

    @property
    def random(self) -> None:
        """None: of a random simulator nobody knows the likelihood."""

    @property
    def flow(self) -> None:
        """None, for the same reason."""

    def flow_input(self, z: Float[Array, " size"], noise_z: Float[Array, " noise"]) -> Float[Array, " inputs"]:
        """Return the point: there is no flow."""
        return jnp.concatenate([z, noise_z])

    def members(self, z: Float[Array, " size"]) -> Float[Array, "1 outputs"]:
        """Simulate one whitened point: its flat outputs in the transformed scale, NaN where the solver failed."""
        solution = self.simulator.solve(self.space.values(z), self.solver)
        flat = [
            TRANSFORMS[self.transform[name]].forward(solution.outputs[name].reshape(-1), self.floor)
            for name in self.layout.outputs
        ]
        return jnp.where(solution.status == 0, jnp.concatenate(flat), jnp.nan)[None]

    def at(self, index: Int[np.ndarray, " n"]) -> Callable[[Float[Array, " size"]], Float[Array, "1 n"]]:
        """Return `members` at some places of the flat vector."""
        return lambda z: self.members(z)[:, jnp.asarray(index)]

    def components(self, index: Int[np.ndarray, " n"]) -> None:
        """Return None: the simulator's outputs are no combination of a few columns."""

    def natural(self, y: Float[Array, "... outputs"]) -> dict[str, Float[Array, "..."]]:
        """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
        return natural_outputs(y, self.layout, self.transform)

    def scatter_factor(self, z: Float[Array, " size"]) -> Float[Array, "0 outputs"]:
        """Return no factor: nothing scatters."""
        return jnp.zeros((0, self.layout.size))

    def scatter_factors(self, z: Float[Array, " size"]) -> Float[Array, "1 0 outputs"]:
        """Return no factor of the only member."""
        return jnp.zeros((1, 0, self.layout.size))

    def dropped(self, y: Float[np.ndarray, "rows outputs"]) -> dict[str, Float[np.ndarray, "rows values"]]:
        """Return nothing: there are no principal components."""
        return {}
