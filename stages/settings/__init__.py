"""The settings of every stage: frozen, checked, and free of JAX, so that a plan or a cache hit is instant.

A config file (`problem`) has one table for each section: those of `simulation`, `training` and `inference`, with
`prior` and `noise`. A stage sees only its own slice of them (`slices`): what is not in it cannot change the stage's
result, and so is not in its fingerprint.
"""

from __future__ import annotations

from simfer.stages.settings.arguments import Column
from simfer.stages.settings.derived import Derived
from simfer.stages.settings.engines import full_name
from simfer.stages.settings.fields import (
    AddedLater,
    Cells,
    Code,
    Count,
    InputFile,
    Natural,
    NotInKey,
    Positive,
    ReadLater,
    Settings,
    home,
)
from simfer.stages.settings.imports import closure, tree
from simfer.stages.settings.inference import HANDED, Calibrate, Check, Infer, Sensitivity
from simfer.stages.settings.noise import NOISE, AnyNoise
from simfer.stages.settings.noise_families import CustomNoise, MultivariateNormalNoise, Noise, TruncatedNoise
from simfer.stages.settings.observation import Observation, Source
from simfer.stages.settings.priors import AnyPrior, NumberOrPrior, Prior
from simfer.stages.settings.problem import Problem
from simfer.stages.settings.run_table import RunTable
from simfer.stages.settings.simulation import LEAST_ROWS, Simulate, Solver
from simfer.stages.settings.slices import (
    SAID,
    CalibrateConfig,
    CheckConfig,
    CompareConfig,
    ComparePosteriorsConfig,
    CurveConfig,
    DatasetConfig,
    FitConfig,
    InferConfig,
    LikelihoodConfig,
    RefineConfig,
    SelectConfig,
    SensitivityConfig,
    SimulateConfig,
    Slice,
    TrainConfig,
    TuneConfig,
)
from simfer.stages.settings.training import Dataset, Train, Transform, short_name

__all__ = [
    "HANDED",
    "LEAST_ROWS",
    "NOISE",
    "SAID",
    "VERSIONS",
    "AddedLater",
    "AnyNoise",
    "AnyPrior",
    "Calibrate",
    "CalibrateConfig",
    "Cells",
    "Check",
    "CheckConfig",
    "Code",
    "Column",
    "CompareConfig",
    "ComparePosteriorsConfig",
    "Count",
    "CurveConfig",
    "CustomNoise",
    "Dataset",
    "DatasetConfig",
    "Derived",
    "FitConfig",
    "Infer",
    "InferConfig",
    "InputFile",
    "LikelihoodConfig",
    "MultivariateNormalNoise",
    "Natural",
    "Noise",
    "NotInKey",
    "NumberOrPrior",
    "Observation",
    "Positive",
    "Prior",
    "Problem",
    "ReadLater",
    "RefineConfig",
    "RunTable",
    "SelectConfig",
    "Sensitivity",
    "SensitivityConfig",
    "Settings",
    "Simulate",
    "SimulateConfig",
    "Slice",
    "Solver",
    "Source",
    "Train",
    "TrainConfig",
    "Transform",
    "TruncatedNoise",
    "TuneConfig",
    "closure",
    "full_name",
    "home",
    "short_name",
    "tree",
]

# Raised when an unchanged config would give other numbers.
VERSIONS = {
    "simulate": 3,
    "dataset": 3,
    "train": 13,
    "infer": 18,
    "check": 18,
    "compare_posteriors": 1,
    "calibrate": 2,
    "compare": 1,
    "curve": 1,
    "tune": 2,
    "sensitivity": 1,
    "fit": 1,
}
