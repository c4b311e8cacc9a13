"""The stages in their order: the only door into `stages/`, which imports a stage only when it must run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simfer.stages.artifacts.figures import LONGER, SIMULATIONS, judge, leans_on_failures, what_helps
from simfer.stages.cores import num_cores
from simfer.stages.errors import (
    ConfigError,
    Mistake,
    SimferError,
    StageError,
    UsageError,
    UserCodeError,
    WaitingForRuns,
    did_you_mean,
)
from simfer.stages.spans import span

if TYPE_CHECKING:
    from simfer.stages.settings import (
        SAID,
        VERSIONS,
        AddedLater,
        Cells,
        Code,
        InputFile,
        NotInKey,
        Prior,
        Problem,
        ReadLater,
        Settings,
        Slice,
        closure,
        full_name,
        home,
        short_name,
        tree,
    )

__all__ = [
    "SAID",
    "STAGES",
    "VERSIONS",
    "AddedLater",
    "Cells",
    "Code",
    "ConfigError",
    "InputFile",
    "Link",
    "Mistake",
    "NotInKey",
    "Prior",
    "Problem",
    "ReadLater",
    "Settings",
    "SimferError",
    "Slice",
    "StageError",
    "Turn",
    "UsageError",
    "UserCodeError",
    "WaitingForRuns",
    "closure",
    "did_you_mean",
    "executed",
    "export",
    "forget",
    "full_name",
    "home",
    "likelihood",
    "links",
    "loading",
    "num_cores",
    "predict",
    "short_name",
    "training",
    "trainings",
    "tree",
    "work",
]

_BESIDE = "simfer.stages.model.beside"
_SETTINGS = "simfer.stages.settings"
STAGES = ("simulate", "dataset", "train", "infer", "check")
_ROWS_OF = {"simulations": "simulate", "checks": "check"}
_ROWS = frozenset(_ROWS_OF)
_DENSITY = 3  # raised when an unchanged config would learn another density of the data, and nothing else
_HANDED = {"simulate": "simulations.zarr/", "check": "simulations.zarr/", "dataset": "dataset.zarr/"}


def __getattr__(name: str) -> Any:
    """Import the settings when something of them is first asked for: half of what starting a command takes."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_SETTINGS), name)


@dataclass(frozen=True)
class Link:
    """One step of the chain: a stage, its round, its slice of the config, and the steps whose artifacts it reads."""

    stage: str
    round: int
    config: Slice
    inputs: Mapping[str, tuple[str, ...]]  # what the stage calls an input -> names of the steps that give it
    variant: str = ""  # tells apart two steps of one stage and round
    optional: frozenset[str] = frozenset()  # inputs that may fail: the step is told which did, and why
    handed: frozenset[str] = frozenset()  # inputs of which only what they hand over to later rounds is read

    @property
    def name(self) -> str:
        """Return the step's name within its chain, such as "train-0"."""
        return f"{self.stage}{self.variant}-{self.round}"


@dataclass(frozen=True)
class Turn:
    """Where a walk through the steps stands: a round, and how many draws its chains keep."""

    round: int
    num_samples: int
    goes_on: bool = False  # whether it follows a verdict of the same round
    leans: bool = False  # whether a posterior of an earlier round lay where simulations fail


