"""The stages in their order: the only door into `stages/`, which imports a stage only when it must run."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simfer.stages.cores import num_cores
from simfer.stages.errors import ConfigError, Mistake, SimferError, StageError, UsageError, UserCodeError, did_you_mean
from simfer.stages.settings import (
    VERSIONS,
    AddedLater,
    CheckConfig,
    Code,
    DatasetConfig,
    InferConfig,
    InputFile,
    NotInKey,
    Problem,
    RefineConfig,
    SelectConfig,
    Settings,
    SimulateConfig,
    Slice,
    TrainConfig,
    home,
    short_name,
)

__all__ = [
    "STAGES",
    "VERSIONS",
    "AddedLater",
    "Code",
    "ConfigError",
    "InputFile",
    "Link",
    "Mistake",
    "NotInKey",
    "Problem",
    "Settings",
    "SimferError",
    "Slice",
    "StageError",
    "UsageError",
    "UserCodeError",
    "did_you_mean",
    "executed",
    "export",
    "forget",
    "home",
    "likelihood",
    "links",
    "loading",
    "num_cores",
    "predict",
    "short_name",
    "training",
    "trainings",
]

_BESIDE = "simfer.stages.model.beside"
STAGES = ("simulate", "dataset", "train", "infer", "check")


@dataclass(frozen=True)
class Link:
    """One step of the chain: a stage, its round, its slice of the config, and the steps whose artifacts it reads."""

    stage: str
    round: int
    config: Slice
    inputs: Mapping[str, tuple[str, ...]]  # what the stage calls an input -> names of the steps that give it
    variant: str = ""  # tells apart two steps of one stage and round
    optional: frozenset[str] = frozenset()  # inputs that may fail: the step is told which did, and why

    @property
    def name(self) -> str:
        """Return the step's name within its chain, such as "train-0"."""
        return f"{self.stage}{self.variant}-{self.round}"


def links(problem: Problem) -> list[Link]:
    """List the steps of every round, in order; a later round is the same five stages with another design."""
    return [link for number in range(problem.refine.max_rounds + 1) for link in _round(problem, number)]


def _round(problem: Problem, number: int) -> list[Link]:
    before = number - 1
    if number == 0:
        simulate = Link("simulate", 0, problem.slice(SimulateConfig), {})
        select = problem.slice(DatasetConfig)
    else:
        last = {"posterior": (f"infer-{before}",), "emulator": (f"train-{before}",)}
        simulate = Link("simulate", number, problem.slice(RefineConfig, round=number), last)
        select = problem.slice(SelectConfig)
    train, infer = f"train-{number}", f"infer-{number}"
    given, judged = likelihood(problem), {"posterior": (infer,), "emulator": (train,)}
    check = problem.slice(CheckConfig, round=number, meant=problem.edges_meant, **given)
    return [
        simulate,
        Link("dataset", number, select, _rows(number)),
        *trainings(problem, number),
        Link("infer", number, problem.slice(InferConfig, **given), {"emulator": (train,)} | _failures(problem, number)),
        Link("check", number, check, judged | _rows(number)),
    ]


def trainings(problem: Problem, number: int, seed: int = 0, fraction: float = 1.0) -> list[Link]:
    """List the step that trains; before it, where it takes the best of several architectures, those that train them."""
    train, inputs = problem.train, {"dataset": (f"dataset-{number}",)}
    if not train.chooses:
        link = training(problem, number, train.architecture, seed, fraction)
        return [replace(link, variant=_part(seed, fraction))]
    tried = {short_name(name): training(problem, number, name, seed, fraction) for name in train.tried}
    seeded = train.model_copy(update={"seed": train.seed + seed})
    config = TrainConfig(train=seeded, noise=_noise(problem), fraction=fraction)
    inputs |= {name: (link.name,) for name, link in tried.items()}
    return [*tried.values(), Link("train", number, config, inputs, _part(seed, fraction), frozenset(tried))]


def training(problem: Problem, number: int, architecture: str, seed: int = 0, fraction: float = 1.0) -> Link:
    """Return the step that trains one architecture: the artifact is the one of a config that names it."""
    config = TrainConfig(train=problem.train.alone(architecture, seed), noise=_noise(problem), fraction=fraction)
    variant = f"-{short_name(architecture)}{_part(seed, fraction)}"
    return Link("train", number, config, {"dataset": (f"dataset-{number}",)}, variant)


def _part(seed: int, fraction: float) -> str:
    return (f"-seed{seed}" if seed else "") + (f"-of-{fraction:g}" if fraction < 1.0 else "")


def _rows(number: int) -> dict[str, tuple[str, ...]]:
    # What a check simulates are posterior draws, the best rows that the next round can have.
    return {
        "simulations": tuple(f"simulate-{i}" for i in range(number + 1)),
        "checks": tuple(f"check-{i}" for i in range(number)),
    }


