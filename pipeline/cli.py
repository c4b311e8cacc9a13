"""The command `simfer`: what a scientist types, and what comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from simfer.pipeline import chain, config, project, runtime, screen, use
from simfer.pipeline.answer import answering, in_json
from simfer.pipeline.chain import STAGES, Mistake, SimferError, UsageError
from simfer.pipeline.plan import plan
from simfer.pipeline.progress import reporter
from simfer.pipeline.runner import Outcome, built, execute, execute_more, has_passed, to_build, until_passed
from simfer.pipeline.store import Store
from simfer.pipeline.why import why as explain

_EPILOG = (
    "Exit codes: 0 done; 1 a bug of Simfer's; 2 wrong config or usage; 3 a stage could not go on, or your own code "
    "raised; 4 the verdict is bad (the posterior is there all the same); 130 interrupted."
)
app = typer.Typer(
    help="From a simulator to a posterior: simulate, train an emulator, infer, check.",
    epilog=_EPILOG,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of a problem.", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the config, as train.steps=2000.")
]
Folder = Annotated[Path | None, typer.Option("--store", help="Folder of the artifacts.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing unless something goes wrong.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]
Stage = Literal["simulate", "dataset", "train", "infer", "check"]
Until = Annotated[Stage | None, typer.Option(help="Stop after this stage.", show_default=False)]
Redo = Annotated[
    Stage | None, typer.Option(help="Build this stage, and all after it, even if cached.", show_default=False)
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(runtime.versions().get("simfer", "not installed"))
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _simfer(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Declare the options of the command itself."""


