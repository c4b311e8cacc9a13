"""The command `simfer`: what a scientist types, and what comes back."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from simfer.pipeline import chain, runtime, stopping
from simfer.pipeline.answer import answering, in_json
from simfer.pipeline.call import Call, console, on_config
from simfer.pipeline.chain import STAGES, Mistake, SimferError, UsageError, UserCodeError
from simfer.pipeline.studies import STUDIES, Option, Study

if TYPE_CHECKING:
    from simfer.pipeline import asking, extending, foreground, packing, project, runner, screen, use
    from simfer.pipeline import config as configs
    from simfer.pipeline import plan as plans
    from simfer.pipeline import report as pages
    from simfer.pipeline import why as reasons
else:

    class _Later:
        """A module that is imported when a command first asks something of it: a help asks nothing."""

        def __init__(self, name: str) -> None:
            self._name = f"simfer.pipeline.{name}"

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self._name), name)

    asking, extending, foreground, packing = map(_Later, ("asking", "extending", "foreground", "packing"))
    project, runner, screen, use = map(_Later, ("project", "runner", "screen", "use"))
    configs, plans, pages, reasons = map(_Later, ("config", "plan", "report", "why"))

_EPILOG = (
    "Exit codes: 0 done; 1 a bug of Simfer's; 2 wrong config or usage; 3 a stage could not go on, or your own code "
    "raised; 4 the verdict is bad (the posterior is there all the same); 5 there is no simulator to check it by; 6 "
    "it waits for runs that somebody else makes; 130 interrupted."
)
_CHAIN, _LOOK, _STUDY, _USE, _PROJECT = "The chain", "Look", "Study", "Use the emulator", "Project"


def _without_types(parameters: list[Any]) -> list[Any]:
    """Have a command's help say of a flag what it does, and not that it is a <bool>."""
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
    return parameters


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