def links(problem: Problem, turn: Turn) -> list[Link]:
    """List the steps of a round, the last two those that draw and check; a later one has another design."""
    from simfer.stages.settings import (
        CheckConfig,
        DatasetConfig,
        InferConfig,
        RefineConfig,
        SelectConfig,
        SimulateConfig,
    )

    number, before = turn.round, turn.round - 1
    if number == 0:
        simulate = Link("simulate", 0, problem.slice(SimulateConfig), {})
        select = problem.slice(DatasetConfig)
    else:
        last: dict[str, tuple[str, ...]] = {"posterior": (f"infer-{before}",), "emulator": (f"train-{before}",)}
        if turn.leans:  # what failed so far says where not to go
            last = last | {role: tuple(f"{stage}-{i}" for i in range(number)) for role, stage in _ROWS_OF.items()}
        handed = _ROWS | {"posterior"}
        simulate = Link("simulate", number, problem.slice(RefineConfig, round=number), last, handed=handed)
        narrow = number > 1 and problem.refine.keep is None and not problem.infer.model
        select = problem.slice(SelectConfig, narrow=narrow)
    train, infer = f"train-{number}", f"infer-{number}"
    given = likelihood(problem)
    given |= {"infer": problem.infer.model_copy(update={"num_samples": turn.num_samples})}
    judged = {"posterior": (infer,), "emulator": (train,)} | _rows(number)
    if number and problem.infer.likelihood == "emulator" and not problem.infer.model:
        judged["first"] = ("train-0",)  # it says how well the prior was known when later rounds were placed
    check = problem.slice(CheckConfig, round=number, meant=problem.edges_meant, **given)
    drawn = {"emulator": (train,)} | _failures(problem, number)
    return [
        simulate,
        Link("dataset", number, select, _rows(number), handed=_ROWS),
        *trainings(problem, number),
        Link("infer", number, problem.slice(InferConfig, **given), drawn, handed=_ROWS),
        Link("check", number, check, judged, handed=_ROWS),
    ]


def turn_after(problem: Problem, turn: Turn, check: Link, summary: Mapping[str, Any]) -> Turn | None:
    """Return where a walk goes from a verdict: on with the chains, to the next round, or nowhere."""
    helps = what_helps(judged(check, summary), steered=turn.leans)
    if helps == SIMULATIONS and turn.round < problem.refine.max_rounds:
        leans = turn.leans or (problem.simulate.failures == "excluded" and leans_on_failures(summary))
        return Turn(turn.round + 1, problem.infer.num_samples, leans=leans)
    more = 2 * turn.num_samples
    longer = replace(turn, num_samples=more, goes_on=True)
    return longer if helps == LONGER and more <= problem.infer.most_samples else None