@app.command(epilog=_EPILOG)
def run(
    config: ConfigFile,
    until: Until = None,
    redo: Redo = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Run the whole chain; what the store has already is reused."""
    _bring(config, settings, store, quiet, json, until, redo)


def _bring_to(stage: Stage) -> Callable[..., None]:
    def bring(
        config: ConfigFile,
        redo: Redo = None,
        settings: Settings = None,
        store: Folder = None,
        quiet: Quiet = False,
        json: AsJson = False,
    ) -> None:
        _bring(config, settings, store, quiet, json, stage, redo)

    return bring


_STAGES: dict[Stage, str] = {
    "simulate": "Run the simulator many times.",
    "dataset": "Make the training set of the simulations.",
    "train": "Train the emulator.",
    "infer": "Draw from the posterior, with the emulator as the likelihood.",
    "check": "Hold the posterior against the true simulator.",
}
for _stage, _help in _STAGES.items():
    app.command(_stage, help=f"{_help} What this needs and the store lacks is run first.")(_bring_to(_stage))


def _bring(
    path: Path, settings: list[str] | None, folder: Path | None, quiet: bool, json: bool, until: Any, redo: Any
) -> None:
    with answering(json) as answer:
        problem, store = _open(path, settings, folder)
        listener = reporter(quiet or json)
        result = execute(problem, store, until=until, redo=redo, reporter=listener, folder=path.resolve().parent)
        answer |= in_json(result)
        if not (quiet or json):
            screen.show_end(result.latest, _console())
        if result.passed is False:
            raise typer.Exit(4)


@app.command("compare-posteriors", epilog=_EPILOG)
def compare_posteriors(
    config: ConfigFile, settings: Settings = None, store: Folder = None, quiet: Quiet = False, json: AsJson = False
) -> None:
    """Hold the posterior against the one that the simulator itself gives, and say what each has cost."""
    _bring_more(config, settings, store, quiet, json, chain.compare_posteriors)


@app.command(epilog=_EPILOG)
def calibrate(
    config: ConfigFile,
    replicates: Annotated[int | None, typer.Option(help="Number of simulated data sets.", show_default=False)] = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Test the coverage of posteriors on data simulated from known parameters."""
    given = [f"calibrate.replicates={replicates}"] if replicates is not None else []
    _bring_more(config, [*(settings or []), *given], store, quiet, json, chain.calibrate)


@app.command(epilog=_EPILOG)
def compare(
    config: ConfigFile,
    architecture: Annotated[
        list[str] | None,
        typer.Option(help="One to compare, as often as needed: a name, or file.py:Name.", show_default=False),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How often each is trained.", show_default=False)] = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Train several architectures on the same rows, and hold their errors and costs against one another."""
    given = [f"compare.architectures={dumps(architecture)}"] if architecture else []
    given += [f"compare.seeds={seeds}"] if seeds is not None else []
    _bring_more(config, [*(settings or []), *given], store, quiet, json, chain.compare, until="dataset")


@app.command(epilog=_EPILOG)
def curve(
    config: ConfigFile,
    target: Annotated[
        float | None, typer.Option(help="99th percentile of the error to reach, in data sigma.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How often each part is trained on.", show_default=False)] = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Draw the emulator's error against the number of simulations, and say how many more a target takes."""
    given = [f"curve.target={target}"] if target is not None else []
    given += [f"curve.seeds={seeds}"] if seeds is not None else []
    _bring_more(config, [*(settings or []), *given], store, quiet, json, chain.curve, until="dataset")


@app.command(epilog=_EPILOG)
def tune(
    config: ConfigFile,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials, those of an earlier search counted.", show_default=False)
    ] = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Search for settings of the training that leave a smaller error, and print them for the config."""
    given = [f"tune.trials={trials}"] if trials is not None else []
    _bring_more(config, [*(settings or []), *given], store, quiet, json, chain.tune, until="dataset")


@app.command(epilog=_EPILOG)
def sensitivity(
    config: ConfigFile, settings: Settings = None, store: Folder = None, quiet: Quiet = False, json: AsJson = False
) -> None:
    """Say which parameter moves which output over the prior: Sobol indices, and their bounds by gradients."""
    _bring_more(config, settings, store, quiet, json, chain.sensitivity, until="train")


def _bring_more(
    path: Path,
    settings: list[str] | None,
    folder: Path | None,
    quiet: bool,
    json: bool,
    more: Any,
    until: str | None = None,
) -> None:
    with answering(json) as answer:
        problem, store = _open(path, settings, folder)
        listener = reporter(quiet or json)
        outcome = execute_more(problem, store, more, until=until, reporter=listener, folder=path.resolve().parent)
        answer |= outcome.summary | {"folder": str(outcome.folder)}
        if not (quiet or json):
            screen.show_more(outcome, _console())
        if outcome.summary["facts"].get("passed") is False:
            raise typer.Exit(4)


@app.command(epilog=_EPILOG)
def predict(
    config: ConfigFile,
    parameters: Annotated[Path, typer.Option(help="A CSV file: parameters' names, then points.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="A .csv or .nc file [default: POINTS_predicted.csv].", show_default=False)
    ] = None,
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write what the emulator predicts at many points, with errors, into a CSV or NetCDF file."""
    target = output or parameters.with_name(f"{parameters.stem}_predicted.csv")
    _use(config, settings, store, quiet, json, lambda problem: use.predict(parameters, target))


@app.command(epilog=_EPILOG)
def export(
    config: ConfigFile,
    format: Annotated[Literal["onnx", "stablehlo"], typer.Option(help="What to write.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("export"),
    settings: Settings = None,
    store: Folder = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write the emulator as a file for other programs, checked against the original, with a model card."""
    _use(config, settings, store, quiet, json, lambda problem: use.export(problem, format, output, config.stem))


def _use(
    path: Path, settings: list[str] | None, folder: Path | None, quiet: bool, json: bool, make: Callable[..., use.Tool]
) -> None:
    with answering(json) as answer:
        problem, store = _open(path, settings, folder)
        tool = make(problem)
        answer |= use.use(problem, store, reporter(quiet or json), path.resolve().parent, tool)
        if not (quiet or json):
            screen.show_used(answer, _console())


@app.command()
def status(
    config: ConfigFile,
    why: Annotated[bool, typer.Option("--why", help="Say what changed, from what to what.")] = False,
    settings: Settings = None,
    store: Folder = None,
) -> None:
    """Show which steps are cached, since when, and why or why not."""
    with answering():
        problem, place = _open(config, settings, store)
        steps = plan(problem)
        found = {step.link.name: place.find(step.stage, step.fingerprint) for step in steps}
        last = until_passed(steps, lambda step: has_passed(found[step.link.name].manifest))
        needed = to_build(list(last), {name for name, each in found.items() if each.sound})
        rows = [(each, found[each.link.name], explain(each, steps, place) if why else []) for each in steps]
        screen.status(rows, needed, _console())


@app.command()
def show(config: ConfigFile, settings: Settings = None, store: Folder = None) -> None:
    """Show the verdict, the posterior, the emulator's error, and where the files lie."""
    with answering():
        screen.show(_built(config, settings, store), _console())


@app.command()
def path(
    config: ConfigFile,
    stage: Annotated[Stage, typer.Argument(metavar="STAGE", help=", ".join(STAGES), show_default=False)],
    settings: Settings = None,
    store: Folder = None,
) -> None:
    """Print the folder of a stage's latest artifact, alone, for scripts."""
    with answering():
        found = _built(config, settings, store)
        if stage not in found:
            raise SimferError(f"{stage} is not built yet; `simfer {stage} {config}` builds it")
        print(found[stage].folder)


@app.command("list")
def list_names(
    table: Annotated[
        Literal["simulators", "architectures", "noise", "priors", "settings", "schema"],
        typer.Argument(show_default=False),
    ],
    section: Annotated[
        str | None, typer.Argument(help="Of the settings: one table of the config.", show_default=False)
    ] = None,
) -> None:
    """List what a config can say: names, every key (`settings`), or all as a JSON Schema for editors (`schema`)."""
    with answering():
        if section and table != "settings":
            raise UsageError([Mistake(f"list {table} {section}", "expected a section after `settings` alone")])
        if table == "schema":
            print(dumps(chain.schema(), indent=1, ensure_ascii=False))
        elif table == "settings":
            screen.settings(chain.settings(section), _console())
        else:
            screen.listing(chain.describe(table), _console())


@app.command()
def clean(
    configs: Annotated[
        list[Path] | None, typer.Argument(metavar="[CONFIG]...", help="Configs to keep, besides those in configs/.")
    ] = None,
    older_than: Annotated[str, typer.Option(help="Spare what is younger: 30d, 12h, 45m.")] = "0d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    store: Folder = None,
) -> None:
    """Remove the artifacts that no config in configs/, or named here, refers to."""
    with answering():
        screen.swept(project.sweep(configs or [], older_than, dry_run, store), dry_run, _console())


@app.command()
def new(directory: Annotated[Path, typer.Argument(help="A folder that is not there yet, or empty.")]) -> None:
    """Start a project: a config, a simulator with an ODE in it, data, and a README; it runs as it is."""
    with answering():
        print(f"{directory} is ready. Try: simfer run {project.start(directory)}")


def _open(path: Path, settings: list[str] | None, folder: Path | None) -> tuple[chain.Problem, Store]:
    problem = config.load(path, settings or [])
    return problem, Store(config.store_folder(config.project_folder(path), folder))


def _built(path: Path, settings: list[str] | None, folder: Path | None) -> dict[str, Outcome]:
    problem, store = _open(path, settings, folder)
    return built(plan(problem), store)


def _console() -> Console:
    # A file or a pipe has no width of its own; tables are then as wide as they need.
    return Console() if sys.stdout.isatty() else Console(width=200)


def main() -> None:
    """Run the command line."""
    runtime.prepare()
    app(prog_name="simfer")


if __name__ == "__main__":
    main()