app = typer.Typer(
    cls=_Group,
    help="From a simulator to a posterior: simulate, train an emulator, infer, check.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Stage = Literal["simulate", "dataset", "train", "infer", "check"]
Redo = Annotated[
    Stage | None,
    typer.Option(metavar="STAGE", help="Build this stage, and all after it, even if cached.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", help="Rows at a time, of a simulator that is not JAX.", show_default=False),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="ENGINE",
        help="Who runs those rows, if not this machine: dask:ADDRESS, dask:scheduler.json, spool:FOLDER, file.py:make.",
        show_default=False,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="FOLDER", help="Folder of the artifacts, or s3://bucket/prefix.", show_default=False
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(runtime.versions().get("simfer", "not installed"))
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _simfer(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Declare the options of the command itself."""


def _command(name: str, panel: str, body: Callable[..., None], help: str | None = None, **more: Any) -> None:
    ends = _EPILOG if panel in (_CHAIN, _STUDY, _USE) else None  # those with more to answer than 0 and 2
    app.command(name, cls=_Command, help=help, epilog=ends, rich_help_panel=panel)(on_config(body, **more))


def _run(
    call: Call,
    until: Annotated[
        Stage | None, typer.Option(metavar="STAGE", help="Stop after this stage.", show_default=False)
    ] = None,
    redo: Redo = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Whether to write the page of the run.")] = True,
    workers: Workers = None,
    engine: Engine = None,
    row: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            help="Run but this row of the first round, here and to be watched; nothing is stored.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the whole chain; what the store has already is reused."""
    if row is not None:
        _run_row(call, row, alone=until is None and redo is None)
    with answering(call.json) as answer:
        call = call.drained(engine, workers)
        try:
            result = runner.execute(
                call.problem, call.store, until=until, redo=redo, reporter=call.reporter, folder=call.folder
            )
        except SimferError as error:
            if report:
                _write_page(call, error)
            raise
        answer |= in_json(result)
        if call.shows:
            screen.show_end(result.latest, console())
        if report and until is None and (file := _write_page(call, result)):
            answer["report"] = str(file)
        if until == "simulate":
            answer["prior_predictive"] = _show_prior(call, result.outcomes[-1])
        if result.stopped:
            answer["stopped"] = str(result.stopped)
            if call.shows:
                screen.show_stopped(result.stopped, console())
        if isinstance(result.stopped, UserCodeError):
            raise typer.Exit(result.stopped.exit_code)
        if result.passed is False:
            raise typer.Exit(4)
        if result.passed is None and "check" in result.latest:
            raise typer.Exit(5)


def _run_row(call: Call, row: int, *, alone: bool) -> None:
    with answering(call.json) as answer:
        if not alone:
            raise UsageError([Mistake("--row", "runs one row, and no stage; leave --until and --redo out")])
        answer |= foreground.run_row(call.problem, call.store, call.reporter, row, aside=call.json)
        if call.shows:
            screen.show_used(answer, console())


def _write_page(call: Call, came: runner.RunResult | SimferError) -> Path | None:
    file = pages.after(call.problem, call.store, call.config, call.settings, call.reporter, came)
    if file and isinstance(came, SimferError):
        call.reporter.note(f"report: {file}")  # what is printed of a failure has nothing after it
    elif file and call.shows:
        screen.written(file, console())
    return file


def _show_prior(call: Call, simulations: runner.Outcome) -> dict[str, Any]:
    """Hold the first runs against the data: a wrong unit, a missed dose shows before anything is trained."""
    file, words = pages.prior_predictive(call.problem, call.store, call.config, simulations)
    if call.shows:
        screen.prior(file, words, console())
    return {"picture": str(file) if file else None, "warnings": words}


def _run_to(stage: Stage) -> Callable[..., None]:
    def run_to(call: Call, redo: Redo = None, workers: Workers = None, engine: Engine = None) -> None:
        _run(call, stage, redo, report=False, workers=workers, engine=engine)

    return run_to


_STAGES: dict[Stage, str] = {
    "simulate": "Run the simulator many times.",
    "dataset": "Make the training set of the simulations.",
    "train": "Train the emulator.",
    "infer": "Draw from the posterior, with the emulator as the likelihood.",
    "check": "Hold the posterior against the true simulator.",
}
_command("run", _CHAIN, _run)
for _stage, _help in _STAGES.items():
    _command(_stage, _CHAIN, _run_to(_stage), f"{_help} What this needs and the store lacks is run first.")


def _extend(
    call: Call,
    num_simulations: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="How many there are to be in all.")],
    workers: Workers = None,
    engine: Engine = None,
) -> None:
    """Grow the ensemble: raise num_simulations in the config, and run what is new; the rows that are there are kept."""
    with answering(call.json) as answer:
        call = call.drained(engine, workers)
        before = extending.extend(call.config, num_simulations)
        call.reporter.note(f"{call.config.name}: num_simulations = {num_simulations}, which was {before}")
        result = runner.execute(call.problem, call.store, until="simulate", reporter=call.reporter, folder=call.folder)
        answer |= in_json(result)
        if call.shows:
            screen.show_end(result.latest, console())


_command("extend", _CHAIN, _extend)


def _status(
    call: Call,
    why: Annotated[bool, typer.Option("--why", help="Say what changed, from what to what.")] = False,
) -> None:
    """Show which steps are cached, since when, and why or why not."""
    with answering():
        plan = plans.Plan(call.problem, call.store)
        rows = [(step, plan.find(step), reasons.why(step, plan) if why else []) for step in plan.walk()]
        needed = runner.to_build(
            [step for step, _, _ in rows], {step.fingerprint for step, found, _ in rows if found.sound}
        )
        screen.status(rows, needed, console())
        screen.further(rows, call.problem.refine.max_rounds, console())


def _show(
    call: Call,
    format: Annotated[
        Literal["latex", "csv", "json", "markdown"] | None,
        typer.Option(help="Print the posterior's table alone, so written.", show_default=False),
    ] = None,
    interval: Annotated[Literal["equal-tailed", "hdi"], typer.Option(help="Of that table.")] = "equal-tailed",
    level: Annotated[float, typer.Option(metavar="SHARE", help="Probability that the interval holds.")] = 0.9,
    timing: Annotated[
        bool, typer.Option("--timing", help="Print where the time went alone: each step by part, in seconds.")
    ] = False,
) -> None:
    """Show the verdict, the posterior, the emulator's error, and where the files lie."""
    with answering():
        if not 0.0 < level < 1.0:
            raise UsageError([Mistake("--level", f"got {level:g}, expected a share between 0 and 1, such as 0.9")])
        plan = plans.Plan(call.problem, call.store)
        if timing:
            screen.timing([(step, plan.find(step)) for step in plan.walk()], console())
            return
        found = runner.built(plan)
        if format is None:
            screen.show(found, console(), runner.damaged(plan))
        else:
            print(pages.posterior_table(call.problem, found, format, interval, level), end="")


def _path(
    call: Call,
    stage: Annotated[Stage, typer.Argument(metavar="STAGE", help=", ".join(STAGES), show_default=False)],
) -> None:
    """Print the folder of a stage's latest artifact, alone, for scripts."""
    with answering():
        plan = plans.Plan(call.problem, call.store)
        found = runner.built(plan)
        if stage not in found:
            what = runner.damaged(plan).get(stage)
            state = f"damaged ({what})" if what else "not built yet"
            raise SimferError(f"{stage} is {state}; `simfer {stage} {call.config}` builds it")
        print(found[stage].folder)


def _report(
    call: Call,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .html file (default: STORE/reports/CONFIG.html).", show_default=False),
    ] = None,
) -> None:
    """Write all that there is of a run into one page of HTML, to look at, to send, to print."""
    with answering(call.json) as answer:
        file = pages.write(call.problem, call.store, call.config, call.settings, output=output)
        answer |= {"file": str(file)}
        if call.shows:
            screen.written(file, console())