def judged(link: Link, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's summary as this config reads it: a verdict by its thresholds, quantities with its units."""
    from simfer.stages.settings import CheckConfig, InferConfig

    if isinstance(link.config, CheckConfig):
        return judge(summary, link.config.limits)
    if not isinstance(link.config, InferConfig):
        return dict(summary)
    tables, units = summary.get("tables", {}), link.config.units
    rows = [row | {"unit": units.get(row.get("parameter"), row.get("unit", ""))} for row in tables.get("posterior", [])]
    return {**summary, "tables": {**tables, "posterior": rows}} if rows else dict(summary)


def refused(link: Link, summary: Mapping[str, Any]) -> str:
    """Say why simulations that are there will not do: more of them failed than the config allows; "" if they do."""
    from simfer.stages.settings import SimulateConfig

    config, facts = link.config, summary.get("facts", {})
    if not isinstance(config, SimulateConfig) or config.simulate.failures != "excluded" or not facts.get("failed"):
        return ""
    share, most = facts["failed"] / facts["rows"], config.simulate.max_failed
    if share <= most:
        return ""
    where = " ".join(summary.get("warnings", []))
    return (
        f"{share:.1%} of the simulations failed, more than simulate.max_failed = {most:.1%}. {where} Raise it to go on "
        "without them, or see `simfer show` and failures.png for where they lie"
    )


def remark(link: Link, summary: Mapping[str, Any]) -> str:
    """Say which rows that are there had less time than they would have now; "" if none did.

    They stay as they are: a time limit is no part of what names an artifact, and what was made of it knows them.
    """
    from simfer.stages.settings import RefineConfig, SimulateConfig

    config, facts = link.config, summary.get("facts", {})
    if not isinstance(config, (SimulateConfig, RefineConfig)) or "timeout" not in facts:
        return ""
    now = config.simulate.timeout
    if now is not None and now <= facts["timeout"]:
        return ""
    more = "no limit" if now is None else f"{now:g} s"
    return (
        f"{facts['timed_out']:,} rows took longer than {facts['timeout']:g} s; now they have {more}, and `--redo "
        "simulate` runs all rows again"
    )


def handed(stage: str, folder: Path, files: Mapping[str, Any], summary: Mapping[str, Any]) -> str | None:
    """Return a digest of what an artifact hands over to later rounds; None where that is all that it is.

    Rows are handed over without the pictures and the words about them, and of draws the first ones of each chain: more
    of them, or others after those, change no design.
    """
    if "handed" in summary:
        return str(summary["handed"])
    if stage == "infer":  # one that was made before it was said there
        posterior = import_module("simfer.stages.artifacts.posterior")
        return str(posterior.Posterior.load(folder).handed) if posterior.POSTERIOR in files else None
    rows = {name: record["sha256"] for name, record in files.items() if name.startswith(_HANDED.get(stage, "/"))}
    return sha256(repr(sorted(rows.items())).encode()).hexdigest() if rows else None


def part(key: Mapping[str, Any], stands_for: Callable[[str, str], str]) -> dict[str, Any] | None:
    """Return what of a step's key its longest work depends on, which another artifact may have done; None of most.

    Chains are the same however many draws are asked for, and what a check simulates follows from what is handed over.
    """
    config = key["config"]
    if key["stage"] == "infer":
        infer = {name: value for name, value in config["infer"].items() if name != "num_samples"}
        return {**key, "config": {**config, "infer": infer}}
    if key["stage"] == "check":
        posterior = [stands_for("infer", name) for name in key["inputs"]["posterior"]]
        drawn = {name: config["check"][name] for name in ("num_draws", "seed")}
        return {name: config[name] for name in ("parameters", "simulate")} | {"check": drawn, "posterior": posterior}
    if key["stage"] == "simulate" and not key["inputs"] and config["simulate"]["design"] != "latin_hypercube":
        # Row i depends on the config and i alone: a larger ensemble begins with the rows of a smaller one.
        simulate = {name: value for name, value in config["simulate"].items() if name != "num_simulations"}
        return {**key, "config": {**config, "simulate": simulate}}
    return None


LENT = {"infer": "chains.npz", "check": "simulations.zarr"}
"""What a stage takes over from an artifact that has done the same part of its work."""


def hands_alike(number: int, asked: int) -> bool:
    """Say whether two numbers of draws hand the same over to later rounds."""
    from simfer.stages.settings import HANDED

    return min(number, HANDED) == min(asked, HANDED)


def trainings(problem: Problem, number: int, seed: int = 0, fraction: float = 1.0) -> list[Link]:
    """List the step that trains; before it, where it takes the best of several architectures, those that train them."""
    from simfer.stages.settings import TrainConfig, short_name

    train, inputs = problem.train, {"dataset": (f"dataset-{number}",)}
    if not train.chooses:
        link = training(problem, number, train.architecture, seed, fraction)
        return [replace(link, variant=_part(seed, fraction))]
    tried = {short_name(name): training(problem, number, name, seed, fraction) for name in train.tried}
    seeded = train.model_copy(update={"seed": train.seed + seed})
    config = TrainConfig.model_construct(train=seeded, fraction=fraction, **_data(problem))
    inputs |= {name: (link.name,) for name, link in tried.items()}
    return [*tried.values(), Link("train", number, config, inputs, _part(seed, fraction), frozenset(tried))]


def training(problem: Problem, number: int, architecture: str, seed: int = 0, fraction: float = 1.0) -> Link:
    """Return the step that trains one architecture: the artifact is the one of a config that names it."""
    from simfer.stages.settings import TrainConfig, short_name

    train = problem.train.alone(architecture, seed)
    config = TrainConfig.model_construct(train=train, fraction=fraction, **_data(problem))
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


def _data(problem: Problem) -> dict[str, Any]:
    """Return noise and data where training depends on them, and nothing elsewhere: others train no emulator anew."""
    if problem.train.scatter != "gaussian":  # a flow learns the density of what was measured, with its noise
        shared = {"noise_parameters": problem.noise_parameters}
        return {"noise": problem.noise, "observation": problem.observation, "density": _DENSITY} | shared
    return {"noise": problem.noise} if problem.train.loss == "chi_squared" else {}


def likelihood(problem: Problem) -> dict[str, Any]:
    """Return what a likelihood is made of beyond the sections of the config."""
    from simfer.stages.settings import SimulateConfig

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
    with span("import"):
        stage = _module(link.stage)
        from threadpoolctl import threadpool_limits
    # Chains and rows in threads call it at the same time. With threads of its own OpenBLAS makes them wait for one
    # another: a Cholesky factor of 50 data took a hundred times as long, and of 300 it never came.
    with threadpool_limits(1, user_api="blas"):
        return stage.run(link.config, inputs, folder, progress, **more)  # type: ignore[no-any-return]


@contextmanager
def placed(link: Link) -> Iterator[None]:
    """Have a step computed where it is quickest: on the processor, if there is too little for an accelerator."""
    with span("import"):
        stage, devices = _module(link.stage), import_module("simfer.stages.devices")
    much = getattr(stage, "fills_accelerator", lambda _: True)(link.config)
    with nullcontext() if much else devices.on_processor():
        yield


def run_row(link: Link, row: int, begun: Sequence[Path], progress: Any) -> dict[str, Any]:
    """Run one row of the first simulations again, in this process; nothing of it is stored."""
    run: Any = import_module("simfer.stages.simulate.foreground").run
    return run(link.config, progress, row=row, begun=begun)  # type: ignore[no-any-return]


def predict(link: Link, emulator: Path, progress: Any, *, parameters: Path, output: Path) -> dict[str, Any]:
    """Write what the emulator in a folder predicts at the points of a file."""
    run: Any = import_module("simfer.stages.emulator.predict").run
    return run(link.config, emulator, progress, parameters=parameters, output=output)  # type: ignore[no-any-return]


def export(link: Link, emulator: Path, progress: Any, **options: Any) -> dict[str, Any]:
    """Write the emulator in a folder as a file for other programs, with its model card."""
    return import_module("simfer.stages.emulator.export").run(link.config, emulator, progress, **options)  # type: ignore[no-any-return]


def serve(link: Link, emulator: Path, progress: Any, *, port: int) -> dict[str, Any]:
    """Answer for the emulator in a folder over HTTP, until the process is interrupted."""
    return import_module("simfer.stages.emulator.serve").run(link.config, emulator, progress, port=port)  # type: ignore[no-any-return]


def work(folder: Path, num_slots: int | None, idle: float, note: Callable[[str], None]) -> int:
    """Run rows that are asked for in a spool folder, until none were for `idle` seconds; return how many blocks."""
    run: Any = import_module("simfer.stages.simulate.engines.work").work
    return run(folder, num_slots or num_cores(), idle, note)  # type: ignore[no-any-return]


def write_report(material: Mapping[str, Any], file: Path) -> None:
    """Write the page of a run, from what its steps have said and where their artifacts lie."""
    import_module("simfer.stages.report.page").write(_material(material), file)


def write_overview(materials: Sequence[Mapping[str, Any]], pages: Mapping[str, str], file: Path) -> None:
    """Write the page of several runs; `pages` says where those of each lie, as seen from it."""
    import_module("simfer.stages.report.overview").write(list(map(_material, materials)), pages, file)


def report_text(material: Mapping[str, Any]) -> str:
    """Return the page of a run as text."""
    return import_module("simfer.stages.report.page").render(_material(material))  # type: ignore[no-any-return]


def cite(problem: Problem | None, version: str) -> str:
    """Return the references of what a problem stands on, in BibTeX."""
    return import_module("simfer.stages.report.citation").bibtex(problem, version)  # type: ignore[no-any-return]


def compare_models(models: Mapping[str, tuple[Problem, Mapping[str, Path]]], file: Path) -> dict[str, Any]:
    """Compare the posteriors of several configs on the same data; draw what each predicts into a file."""
    made: Any = import_module("simfer.stages.report.models")
    return made.compare({name: made.Model(*each) for name, each in models.items()}, file)  # type: ignore[no-any-return]


def prior_predictive(problem: Problem, simulations: Path, file: Path) -> dict[str, Any]:
    """Draw runs from the prior over the data into a file; say of which data no run comes near."""
    return import_module("simfer.stages.report.prior_predictive").run(problem, simulations, file)  # type: ignore[no-any-return]


def posterior_table(problem: Problem, posterior: Path, format: str, interval: str, level: float) -> str:
    """Return the posterior's table as LaTeX, CSV, JSON or Markdown."""
    return import_module("simfer.stages.report.tables").table(problem, posterior, format, interval, level)  # type: ignore[no-any-return]


def gallery(problem: Problem, folders: Mapping[str, Path]) -> Any:
    """Return what can be drawn of a run, from the folders of its stages; "first" is that of the first simulations."""
    return import_module("simfer.stages.report.gallery").Gallery(folders, problem)


def _material(plain: Mapping[str, Any]) -> Any:
    made: Any = import_module("simfer.stages.report.material")
    failure = made.Failure(**plain["failure"]) if plain["failure"] else None
    steps = [made.Step(**step) for step in plain["steps"]]
    return made.Material(**(dict(plain) | {"steps": steps, "failure": failure}))


def asks(link: Link) -> bool:
    """Say whether the rows of a step are made by somebody else, who is asked for them."""
    settings: Any = getattr(link.config, "simulate", None)
    return link.stage in ("simulate", "check") and settings.kind == "ask"


def write_points(problem: Problem, ledger: Path, output: Path, num: int | None, again: bool) -> tuple[int, int]:
    """Write points that a step waits for; return how many, and how many nobody was given after that."""
    points, ledgers = (import_module(f"simfer.stages.simulate.asked.{name}") for name in ("points", "ledger"))
    space = import_module("simfer.stages.model.space").Space(problem.parameters)
    return points.write_points(output, ledgers.Ledger(ledger), space, num, again)  # type: ignore[no-any-return]


def tell(problem: Problem, file: Path, asked: Sequence[Path], own: Path | None, replace: bool) -> dict[str, Any]:
    """Take results into the ledgers of the steps that asked for them, and points of the user's own into `own`.

    Raises ConfigError where the outputs are not those that the config's data and noise are of.
    """
    telling: Any = import_module("simfer.stages.simulate.asked.telling")
    ledgers: Any = import_module("simfer.stages.simulate.asked.ledger")
    preflight: Any = import_module("simfer.stages.preflight")
    space = import_module("simfer.stages.model.space").Space(problem.parameters)
    by_token = {ledger.token: ledger for ledger in map(ledgers.Ledger, asked)}
    into = ledgers.Ledger(own) if own else None
    told = telling.read(file, problem.simulate.table, space, by_token, into, replace)
    if found := preflight.of_outputs(problem, told.layout):
        raise ConfigError(found)
    return told.take()  # type: ignore[no-any-return]


def waited_for(ledger: Path) -> str:
    """Say what a step waits for; nothing where it has asked for nothing, or was told all."""
    made: Any = import_module("simfer.stages.simulate.asked.ledger")
    try:
        made.Ledger(ledger).refuse_untold()
    except WaitingForRuns as error:
        return str(error)
    return ""


def num_rows(problem: Problem) -> int:
    """Return how many rows the first round has; a table is opened for it."""
    simulate = problem.simulate
    if simulate.table is None:
        return simulate.num_simulations
    finished: Any = import_module("simfer.stages.simulate.finished.runs")
    return len(finished.open_for(problem.parameters, simulate.table)) + simulate.num_simulations


def too_few(problem: Problem, until: str | None) -> list[Mistake]:
    """List a number of simulations that makes no training set, where one is to be made; a table may hold the rest."""
    from simfer.stages.settings import LEAST_ROWS

    simulate, trains = problem.simulate, until != "simulate"
    if not trains or simulate.table is not None or simulate.kind == "ask" or not simulate.num_simulations:
        return []
    if simulate.num_simulations >= LEAST_ROWS:
        return []
    what = f"got {simulate.num_simulations}, and a training set needs at least {LEAST_ROWS} rows that are usable"
    return [Mistake("simulate.num_simulations", f"{what}; `simfer simulate` alone runs as few as you like")]


def mistakes(
    problem: Problem, *, simulates: bool = False, progress: Any = None, begun: Sequence[Path] = ()
) -> list[Mistake]:
    """Check what only the simulator can tell: its options, parameters, outputs and the data's coordinates.

    Where it `simulates`, also whether its solver's answers can be believed, which takes a few rows of the prior. What a
    simulator that is not JAX gives when it is tried, `progress` is told; it is not tried where rows of it are `begun`.
    """
    look, devices = import_module("simfer.stages.preflight").mistakes, import_module("simfer.stages.devices")
    with devices.on_processor():
        return look(problem, simulates=simulates, progress=progress, begun=begun)  # type: ignore[no-any-return]


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
