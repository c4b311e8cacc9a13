"""What a page is made of: what the steps have said, and where their artifacts lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from simfer.stages.settings import Prior, Problem
from simfer.stages.settings.noise import quantities

_ORDER = ("simulate", "dataset", "train", "infer", "check")


@dataclass(frozen=True)
class Step:
    """One step of a run: plain data of its manifest."""

    name: str
    stage: str
    round: int
    folder: Path
    fingerprint: str
    summary: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    finished: str
    seconds: float

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts by name."""
        return dict(self.summary.get("facts", {}))

    def table(self, beginning: str) -> Sequence[Mapping[str, Any]]:
        """Return the first table whose title begins so; an empty one if there is none."""
        tables = self.summary.get("tables", {})
        return next((rows for title, rows in tables.items() if title.startswith(beginning)), [])


@dataclass(frozen=True)
class Failure:
    """What ended a run before its end."""

    where: str
    what: str


@dataclass(frozen=True)
class Material:
    """One run of one config: what is there of it, and what failed."""

    name: str
    config: str  # the text of the file
    overrides: Sequence[str]
    code: Mapping[str, str]  # files of the user's own, by name
    data: Mapping[str, str]  # the files of data, by name
    problem: Problem
    steps: Sequence[Step]  # of every round that there is
    simfer: str  # the version that writes the page
    revision: str | None = None
    failure: Failure | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)  # what loads the emulator

    @cached_property
    def latest(self) -> dict[str, Step]:
        """The last step of each stage."""
        return {step.stage: step for step in self.steps}

    @property
    def rounds(self) -> dict[int, dict[str, Step]]:
        """The steps of each round, by stage."""
        found: dict[int, dict[str, Step]] = {}
        for step in self.steps:
            found.setdefault(step.round, {})[step.stage] = step
        return found

    @property
    def num_simulations(self) -> int:
        """How often the simulator was run, those of the checks counted."""
        counted = {"simulate": "rows", "check": "simulations"}
        return sum(int(step.facts.get(counted.get(step.stage, "")) or 0) for step in self.steps)

    @property
    def passed(self) -> bool | None:
        """The verdict; None where there is none."""
        return self.latest["check"].facts.get("passed", False) if "check" in self.latest else None

    @property
    def priors(self) -> dict[str, Prior]:
        """Every quantity with a prior, those of the noise too, by the name that the posterior has it under."""
        return priors_of(self.problem)


def priors_of(problem: Problem) -> dict[str, Prior]:
    """Return every quantity of a problem with a prior, by the name that the posterior has it under."""
    noise = {each.name: each.value for each in quantities(problem.noise, problem.noise_parameters)}
    every = dict(problem.parameters) | noise
    return {name: value for name, value in every.items() if isinstance(value, Prior)}