_command("report", _LOOK, _report)
_command("status", _LOOK, _status, looks=True)
_command("show", _LOOK, _show, looks=True)
_command("path", _LOOK, _path, looks=True)


@app.command("list", cls=_Command, rich_help_panel=_LOOK)
def list_names(
    table: Annotated[
        Literal["simulators", "architectures", "noise", "priors", "settings", "schema"],
        typer.Argument(
            metavar="TABLE",
            help="simulators, architectures, noise, priors; settings: every key of a config; schema: a JSON Schema "
            "of it for editors (`simfer list schema > simfer.schema.json`, and `#:schema simfer.schema.json` as a "
            "config's first line).",
            show_default=False,
        ),
    ],
    section: Annotated[
        str | None, typer.Argument(metavar="SECTION", help="Of the settings, one table.", show_default=False)
    ] = None,
) -> None:
    """List what a config can say: the names that it can use, and all its keys."""
    with answering():
        if section and table != "settings":
            raise UsageError([Mistake(f"list {table} {section}", "expected a section after `settings` alone")])
        if table == "schema":
            print(dumps(chain.schema(), indent=1, ensure_ascii=False))
        elif table == "settings":
            screen.settings(chain.settings(section), console())
        else:
            screen.listing(chain.describe(table), console())


def _study(study: Study) -> Callable[..., None]:
    def run_study(call: Call, workers: Workers = None, engine: Engine = None, **given: Any) -> None:
        settings = [f"{each.key}={dumps(value)}" for each in study.options if (value := given[each.name])]
        call = replace(call, settings=(*call.settings, *settings))
        with answering(call.json) as answer:
            call = call.drained(engine, workers)
            outcome = runner.execute_study(
                call.problem, call.store, study.name, reporter=call.reporter, folder=call.folder
            )
            answer |= outcome.summary | {"folder": str(outcome.folder)}
            if call.shows:
                screen.show_study(outcome, console())
            if outcome.summary["facts"].get("passed") is False:
                raise typer.Exit(4)

    return run_study


