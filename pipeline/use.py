"""Use a problem's emulator beside the chain: the latest that is built, or the first round's, built for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, runtime
from simfer.pipeline.blame import blame
from simfer.pipeline.chain import Mistake, Problem, SimferError, UsageError
from simfer.pipeline.plan import user_files
from simfer.pipeline.progress import Progress
from simfer.pipeline.runner import Outcome, with_emulator
from simfer.pipeline.store import Store

Summary = dict[str, Any]
Tool = Callable[[dict[str, Outcome], Progress], Summary]


def use(problem: Problem, store: Store, reporter: Progress, folder: Path, tool: Tool) -> Summary:
    """Bring the emulator and hand it, with the latest artifact of each stage, to a tool."""
    found = with_emulator(problem, store, reporter=reporter, folder=folder)
    runtime.prepare()
    with blame("using the emulator", lambda: user_files(problem)):
        return tool(found, reporter)


def predict(parameters: Path, output: Path) -> Tool:
    """Predict at the points of one file, into another; what is wrong with their names is said at once."""
    if output.suffix not in (".csv", ".nc"):
        raise _mistyped("--output", f"got {output}, expected a name that ends in .csv or .nc")
    if not output.resolve().parent.is_dir():
        raise _mistyped("--output", f"got {output}, and there is no folder {output.parent}")
    if output.is_dir():
        raise _mistyped("--output", f"got {output}, which is a folder; expected a file")
    if not parameters.is_file():
        raise _mistyped("--parameters", f"got {parameters}, and there is no such file")
    if output.resolve() == parameters.resolve():
        raise _mistyped("--output", f"got {output}, which is --parameters too; name another file")

    def tool(found: dict[str, Outcome], reporter: Progress) -> Summary:
        train = found["train"]
        with _written(output):
            return chain.predict(train.step.link, train.folder, reporter, parameters=parameters, output=output)

    return tool


def export(problem: Problem, format: str, folder: Path, name: str) -> Tool:
    """Write the emulator as a file for other programs, and its model card."""
    if folder.exists() and not folder.is_dir():
        raise _mistyped("--output", f"got {folder}, which is a file; expected a folder")

    def tool(found: dict[str, Outcome], reporter: Progress) -> Summary:
        train = found["train"]
        options = {"format": format, "folder": folder, "name": name, "facts": _facts(problem, found)}
        with _written(folder):
            return chain.export(train.step.link, train.folder, reporter, **options)

    return tool


def serve(port: int) -> Tool:
    """Answer for the emulator over HTTP, until the command is interrupted."""

    def tool(found: dict[str, Outcome], reporter: Progress) -> Summary:
        train = found["train"]
        return chain.serve(train.step.link, train.folder, reporter, port=port)

    return tool


def _mistyped(option: str, what: str) -> UsageError:
    return UsageError([Mistake(option, what)])


@contextmanager
def _written(to: Path) -> Iterator[None]:
    """Say in words why a place could not be written to: it is the user's, and no fault of ours."""
    try:
        yield
    except OSError as error:
        raise SimferError(f"--output {to} could not be written: {error}") from error


def _facts(problem: Problem, found: dict[str, Outcome]) -> Summary:
    """Gather what a model card says of the training."""
    train = found["train"]
    same = [outcome for outcome in found.values() if outcome.step.link.round == train.step.link.round]
    summaries = {outcome.step.stage: outcome.summary for outcome in same}
    checked = summaries.get("check", {}).get("facts", {})
    return {
        "simulator": Path(problem.simulate.label).name or "none: a table of finished runs",
        "design": _design(problem),
        "round": train.step.link.round,
        "rows": summaries.get("dataset", {}).get("facts", {}),
        "errors": next(iter(train.summary.get("tables", {}).values()), []),
        "checked": {True: "passed", False: "failed"}.get(checked.get("passed", "")),
        "versions": train.manifest["versions"],
        "device": train.manifest["device"],
        "finished": train.manifest["finished"],
        "fingerprint": train.step.fingerprint,
    }


def _design(problem: Problem) -> str:
    """Say where the first round's rows lie."""
    settings = problem.simulate
    finished = (
        [f"finished runs of {', '.join(Path(file).name for file in settings.table.files)}"] if settings.table else []
    )
    num, kind = settings.num_simulations, settings.design
    return " and ".join(finished + ([f"{num:,} points of the prior ({kind})"] if num else []))
