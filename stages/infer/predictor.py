"""What a likelihood asks of whatever predicts the outputs: the emulator, or the simulator in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import CrossValidation
from simfer.stages.emulator.flow import Flow
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.emulator.scatter import Scatter
from simfer.stages.infer.exact import Exact
from simfer.stages.model.outputs import Layout
from simfer.stages.model.projection import Components
from simfer.stages.model.space import Space
from simfer.stages.settings import LikelihoodConfig


class Predictor(Protocol):
    """Whitened points in, flat outputs in the transformed scale out, and what is known of their error."""

    @property
    def space(self) -> Space:
        """The simulator's parameters."""

    @property
    def layout(self) -> Layout:
        """How named outputs lie in the flat vector."""

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of each parameter, output and coordinate, "" where there is none."""

    @property
    def transform(self) -> Mapping[str, Any]:
        """Each output's transform by name."""

    @property
    def floor(self) -> float:
        """The smallest value that a logarithm or a root is taken of."""

    @property
    def training_z(self) -> Float[Array | np.ndarray, "rows size"]:
        """Rows that are simulated already: where chains may start."""

    @property
    def domain(self) -> Domain:
        """The box of those rows."""

    @property
    def cross_validation(self) -> CrossValidation | None:
        """What was wrong at rows that were not seen in training; None of what makes no error."""

    @property
    def random(self) -> Scatter | None:
        """The scatter of a random simulator."""

    @property
    def flow(self) -> Flow | None:
        """The density of the data, where their scatter is not Gaussian."""

    def flow_input(self, z: Float[Array, " size"], noise_z: Float[Array, " noise"]) -> Float[Array, " inputs"]:
        """Return what the flow is given at a whitened point of the simulator's parameters and of the noise's."""

    def members(self, z: Float[Array, " size"]) -> Float[Array, "members outputs"]:
        """Return what each member of an ensemble predicts."""

    def at(self, index: Int[np.ndarray, " n"]) -> Callable[[Float[Array, " size"]], Float[Array, "members n"]]:
        """Return `members` at some places of the flat vector."""

    def components(self, index: Int[np.ndarray, " n"]) -> Components | None:
        """Return what `at` is made of; None of what has no components."""

    def scatter_factor(self, z: Float[Array, " size"]) -> Float[Array, "factors outputs"]:
        """Return F with F^T F the covariance of a random simulator's scatter."""

    def scatter_factors(self, z: Float[Array, " size"]) -> Float[Array, "members factors outputs"]:
        """Return the same of every member."""

    def natural(self, y: Float[Array, "... outputs"]) -> dict[str, Float[Array, "..."]]:
        """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""

    def dropped(self, y: Float[np.ndarray, "rows outputs"]) -> dict[str, Float[np.ndarray, "rows values"]]:
        """Return what components drop of the outputs that have them, given natural ones, in the transformed scale."""


def load_predictor(config: LikelihoodConfig, folder: Path) -> Predictor:
    """Return what `infer.likelihood` names: the emulator in `folder`, or the simulator."""
    emulator = load_emulator(folder, config.architecture, config.candidates)
    return emulator if config.exact is None else Exact(config.exact, emulator)
