"""The stages in their order: the only door into `stages/`, which imports a stage only when it must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simfer.stages.cores import num_cores
from simfer.stages.errors import ConfigError, Mistake, SimferError, StageError, UsageError, UserCodeError, did_you_mean
from simfer.stages.settings import (
    VERSIONS,
    AddedLater,
    CalibrateConfig,
    CheckConfig,
    Code,
    CompareConfig,
    ComparePosteriorsConfig,
    CurveConfig,
    DatasetConfig,
    InferConfig,
    InputFile,
    NotInKey,
    Problem,
    RefineConfig,
    SelectConfig,
    SensitivityConfig,
    Settings,
    SimulateConfig,
    Slice,
    Train,
    TrainConfig,
    TuneConfig,
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
    "calibrate",
    "compare",
    "compare_posteriors",
    "curve",
    "did_you_mean",
    "export",
    "links",
    "num_cores",
    "predict",
    "sensitivity",
    "tune",
]

_SHARES = 0.125, 0.25, 0.5, 1.0
_FEWEST = 20  # rows that can be trained on, as the dataset has it

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
    given, judged = _given(problem), {"posterior": (infer,), "emulator": (train,)}
    return [
        simulate,
        Link("dataset", number, select, _rows(number)),
        *_trainings(problem, number),
        Link("infer", number, problem.slice(InferConfig, **given), {"emulator": (train,)}),
        Link("check", number, problem.slice(CheckConfig, round=number, **given), judged | _rows(number)),
    ]


def _trainings(problem: Problem, number: int, seed: int = 0, fraction: float = 1.0) -> list[Link]:
    """List the step that trains; before it, where it takes the best of several architectures, those that train them."""
    train, inputs = problem.train, {"dataset": (f"dataset-{number}",)}
    if not train.chooses:
        link = _training(problem, number, train.architecture, seed, fraction)
        return [replace(link, variant=_part(seed, fraction))]
    tried = {short_name(name): _training(problem, number, name, seed, fraction) for name in train.tried}
    seeded = train.model_copy(update={"seed": train.seed + seed})
    config = TrainConfig(train=seeded, noise=_noise(problem), fraction=fraction)
    inputs |= {name: (link.name,) for name, link in tried.items()}
    return [*tried.values(), Link("train", number, config, inputs, _part(seed, fraction), frozenset(tried))]


def _training(problem: Problem, number: int, architecture: str, seed: int = 0, fraction: float = 1.0) -> Link:
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


def _noise(problem: Problem) -> dict[str, Any]:
    """Return the noise where training depends on it, and nothing elsewhere: another noise trains no emulator anew."""
    return problem.noise if problem.train.loss == "chi_squared" else {}


def _given(problem: Problem) -> dict[str, Any]:
    exact = problem.slice(SimulateConfig) if problem.infer.likelihood == "simulator" else None
    return _loading(problem) | {"exact": exact}


def _loading(problem: Problem) -> dict[str, Any]:
    """Return what loads an emulator: its architecture, and a user's own ones among those that it is chosen from."""
    own = [name for name in problem.train.tried if ":" in name] if problem.train.chooses else []
    return {"architecture": problem.train.architecture, "candidates": own}


def compare_posteriors(problem: Problem, number: int) -> list[Link]:
    """List the steps that hold round `number`'s posterior against the one that the simulator itself gives."""
    by_simulator = problem.infer.model_copy(update={"likelihood": "simulator"})
    exact = problem.model_copy(update={"infer": by_simulator})
    if found := mistakes(exact):
        raise ConfigError([Mistake("compare-posteriors", each.what) for each in found])
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
        Link("compare_posteriors", number, problem.slice(ComparePosteriorsConfig), inputs),
    ]


def calibrate(problem: Problem, number: int) -> list[Link]:
    """List the step that calibrates round `number`'s emulator on simulated data."""
    inputs = {"emulator": (f"train-{number}",), "posterior": (f"infer-{number}",)}
    return [Link("calibrate", number, problem.slice(CalibrateConfig, refined=number > 0, **_given(problem)), inputs)]


