"""The page of a run: gathered from the store, with what ended it where it did not end well."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, runtime
from simfer.pipeline import config as settings
from simfer.pipeline.chain import ConfigError, Mistake, Problem, SimferError, UsageError
from simfer.pipeline.plan import Plan, Step, files_of, user_files
from simfer.pipeline.progress import Progress
from simfer.pipeline.runner import Outcome, RunResult, built
from simfer.pipeline.store import Found, Store

_FOLDER = "reports"  # of the store, beside the stages


@dataclass(frozen=True)
class Origin:
    """What a config is called, what it says, and where it lies."""

    name: str
    text: str
    folder: Path

    @classmethod
    def of(cls, config: Path | Mapping[str, Any]) -> Origin:
        """Read a config's file; a table of a notebook's has no name of its own."""
        if isinstance(config, Mapping):
            return cls("problem", json.dumps(config, indent=1, default=str, ensure_ascii=False), Path.cwd())
        return cls(config.stem, config.read_text(encoding="utf-8"), config.resolve().parent)


def text_of(problem: Problem, store: Store, config: Path | Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Return the page of what the store has of a config."""
    plan = Plan(problem, store)
    runtime.prepare()
    return chain.report_text(_material(plan, list(plan.walk()), config, overrides, None))


def file_of(store: Store, config: Path) -> Path:
    """Return where a config's page lies."""
    return store.root / _FOLDER / f"{config.stem}.html"


def write(
    problem: Problem,
    store: Store,
    config: Path,
    overrides: Sequence[str] = (),
    *,
    output: Path | None = None,
    error: SimferError | None = None,
) -> Path:
    """Write the page of what the store has of a config; return its file.

    Args:
        problem: The config, checked.
        store: Where the artifacts are.
        config: The config's file.
        overrides: What the command line set over it.
        output: The page's file, if not the store's own for this config.
        error: What ended the run; if left out, what ended the last one of the same steps, if it was noted down.
    """
    plan = Plan(problem, store)
    steps = list(plan.walk())
    file, note = output or file_of(store, config), file_of(store, config).with_suffix(".failed.json")
    failure = _noted(note, steps) if error is None else _failure(error)
    runtime.prepare()
    chain.write_report(_material(plan, steps, config, overrides, failure), file)
    if error is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(_failure(error) | {"of": steps[-1].fingerprint}))
    return file


def after(
    problem: Problem,
    store: Store,
    config: Path,
    overrides: Sequence[str],
    reporter: Progress,
    came: RunResult | SimferError,
) -> Path | None:
    """Write the page at the end of a run, however it ended; a run is no worse for a page that could not be written.

    Args:
        problem: The config, checked.
        store: Where the artifacts are.
        config: The config's file.
        overrides: What the command line set over it.
        reporter: Who is told if there is no page.
        came: What the run came to, or what ended it.

    Returns:
        The page's file; None where there is none, as for a config that cannot be run.
    """
    file = file_of(store, config)
    if isinstance(came, ConfigError):
        return None
    if isinstance(came, RunResult):
        failed = file.with_suffix(".failed.json")
        if file.exists() and not failed.exists() and not overrides and all(each.cached for each in came.outcomes):
            newest = max(each.folder.stat().st_mtime for each in came.outcomes)
            if file.stat().st_mtime > max(newest, config.stat().st_mtime):
                return file
        failed.unlink(missing_ok=True)
    try:
        error = came if isinstance(came, SimferError) else came.stopped
        return write(problem, store, config, overrides, error=error)
    except Exception as error:
        reporter.note(f"no report was written: {type(error).__name__}: {error}")
        return None


def draw(problem: Problem, store: Store, folder: Path) -> list[Path]:
    """Draw every picture of what the store has of a config into a folder; return their files."""
    plan = Plan(problem, store)
    steps = _there(plan, list(plan.walk()))
    if not steps:
        raise SimferError("there is nothing to draw yet; `simfer run` makes it")
    folders = {step["stage"]: step["folder"] for step in steps}
    if steps[0]["stage"] == "simulate":
        folders["first"] = steps[0]["folder"]
    runtime.prepare()
    files: list[Path] = chain.gallery(problem, folders).write(folder)
    return files