def _failures(problem: Problem, number: int) -> dict[str, tuple[str, ...]]:
    """Return the rows that tell where a posterior ends, where failures are impossible."""
    return _rows(number) if problem.simulate.failures == "impossible" else {}


def _noise(problem: Problem) -> dict[str, Any]:
    """Return the noise where training depends on it, and nothing elsewhere: another noise trains no emulator anew."""
    return problem.noise if problem.train.loss == "chi_squared" else {}


def likelihood(problem: Problem) -> dict[str, Any]:
    """Return what a likelihood is made of beyond the sections of the config."""
    exact = problem.slice(SimulateConfig) if problem.infer.likelihood == "simulator" else None
    return loading(problem) | {"exact": exact}


def loading(problem: Problem) -> dict[str, Any]:
    """Return what loads an emulator: its architecture, and a user's own ones among those that it is chosen from."""
    own = [name for name in problem.train.tried if ":" in name] if problem.train.chooses else []
    return {"architecture": problem.train.architecture, "candidates": own}


def run(
    link: Link,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
    progress: Any,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run one stage: it reads the artifact folders `inputs`, writes into `folder`, and returns its summary.

    A stage with inputs that may fail is told which did, and why.
    """
    more = {"failed": failed} if link.optional else {}
    return _module(link.stage).run(link.config, inputs, folder, progress, **more)  # type: ignore[no-any-return]


def predict(link: Link, emulator: Path, progress: Any, *, parameters: Path, output: Path) -> dict[str, Any]:
    """Write what the emulator in a folder predicts at the points of a file."""
    run: Any = import_module("simfer.stages.emulator.predict").run
    return run(link.config, emulator, progress, parameters=parameters, output=output)  # type: ignore[no-any-return]


def export(link: Link, emulator: Path, progress: Any, **options: Any) -> dict[str, Any]:
    """Write the emulator in a folder as a file for other programs, with its model card."""
    return import_module("simfer.stages.emulator.export").run(link.config, emulator, progress, **options)  # type: ignore[no-any-return]


def write_report(material: Mapping[str, Any], file: Path) -> None:
    """Write the page of a run, from what its steps have said and where their artifacts lie."""
    import_module("simfer.stages.report.page").write(_material(material), file)


def prior_predictive(problem: Problem, simulations: Path, file: Path) -> dict[str, Any]:
    """Draw runs from the prior over the data into a file; say of which data no run comes near."""
    return import_module("simfer.stages.report.prior_predictive").run(problem, simulations, file)  # type: ignore[no-any-return]


def _material(plain: Mapping[str, Any]) -> Any:
    made: Any = import_module("simfer.stages.report.material")
    failure = made.Failure(**plain["failure"]) if plain["failure"] else None
    steps = [made.Step(**step) for step in plain["steps"]]
    return made.Material(**(dict(plain) | {"steps": steps, "failure": failure}))


def num_rows(problem: Problem) -> int:
    """Return how many rows the first round has; a table is opened for it."""
    simulate = problem.simulate
    if simulate.table is None:
        return simulate.num_simulations
    finished: Any = import_module("simfer.stages.simulate.finished.runs")
    return len(finished.open_for(problem.parameters, simulate.table)) + simulate.num_simulations


def mistakes(problem: Problem, *, simulates: bool = False, progress: Any = None) -> list[Mistake]:
    """Check what only the simulator can tell: its options, parameters, outputs and the data's coordinates.

    Where it `simulates`, also whether its solver's answers can be believed, which takes a few rows of the prior. What a
    simulator that is not JAX gives when it is tried, `progress` is told.
    """
    return import_module("simfer.stages.preflight").mistakes(problem, simulates=simulates, progress=progress)  # type: ignore[no-any-return]


def executed() -> dict[Path, str]:
    """Return the user's files that were run, each with the digest of its text as it was then."""
    beside: Any = sys.modules.get(_BESIDE)  # not imported: then nothing was run
    return beside.executed() if beside else {}


def forget(files: Collection[Path]) -> None:
    """Have the user's files, and what lies beside them, imported anew."""
    beside: Any = sys.modules.get(_BESIDE)
    if beside:
        beside.forget(files)


def load(link: Link, folder: Path) -> Any:
    """Open a step's published artifact as the Python object that users work with."""
    return _module(link.stage).load(folder, link.config)


def describe(table: str) -> dict[str, str]:
    """Describe what a name in a config can be: `simulators`, `architectures`, `noise` or `priors`, a line each."""
    return import_module("simfer.stages.settings.listing").describe(table)  # type: ignore[no-any-return]


def settings(section: str | None = None) -> list[Any]:
    """List every key of a config, or of one of its tables: key, type, default, unit and meaning."""
    return import_module("simfer.stages.settings.listing").settings(section)  # type: ignore[no-any-return]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a config."""
    return import_module("simfer.stages.settings.listing").schema()  # type: ignore[no-any-return]


def _module(stage: str) -> Any:
    place = f"{stage}.stage" if stage in STAGES else f"studies.{stage}"
    return import_module(f"simfer.stages.{place}")
