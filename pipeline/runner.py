"""Bring a problem's chain to its end: step by step and round by round, until the verdict is good."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from simfer.pipeline.build import Builder, Outcome, has_passed, reuse
from simfer.pipeline.chain import STAGES, Problem, SimferError
from simfer.pipeline.leases import lease
from simfer.pipeline.plan import Step
from simfer.pipeline.progress import Progress, Silent
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES

__all__ = [
    "Outcome",
    "RunResult",
    "built",
    "execute",
    "execute_study",
    "has_passed",
    "to_build",
    "until_passed",
    "with_emulator",
]


@dataclass
class RunResult:
    """The steps that were brought up to date, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        """Return the last verdict; None if the posterior was not checked, for want of a simulator too."""
        verdicts = [
            outcome.summary["facts"].get("passed") for outcome in self.outcomes if outcome.step.stage == "check"
        ]
        return verdicts[-1] if verdicts else None

    @property
    def latest(self) -> dict[str, Outcome]:
        """Return the latest artifact of each stage."""
        return {outcome.step.stage: outcome for outcome in self.outcomes}


def execute(
    problem: Problem,
    store: Store,
    *,
    until: str | None = None,
    redo: str | None = None,
    reporter: Progress | None = None,
    folder: Path | None = None,
) -> RunResult:
    """Run the chain until the verdict is good or the rounds are over, or `until` a stage of the first round.

    `redo` names a stage that is built again, and all after it, even if the store has it. `folder` is that of the
    config: its git revision is noted down.
    """
    for stage in (until, redo):
        if stage is not None and stage not in STAGES:
            raise SimferError(f'got the stage "{stage}", expected one of {", ".join(STAGES)}')
    result = RunResult()
    with lease(store.root) as held:
        builder = Builder(problem, store, redo, reporter or Silent(), folder, lease=held)
        own = [step for step in builder.steps.values() if not step.link.variant]
        for step in until_passed(own, lambda step: result.outcomes[-1].passed):
            result.outcomes.append(outcome := builder.bring(step))
            if step.stage == "check" and not outcome.passed:
                builder.reporter.note(f"{step.link.name}: {outcome.summary['facts'].get('verdict', 'failed')}")
            if step.stage == until:
                break
    return result


def execute_study(
    problem: Problem, store: Store, name: str, *, reporter: Progress | None = None, folder: Path | None = None
) -> Outcome:
    """Run the chain as far as a study needs it, and then the study; return how that ended."""
    listener, study = reporter or Silent(), STUDIES[name]
    study.added(problem, 0)  # says what cannot be done before the chain is run for it
    result = execute(problem, store, until=study.until, reporter=listener, folder=folder)
    extra = study.added(problem, result.outcomes[-1].step.link.round)
    with lease(store.root) as held:
        builder = Builder(problem, store, None, listener, folder, extra, held)
        return builder.bring(builder.steps[extra[-1].name])


def with_emulator(
    problem: Problem, store: Store, *, reporter: Progress | None = None, folder: Path | None = None
) -> dict[str, Outcome]:
    """Return the latest artifact of each stage, the emulator's whole; the first round's is built if there is none."""
    builder = Builder(problem, store, None, reporter or Silent(), folder)
    latest = built(builder.steps.values(), store)
    step = latest["train"].step if "train" in latest else builder.steps["train-0"]
    return built(builder.steps.values(), store) | {"train": builder.bring(step, thorough=True)}


def until_passed(steps: Iterable[Step], passed: Callable[[Step], bool]) -> Iterable[Step]:
    """Yield steps up to the first check that has passed: no round after it is needed."""
    for step in steps:
        yield step
        if step.stage == "check" and passed(step):
            return


def to_build(steps: Iterable[Step], sound: Collection[str]) -> set[str]:
    """Name the steps that are not there; a candidate is no such step if what was chosen from it is there."""
    missing = [step for step in steps if step.link.name not in sound]
    own = {step.link.name for step in missing if not step.link.variant}
    read = {name for step in missing if step.link.name in own for names in step.link.inputs.values() for name in names}
    return own | {step.link.name for step in missing if step.link.name in read}


def built(steps: Iterable[Step], store: Store) -> dict[str, Outcome]:
    """Return the latest artifact of each stage that the store has, of the rounds that were needed."""
    latest: dict[str, Outcome] = {}
    own = (step for step in steps if not step.link.variant)
    for step in until_passed(own, lambda step: "check" in latest and latest["check"].passed):
        found = store.find(step.stage, step.fingerprint)
        if found.sound:
            latest[step.stage] = reuse(step, found)
    return latest