def compare_models(configs: Sequence[Path], chosen: str | None, file: Path) -> dict[str, Any]:
    """Compare what several configs, run already, came to on the same data; return the summary."""
    models = {}
    for name, path in _named("compare-models", configs).items():
        problem = settings.load(path)
        store = Store(settings.store_folder(settings.project_folder(path), chosen))
        found = built(Plan(problem, store))
        if "infer" not in found:
            raise SimferError(f"{path} has no posterior yet; `simfer run {path}` makes one")
        models[name] = problem, {stage: outcome.folder for stage, outcome in found.items()}
    runtime.prepare()
    return chain.compare_models(models, file)


def _named(command: str, configs: Sequence[Path]) -> dict[str, Path]:
    """Return two configs or more by the names of their files, with their folders where these are not enough."""
    if len(configs) < 2:
        raise UsageError([Mistake(command, f"got {len(configs)} config, expected two or more")])
    stems = [each.stem for each in configs]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in configs}


def overview(configs: Sequence[Path], chosen: str | None, output: Path | None) -> Path:
    """Write the page of several runs, the first being the one that others are held against; return its file."""
    named, materials, pages = _named("overview", configs), [], {}
    runtime.prepare()
    store = Store(settings.store_folder(settings.project_folder(configs[0]), chosen))
    file = output or store.root / _FOLDER / "overview.html"
    for name, path in named.items():
        own = Store(settings.store_folder(settings.project_folder(path), chosen))
        plan = Plan(settings.load(path), own)
        materials.append(_material(plan, list(plan.walk()), path, [], None) | {"name": name})
        if (page := file_of(own, path)).exists():
            pages[name] = Path(os.path.relpath(page, file.parent)).as_posix()
    chain.write_overview(materials, pages, file)
    return file


def posterior_table(problem: Problem, found: Mapping[str, Outcome], format: str, interval: str, level: float) -> str:
    """Return the posterior's table as text, for a paper or for another program."""
    if "infer" not in found:
        raise SimferError("there is no posterior yet; `simfer infer` makes it")
    runtime.prepare()
    return chain.posterior_table(problem, found["infer"].folder, format, interval, level)


def prior_predictive(
    problem: Problem, store: Store, config: Path, simulations: Outcome
) -> tuple[Path | None, list[str]]:
    """Draw fifty runs over the data; return the picture's file, and words on data that no run comes near."""
    file = file_of(store, config).with_suffix(".prior.png")
    runtime.prepare()
    summary = chain.prior_predictive(problem, simulations.folder, file)
    return file if summary["pictures"] else None, summary["warnings"]


def _failure(error: SimferError) -> dict[str, str]:
    what = str(error)
    where = "The config" if isinstance(error, ConfigError) else type(error).__name__.removesuffix("Error")
    words = {"Stage": "A stage could not go on", "UserCode": "Your own code raised an exception", "Simfer": "It ended"}
    return {"where": words.get(where, where), "what": what}


def _noted(note: Path, steps: Sequence[Step]) -> dict[str, str] | None:
    try:
        stored = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    same = stored.pop("of", None) == steps[-1].fingerprint
    return stored if same else None


def _material(
    plan: Plan,
    steps: Sequence[Step],
    config: Path | Mapping[str, Any],
    overrides: Sequence[str],
    failure: Mapping[str, str] | None,
) -> dict[str, Any]:
    problem, origin = plan.problem, Origin.of(config)
    return {
        "name": origin.name,
        "config": origin.text,
        "overrides": list(overrides),
        "code": {file.name: _text(file) for file in sorted(user_files(problem))},
        "data": {file.name: _text(file) for file in sorted(files_of(problem))},
        "problem": problem,
        "steps": _there(plan, steps),
        "simfer": runtime.versions().get("simfer", ""),
        "revision": runtime.revision(origin.folder),
        "failure": failure,
        "loading": chain.loading(problem),
    }


def _there(plan: Plan, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Describe the steps that the store has, of those that were done more than once (with more draws) the last."""
    own = {step.link.name: step for step in steps if not step.link.variant and plan.manifest(step)}
    return [_step(step, plan.find(step)) for step in own.values()]


def _step(step: Step, found: Found) -> dict[str, Any]:
    assert found.manifest is not None
    kept = {key: found.manifest[key] for key in ("versions", "device", "finished", "seconds")}
    place = {"name": step.link.name, "stage": step.stage, "round": step.link.round, "folder": found.folder}
    summary = chain.judged(step.link, found.manifest["summary"])
    return place | {"fingerprint": found.folder.name, "summary": summary} | kept


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return "(not shown: it is no text)"
    except OSError as error:
        return f"(not shown: {error})"
