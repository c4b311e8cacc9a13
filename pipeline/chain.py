"""The stages in their order: the only door into `stages/`, which imports a stage only when it must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from stages.errors import ConfigError, Problem, SimferError, StageError, UserCodeError
from stages.settings import (
    VERSIONS,
    AddedLater,
    CalibrateConfig,
    CheckConfig,
    Code,
    CompareConfig,
    DatasetConfig,
    InferConfig,
    InputFile,
    NotInKey,
    ProblemConfig,
    RefineConfig,
    SelectConfig,
    Settings,
    SimulateConfig,
    Slice,
    TrainConfig,
)

__all__ = [
    "STAGES",
    "VERSIONS",
    "AddedLater",
    "Code",
    "ConfigError",
    "InputFile",
    "Link",
    "NotInKey",
    "Problem",
    "ProblemConfig",
    "Settings",
    "SimferError",
    "Slice",
    "StageError",
    "UserCodeError",
    "calibration",
    "comparison",
    "links",
]

STAGES = ("simulate", "dataset", "train", "infer", "check")


@dataclass(frozen=True)
class Link:
    """One step of the chain: a stage, its round, its slice of the config, and the steps whose artifacts it reads."""

    stage: str
    round: int
    config: Slice
    inputs: Mapping[str, tuple[str, ...]]  # what the stage calls an input -> names of the steps that give it
    variant: str = ""  # tells apart two steps of one stage and round

    @property
    def name(self) -> str:
        """Return the step's name within its chain, such as "train-0"."""
        return f"{self.stage}{self.variant}-{self.round}"


def links(problem: ProblemConfig) -> list[Link]:
    """List the steps of every round, in order; a later round is the same five stages with another design."""
    return [link for number in range(problem.refine.max_rounds + 1) for link in _round(problem, number)]


def _round(problem: ProblemConfig, number: int) -> list[Link]:
    before = number - 1
    if number == 0:
        simulate = Link("simulate", 0, problem.slice(SimulateConfig), {})
        select = problem.slice(DatasetConfig)
    else:
        last = {"posterior": (f"infer-{before}",), "emulator": (f"train-{before}",)}
        simulate = Link("simulate", number, problem.slice(RefineConfig, round=number), last)
        select = problem.slice(SelectConfig)
    train, infer = f"train-{number}", f"infer-{number}"
    given, judged = _given(problem), {"posterior": (infer,), "emulator": (train,)}
    return [
        simulate,
        Link("dataset", number, select, _rows(number)),
        Link(
            "train",
            number,
            _training(problem),
            {"dataset": (f"dataset-{number}",)},
        ),
        Link("infer", number, problem.slice(InferConfig, **given), {"emulator": (train,)}),
        Link("check", number, problem.slice(CheckConfig, round=number, **given), judged | _rows(number)),
    ]


def _rows(number: int) -> dict[str, tuple[str, ...]]:
    # What a check simulates are posterior draws, the best rows that the next round can have.
    return {
        "simulations": tuple(f"simulate-{i}" for i in range(number + 1)),
        "checks": tuple(f"check-{i}" for i in range(number)),
    }


def _training(problem: ProblemConfig) -> Slice:
    """Return what `train` sees: the noise only where the loss depends on it."""
    return problem.slice(TrainConfig, noise=problem.noise if problem.train.loss == "chi_squared" else {})


def _given(problem: ProblemConfig) -> dict[str, Any]:
    exact = problem.slice(SimulateConfig) if problem.infer.likelihood == "simulator" else None
    return {"architecture": problem.train.architecture, "exact": exact}


def comparison(problem: ProblemConfig, number: int) -> list[Link]:
    """List the steps that hold round `number`'s posterior against the one that the simulator itself gives."""
    by_simulator = problem.infer.model_copy(update={"likelihood": "simulator"})
    exact = problem.model_copy(update={"infer": by_simulator})
    if found := problems(exact):
        raise ConfigError([Problem("compare-posteriors", each.what) for each in found])
    settings = exact.slice(InferConfig, **_given(exact))
    rounds, train = range(number + 1), f"train-{number}"
    inputs = {
        "simulations": tuple(f"simulate-{i}" for i in rounds),
        "checks": tuple(f"check-{i}" for i in rounds),
        "emulators": tuple(f"train-{i}" for i in rounds),
        "posteriors": tuple(f"infer-{i}" for i in rounds),
        "exact": (f"infer-exact-{number}",),
    }
    return [
        Link("infer", number, settings, {"emulator": (train,)}, variant="-exact"),
        Link("compare", number, problem.slice(CompareConfig), inputs),
    ]


def calibration(problem: ProblemConfig, number: int) -> list[Link]:
    """List the step that calibrates round `number`'s emulator on simulated data."""
    inputs = {"emulator": (f"train-{number}",), "posterior": (f"infer-{number}",)}
    return [Link("calibrate", number, problem.slice(CalibrateConfig, refined=number > 0, **_given(problem)), inputs)]


def run(link: Link, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Any) -> dict[str, Any]:
    """Run one stage: it reads the artifact folders `inputs`, writes into `folder`, and returns its summary."""
    return import_module(f"stages.{link.stage}").run(link.config, inputs, folder, progress)  # type: ignore[no-any-return]


def resumes(stage: str) -> bool:
    """Say whether the stage goes on from what a killed run left in its folder (otherwise it starts afresh)."""
    return stage in ("simulate", "train")


def problems(problem: ProblemConfig) -> list[Problem]:
    """Check what only the simulator can tell: its options, parameters, outputs and the data's coordinates."""
    return import_module("stages.problem").problems(problem)  # type: ignore[no-any-return]


def load(link: Link, folder: Path) -> Any:
    """Open a step's published artifact as the Python object that users work with."""
    return import_module("stages.artifacts").load(link.stage, folder, link.config)


def describe(table: str) -> dict[str, str]:
    """Describe what a name in a config can be: `simulators`, `architectures`, `noise` or `priors`, a line each."""
    return import_module("stages.describe").describe(table)  # type: ignore[no-any-return]
