"""Slices: the part of a problem that each stage sees."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simfer.stages.settings.derived import AnyDerived
from simfer.stages.settings.fields import AddedLater, NotInKey, Settings
from simfer.stages.settings.fit import Fit
from simfer.stages.settings.inference import Calibrate, Check, Infer, Sensitivity
from simfer.stages.settings.noise import AnyNoise
from simfer.stages.settings.observation import Observation
from simfer.stages.settings.parameters import Parameters
from simfer.stages.settings.simulation import Refine, Simulate
from simfer.stages.settings.training import Architecture, Candidates, Dataset, Train, Tune

# Where a config says what a slice has under a name of its own, or written out, for messages.
SAID = {
    "architecture": "train.architecture",
    "candidates": "train.candidates",
    "exact": "",  # the config itself; infer.likelihood says whether it is there
    "narrow": "refine.keep",
    "density": "train.scatter",
    "meant": "parameters.NAME.edge",
    "simulate.each": "parameters.NAME.per",
    "simulate.vectors": "parameters.NAME.size",
}


class Slice(Settings):
    """The part of a problem that one stage sees."""


class SimulateConfig(Slice):
    """What `simulate` sees in round 0, where the design covers the prior."""

    parameters: Parameters
    simulate: Simulate
    in_logs: Annotated[list[str], NotInKey()] = []  # what pictures have on logarithmic axes


class RefineConfig(Slice):
    """What `simulate` sees in a later round, where the design follows the last posterior."""

    parameters: Parameters
    simulate: Simulate
    refine: Refine
    round: int
    in_logs: Annotated[list[str], NotInKey()] = []  # what pictures have on logarithmic axes


class DatasetConfig(Slice):
    """What `dataset` sees in round 0."""

    dataset: Dataset


class SelectConfig(Slice):
    """What `dataset` sees in a later round, where rows far from the data may be left out."""

    dataset: Dataset
    refine: Refine
    observation: Observation
    noise: dict[str, AnyNoise]
    noise_parameters: Annotated[Parameters, AddedLater()] = {}
    narrow: Annotated[bool, AddedLater()] = False  # leave rows out though refine.keep says nothing of it


class TrainConfig(Slice):
    """What `train` sees; the noise only where its loss is in units of it, or a flow learns the data's density."""

    train: Train
    fraction: Annotated[float, Field(gt=0, le=1), AddedLater()] = 1.0  # of the rows, the first ones
    noise: Annotated[dict[str, AnyNoise], AddedLater()] = {}
    noise_parameters: Annotated[Parameters, AddedLater()] = {}
    observation: Annotated[Observation | None, AddedLater()] = None  # where a flow learns the data's density
    density: Annotated[int, AddedLater()] = 0  # how it is learned


class LikelihoodConfig(Slice):
    """What a likelihood is made of; the architecture says where a user's own network is to be loaded from."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []  # a user's own, among which the best was chosen
    exact: SimulateConfig | None = None  # where the simulator itself is the likelihood
    observation: Observation
    noise: dict[str, AnyNoise]
    noise_parameters: Annotated[Parameters, AddedLater()] = {}
    infer: Infer


class InferConfig(LikelihoodConfig):
    """What `infer` sees."""

    derived: Annotated[dict[str, AnyDerived], AddedLater()] = {}
    units: Annotated[dict[str, str], NotInKey()] = {}  # of each quantity, as tables and files are to have them
    in_logs: Annotated[list[str], NotInKey()] = []  # what pictures have on logarithmic axes


class FitConfig(LikelihoodConfig):
    """What `fit` sees."""

    simulate: Simulate
    fit: Fit


class CheckConfig(LikelihoodConfig):
    """What `check` sees."""

    parameters: Parameters
    simulate: Simulate
    check: Check
    meant: Annotated[list[str], AddedLater()] = []
    """Parameters whose prior may end the posterior: `edge`, which enters no other stage's key."""
    round: Annotated[int, NotInKey()] = 0  # told apart by the inputs

    @property
    def limits(self) -> dict[str, float]:
        """The thresholds of a verdict, by their keys in the config."""
        limits = {f"check.{name}": value for name, value in self.check if isinstance(value, float)}
        return limits | {"simulate.max_failed": self.simulate.max_failed}


class ComparePosteriorsConfig(Slice):
    """What `compare_posteriors` sees."""

    parameters: Parameters


class CalibrateConfig(LikelihoodConfig):
    """What `calibrate` sees."""

    parameters: Parameters
    simulate: Simulate
    refined: bool  # whether the emulator was refined around the data
    calibrate: Calibrate


class CompareConfig(Slice):
    """What `compare` sees."""

    candidates: Candidates  # each an input by its short name, trained from one seed after another
    observation: Observation
    noise: dict[str, AnyNoise]
    noise_parameters: Annotated[Parameters, AddedLater()] = {}
    limit: float  # of the emulator's error: `check.max_emulator_error`


class CurveConfig(Slice):
    """What `curve` sees."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []
    parts: list[str]  # shares of the rows, each an input of this name
    num_simulations: int
    observation: Observation
    noise: dict[str, AnyNoise]
    noise_parameters: Annotated[Parameters, AddedLater()] = {}
    target: float


class TuneConfig(Slice):
    """What `tune` sees."""

    train: Train
    tune: Tune


class SensitivityConfig(Slice):
    """What `sensitivity` sees; the architecture says where a user's own network is to be loaded from."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []
    sensitivity: Sensitivity
