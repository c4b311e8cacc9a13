"""The simulator in an emulator's place: the same likelihood, at the simulator's own cost and without its error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import Emulator, natural_outputs
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.settings import LikelihoodConfig, SimulateConfig, Solver
from simfer.stages.simulate.ensemble import build_simulator
from simfer.stages.simulate.simulators.base import Simulator


class Exact(eqx.Module):
    """What a likelihood asks of an emulator, answered by the simulator; gradients go forward through the solver."""

    simulator: Simulator
    solver: Solver = eqx.field(static=True)
    space: Space
    layout: Layout = eqx.field(static=True)
    transform: dict[str, Any] = eqx.field(static=True)
    header: dict[str, Any] = eqx.field(static=True)
    training_z: Float[np.ndarray, "rows size"]  # where chains may start: rows that are simulated already
    training_y: Float[np.ndarray, "rows outputs"]
    residuals: Float[np.ndarray, "0 outputs"]
    domain: Domain  # of the rows that the emulator was trained on

    def __init__(self, settings: SimulateConfig, emulator: Emulator) -> None:
        self.simulator, self.solver = build_simulator(settings.simulate), settings.simulate.solver
        self.space, self.layout, self.transform = Space(settings.parameters), emulator.layout, emulator.transform
        self.header = {"num_members": 1, "floor": emulator.header["floor"]}
        self.training_z, self.training_y = np.asarray(emulator.training_z), np.asarray(emulator.training_y)
        self.residuals, self.domain = np.zeros((0, emulator.layout.size)), emulator.domain

    def members(self, z: Float[Array, " size"]) -> Float[Array, "1 outputs"]:
        """Simulate one whitened point: its flat outputs in the transformed scale, NaN where the solver failed."""
        solution = self.simulator.solve(self.space.values(z), self.solver)
        flat = [
            TRANSFORMS[self.transform[name]].forward(solution.outputs[name].reshape(-1), self.header["floor"])
            for name in self.layout.outputs
        ]
        return jnp.where(solution.status == 0, jnp.concatenate(flat), jnp.nan)[None]

    def at(self, index: Int[np.ndarray, " n"]) -> Callable[[Float[Array, " size"]], Float[Array, "1 n"]]:
        """Return `members` at some places of the flat vector."""
        return lambda z: self.members(z)[:, jnp.asarray(index)]

    def natural(self, y: Float[Array, "... outputs"]) -> dict[str, Float[Array, "..."]]:
        """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
        return natural_outputs(y, self.layout, self.transform)


def load_model(config: LikelihoodConfig, folder: Path) -> Emulator | Exact:
    """Return what `infer.likelihood` names: the emulator in `folder`, or the simulator."""
    emulator = load_emulator(folder, config.architecture, config.candidates)
    if config.infer.likelihood == "emulator":
        return emulator
    assert config.exact is not None
    return Exact(config.exact, emulator)
