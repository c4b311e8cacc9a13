"""A whole config file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from simfer.stages.settings.fields import Settings
from simfer.stages.settings.inference import Calibrate, Check, Infer, Observation, Sensitivity
from simfer.stages.settings.noise import AnyNoise
from simfer.stages.settings.priors import Parameters, Prior
from simfer.stages.settings.simulation import Refine, Simulate
from simfer.stages.settings.slices import Slice
from simfer.stages.settings.training import Compare, Curve, Dataset, Train, Tune


class Problem(Settings):
    """A whole config file: one inference problem."""

    parameters: Annotated[Parameters, Field(min_length=1)]
    simulate: Simulate
    dataset: Dataset = Dataset()
    train: Train = Train()
    observation: Observation
    noise: Annotated[dict[str, AnyNoise], Field(min_length=1)]
    infer: Infer = Infer()
    check: Check = Check()
    refine: Refine = Refine()
    calibrate: Calibrate = Calibrate()
    compare: Compare = Compare()
    curve: Curve = Curve()
    tune: Tune = Tune()
    sensitivity: Sensitivity = Sensitivity()

    @model_validator(mode="after")
    def _something_to_infer(self) -> Problem:
        if not any(isinstance(value, Prior) for value in self.parameters.values()):
            raise ValueError("parameters: every one is a fixed number; give at least one a prior")
        return self

    def slice(self, kind: type[Slice], **more: Any) -> Slice:
        """Return the part of this problem that `kind` names; `more` gives the fields that are not sections."""
        sections = {name: getattr(self, name) for name in kind.model_fields if name not in more}
        return kind(**sections, **more)
