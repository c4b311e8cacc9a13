"""What a run gives to Python: its artifacts as objects, each opened when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, config, description, runtime
from simfer.pipeline.chain import Problem, SimferError
from simfer.pipeline.plan import plan
from simfer.pipeline.progress import reporter
from simfer.pipeline.runner import Outcome, built, execute
from simfer.pipeline.store import Store

Config = str | Path | Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class Result:
    """The latest artifact of each stage, and every step of the run in its order."""

    outcomes: Mapping[str, Outcome]
    history: Sequence[Outcome] = ()

    @property
    def folders(self) -> dict[str, Path]:
        """Return the folder of each stage's artifact."""
        return {stage: outcome.folder for stage, outcome in self.outcomes.items()}

    @property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """Return what each stage had to say: its facts, tables, warnings and pictures."""
        return {stage: outcome.summary for stage, outcome in self.outcomes.items()}

    @cached_property
    def simulations(self) -> Any:
        """Open the simulations."""
        return self._load("simulate")

    @cached_property
    def dataset(self) -> Any:
        """Open the training set."""
        return self._load("dataset")

    @cached_property
    def emulator(self) -> Any:
        """Load the emulator: named parameters in, named outputs out."""
        return self._load("train")

    @cached_property
    def posterior(self) -> Any:
        """Open the posterior."""
        return self._load("infer")

    @cached_property
    def verdict(self) -> Any:
        """Open the verdict of the true simulator on the posterior."""
        return self._load("check")

    def __repr__(self) -> str:
        return description.result_in_words(self.summaries, self.folders)

    def _repr_html_(self) -> str:
        return description.result_in_html(self.summaries, self.folders)

    def _load(self, stage: str) -> Any:
        if stage not in self.outcomes:
            raise SimferError(f"{stage} has not been run; there is {', '.join(self.outcomes) or 'nothing yet'}")
        runtime.prepare()
        return chain.load(self.outcomes[stage].step.link, self.outcomes[stage].folder)


def run(
    problem: Config,
    *,
    overrides: Sequence[str] = (),
    store: str | Path | None = None,
    until: str | None = None,
    redo: str | None = None,
    quiet: bool | None = None,
) -> Result:
    """Run a config (a file, or a table with paths relative to the current folder) and return what came out."""
    checked, folder = _read(problem, overrides)
    place, listener = _store(problem, store), reporter(quiet)
    result = execute(checked, place, until=until, redo=redo, reporter=listener, folder=folder)
    return Result(result.latest, result.outcomes)


def load(problem: Config, *, overrides: Sequence[str] = (), store: str | Path | None = None) -> Result:
    """Return what the store has for a config, and run nothing."""
    return Result(built(plan(_read(problem, overrides)[0]), _store(problem, store)))


def _read(problem: Config, overrides: Sequence[str]) -> tuple[Problem, Path]:
    if isinstance(problem, Mapping):
        return config.from_table(problem, overrides, folder=Path.cwd()), Path.cwd()
    return config.load(problem, overrides), Path(problem).resolve().parent


def _store(problem: Config, chosen: str | Path | None) -> Store:
    project = Path.cwd() if isinstance(problem, Mapping) else config.project_folder(Path(problem))
    return Store(config.store_folder(project, Path(chosen) if chosen else None))