def compare(problem: Problem, number: int) -> list[Link]:
    """List the steps that train architectures on the first round's rows and hold them against one another."""
    suited = Train(architecture="auto").tried
    names = problem.compare.architectures or list(dict.fromkeys([*problem.train.tried, *suited]))
    trained = {name: [_training(problem, 0, name, seed) for seed in range(problem.compare.seeds)] for name in names}
    inputs = {short_name(name): tuple(link.name for link in links) for name, links in trained.items()}
    settings = problem.slice(CompareConfig, candidates=names, limit=problem.check.max_emulator_error, failed={})
    last = Link("compare", 0, settings, inputs | {"dataset": ("dataset-0",)}, optional=frozenset(inputs))
    return [*(link for links in trained.values() for link in links), last]


def curve(problem: Problem, number: int) -> list[Link]:
    """List the steps that train on nested parts of the first round's rows and draw the error against their number."""
    total = problem.simulate.num_simulations
    shares = problem.curve.shares or [share for share in _SHARES if share * total >= _FEWEST]
    if len(shares) < 3 or shares[0] * total < _FEWEST:
        what = f"got {total} simulations, shares of {shares}; expected three of {_FEWEST} simulations or more"
        raise ConfigError([Mistake("curve.shares", what)])
    trained = {
        f"{share:g}": [_trainings(problem, 0, seed, share) for seed in range(problem.curve.seeds)] for share in shares
    }
    inputs = {name: tuple(links[-1].name for links in each) for name, each in trained.items()}
    settings = problem.slice(
        CurveConfig,
        **_loading(problem),
        parts=list(inputs),
        num_simulations=total,
        target=problem.curve.target or problem.check.max_emulator_error,
        failed={},
    )
    last = Link("curve", 0, settings, inputs | {"dataset": ("dataset-0",)}, optional=frozenset(inputs))
    return [*(link for each in trained.values() for links in each for link in links), last]


def tune(problem: Problem, number: int) -> list[Link]:
    """List the step that searches for better settings of the training, on the first round's rows."""
    if problem.train.chooses:
        what = 'got "auto", expected the one architecture whose settings to search: --set train.architecture=NAME'
        raise ConfigError([Mistake("train.architecture", what)])
    if find_spec("optuna") is None:
        raise SimferError('tune needs Optuna, which is not installed: pip install "optuna>=4.2"')
    train = problem.train.alone(problem.train.architecture)
    return [Link("tune", 0, TuneConfig(train=train, tune=problem.tune), {"dataset": ("dataset-0",)})]


def sensitivity(problem: Problem, number: int) -> list[Link]:
    """List the step that says which parameter moves which output; whatever the round, by the emulator of the prior."""
    if find_spec("SALib") is None:
        raise SimferError("sensitivity needs SALib, which is not installed: pip install 'SALib>=1.6'")
    inputs = {"simulations": ("simulate-0",), "emulator": ("train-0",)}
    settings = problem.slice(SensitivityConfig, **_loading(problem))
    return [Link("sensitivity", 0, settings, inputs)]


def run(link: Link, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Any) -> dict[str, Any]:
    """Run one stage: it reads the artifact folders `inputs`, writes into `folder`, and returns its summary."""
    return _module(link.stage).run(link.config, inputs, folder, progress)  # type: ignore[no-any-return]


def predict(link: Link, emulator: Path, progress: Any, *, parameters: Path, output: Path) -> dict[str, Any]:
    """Write what the emulator in a folder predicts at the points of a file."""
    run: Any = import_module("simfer.stages.emulator.predict").run
    return run(link.config, emulator, progress, parameters=parameters, output=output)  # type: ignore[no-any-return]


def export(link: Link, emulator: Path, progress: Any, **options: Any) -> dict[str, Any]:
    """Write the emulator in a folder as a file for other programs, with its model card."""
    return import_module("simfer.stages.emulator.export").run(link.config, emulator, progress, **options)  # type: ignore[no-any-return]


def resumes(stage: str) -> bool:
    """Say whether the stage goes on from what a killed run left in its folder (otherwise it starts afresh)."""
    return stage in ("simulate", "train", "tune")


def suffices(link: Link, summary: Mapping[str, Any]) -> bool:
    """Say whether an artifact is as much as is asked for; a search goes on where fewer trials ended."""
    return not isinstance(link.config, TuneConfig) or summary["facts"]["trials"] >= link.config.tune.trials


def mistakes(problem: Problem, *, simulates: bool = False) -> list[Mistake]:
    """Check what only the simulator can tell: its options, parameters, outputs and the data's coordinates.

    Where it `simulates`, also whether its solver's answers can be believed, which takes a few rows of the prior.
    """
    return import_module("simfer.stages.preflight").mistakes(problem, simulates=simulates)  # type: ignore[no-any-return]


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