def _option(option: Option) -> Any:
    metavar = "NAME" if option.type == list[str] else "NUMBER"
    return Annotated[option.type | None, typer.Option(metavar=metavar, help=option.help, show_default=False)]


for _each in STUDIES.values():
    _options = {option.name: _option(option) for option in _each.options}
    _command(_each.name, _STUDY, _study(_each), _each.help, options=_options)


def _predict(
    call: Call,
    parameters: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A CSV file: parameters' names, then points.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .csv or .nc file (default: POINTS_predicted.csv).", show_default=False),
    ] = None,
) -> None:
    """Write what the emulator predicts at many points, with errors, into a CSV or NetCDF file."""
    target = output or parameters.with_name(f"{parameters.stem}_predicted.csv")
    _use(call, lambda: use.predict(parameters, target))


def _export(
    call: Call,
    format: Annotated[Literal["onnx", "stablehlo"], typer.Option(help="What to write.", show_default=False)],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write into.")] = Path("export"),
) -> None:
    """Write the emulator as a file for other programs, checked against the original, with a model card."""
    _use(call, lambda: use.export(call.problem, format, output, call.config.stem))


def _serve(
    call: Call,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="NUMBER", help="The port; 0 takes one that is free.")
    ] = 4242,
) -> None:
    """Answer for the emulator over HTTP on this machine, as a model of UM-Bridge, until Ctrl-C."""
    _use(call, lambda: use.serve(port))


def _use(call: Call, make: Callable[[], use.Tool]) -> None:
    with answering(call.json) as answer:
        answer |= use.use(call.problem, call.store, call.reporter, call.folder, make())
        if call.shows:
            screen.show_used(answer, console())


def _plots(
    call: Call,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write into.")] = Path("figures"),
) -> None:
    """Draw what a run came to for a paper, as the `plots` of the config have it: PDF and SVG, at a column's width."""
    with answering(call.json) as answer:
        files = pages.draw(call.problem, call.store, output)
        answer |= {"pictures": [str(file) for file in files]}
        if call.shows:
            screen.pictures(files, console())


_command("plots", _LOOK, _plots)


def _ask(
    call: Call,
    num: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="How many points, at most.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The CSV file to write.")] = Path("next.csv"),
    again: Annotated[bool, typer.Option("--again", help="Also those that were given out and not told.")] = False,
) -> None:
    """Write the points whose runs the chain waits for, where somebody else makes them (simulator = "ask")."""
    with answering(call.json) as answer:
        answer |= asking.ask(call.problem, call.store, call.reporter, call.folder, num, output, again)
        if answer["facts"]["points"]:
            answer["facts"]["next"] = f"run them, keep their column `run`, then: simfer tell {call.config} DONE.csv"
        if call.shows:
            screen.show_used(answer, console())


def _tell(
    call: Call,
    results: Annotated[Path, typer.Argument(metavar="FILE", help="What came back.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Let it say otherwise than what was told before.")] = False,
) -> None:
    """Take in the runs of a file, matched by `run`; points of your own, without a name, are taken in too."""
    with answering(call.json) as answer:
        answer |= asking.tell(call.problem, call.store, results, replace)
        if not answer["warnings"]:  # nothing is waited for
            answer["facts"]["next"] = f"simfer ask {call.config}, which goes on with the chain"
        if call.shows:
            screen.show_used(answer, console())


_command("ask", _CHAIN, _ask)
_command("tell", _CHAIN, _tell)
_command("predict", _USE, _predict)
_command("export", _USE, _export)
_command("serve", _USE, _serve)


@app.command("compare-models", cls=_Command, epilog=_EPILOG, rich_help_panel=_STUDY)
def compare_models(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="Two or more, run already.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="A .png file for what each predicts.")] = Path(
        "models.png"
    ),
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Hold models of the same data against one another: PSIS-LOO, stacking weights, evidence, predictions."""
    with answering(as_json) as answer:
        answer |= pages.compare_models(configs, store, output)
        if not as_json:
            screen.show_used(answer, console())
            screen.pictures([output], console())


@app.command(cls=_Command, rich_help_panel=_LOOK)
def overview(
    configs: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="Two or more; others are held against the first.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .html file (default: STORE/reports/overview.html).", show_default=False),
    ] = None,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Write several runs into one page: how each stands, what changed between their configs, and what came of it."""
    with answering(as_json) as answer:
        answer |= {"file": str(file := pages.overview(configs, store, output))}
        if not as_json:
            screen.written(file, console())


@app.command(cls=_Command, rich_help_panel=_LOOK)
def cite(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="Whose methods to cite as well.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .bib file to write (default: print).", show_default=False)
    ] = None,
) -> None:
    """Print what to cite in BibTeX: Simfer, the libraries that carry it, and the methods that a config names."""
    with answering():
        problem = configs.load(config) if config else None
        text = chain.cite(problem, runtime.versions().get("simfer", ""))
        if output is None:
            print(text, end="")
        else:
            output.write_text(text, encoding="utf-8")
            screen.written(output, console(), "References")


def _pack(
    call: Call,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The ZIP file to write.", show_default=False)],
) -> None:
    """Write config, code, data, artifacts and versions into one file, for a colleague or a journal."""
    with answering(call.json) as answer:
        answer |= packing.pack(call.config, call.problem, call.store, output)
        if call.shows:
            screen.show_used(answer, console())


_command("pack", _PROJECT, _pack)


@app.command(cls=_Command, rich_help_panel=_PROJECT)
def unpack(
    packed: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `simfer pack`.", show_default=False)],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="A folder that is not there yet.", show_default=False)
    ] = None,
) -> None:
    """Write what was packed into a new folder, after its digests; nothing of it is run."""
    with answering():
        screen.show_used(packing.unpack(packed, folder or Path(packed.stem)), console())


@app.command(cls=_Command, rich_help_panel=_CHAIN)
def work(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="That of --engine spool:FOLDER.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Rows at a time (default: the cores).", show_default=False),
    ] = None,
    idle: Annotated[str, typer.Option(metavar="TIME", help="End when nothing was asked for so long: 30m, 1h.")] = "1h",
) -> None:
    """Run rows for `--engine spool:FOLDER`, on a machine that sees the folder: under any job array."""
    with answering():
        seconds = project.seconds("--idle", idle)
        done = chain.work(folder, workers, seconds, lambda text: print(text, flush=True))
        print(f"{done} blocks were run")


@app.command(cls=_Command, rich_help_panel=_PROJECT)
def new(
    directory: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet, or empty.")],
) -> None:
    """Start a project: a config, a simulator with an ODE in it, data, and a README; it runs as it is."""
    with answering():
        print(f"{directory} is ready. Try: simfer run {project.start(directory)}")


@app.command(cls=_Command, rich_help_panel=_PROJECT)
def clean(
    configs: Annotated[
        list[Path] | None, typer.Argument(metavar="[CONFIG]...", help="Configs to keep, besides those in configs/.")
    ] = None,
    older_than: Annotated[str, typer.Option(metavar="TIME", help="Spare what is younger: 30d, 12h, 45m.")] = "0d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    store: Store = None,
) -> None:
    """Remove the artifacts that no config in configs/, or named here, refers to."""
    with answering():
        screen.swept(project.sweep(configs or [], older_than, dry_run, store), dry_run, console())


def main() -> None:
    """Run the command line."""
    # Looking for cycles every 700 objects is a tenth of a run's time: JAX and Matplotlib make millions. And most of
    # what outlives one look is there to stay: looked at again after ten more, it took 7 of the lynx-hare demo's 110 s.
    gc.set_threshold(20_000, 40, 10)
    atexit.register(gc.freeze)  # nor is anything to be looked for in what ends now: a second or more of every run
    stopping.listen()
    app(prog_name="simfer")


if __name__ == "__main__":
    main()
