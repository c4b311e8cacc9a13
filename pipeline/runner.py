"""Bring a problem's chain to its end: step by step and round by round, until the verdict is good."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simfer.pipeline import chain
from simfer.pipeline.build import Builder, Outcome, reuse
from simfer.pipeline.chain import STAGES, ConfigError, Problem, SimferError, StageError, UserCodeError
from simfer.pipeline.leases import lease
from simfer.pipeline.manifest import Manifest
from simfer.pipeline.plan import Plan, Step
from simfer.pipeline.progress import Progress, Silent
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES

__all__ = [
    "Outcome",
    "RunResult",
    "built",
    "damaged",
    "execute",
    "execute_study",
    "in_a_line",
    "latest",
    "to_build",
    "with_emulator",
]


@dataclass
class RunResult:
    """The steps that were brought up to date, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)
    stopped: SimferError | None = None  # why a round that came after a verdict could not go on

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
        return latest(self.outcomes)

    @property
    def last_round(self) -> int:
        """Return the round of the latest artifacts."""
        return max(outcome.step.link.round for outcome in self.latest.values())


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
    if few := chain.too_few(problem, until):
        raise ConfigError(few)
    result = RunResult()

    def ended(step: Step) -> Manifest:
        return result.outcomes[-1].manifest

    with lease(store.root) as held:
        builder = Builder(problem, store, redo, reporter or Silent(), folder, held)
        for step in builder.plan.walk(ended, others=redo is None):
            if step.link.variant:
                continue  # brought where it is read
            try:
                result.outcomes.append(outcome := builder.bring(step))
            except (StageError, UserCodeError) as error:
                if "check" not in result.latest:
                    raise
                result.stopped = error
                builder.reporter.note(f"{step.link.name}: {error}")
                break
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
    extra = study.added(problem, result.last_round)
    with lease(store.root) as held:
        builder = Builder(problem, store, None, listener, folder, held)
        list(builder.plan.walk())
        return builder.bring([builder.plan.step(link) for link in extra][-1])


def with_emulator(
    problem: Problem, store: Store, *, reporter: Progress | None = None, folder: Path | None = None
) -> dict[str, Outcome]:
    """Return the latest artifact of each stage, the emulator's whole; the first round's is built if there is none."""
    builder = Builder(problem, store, None, reporter or Silent(), folder)
    latest = built(builder.plan)
    step = latest["train"].step if "train" in latest else builder.plan.steps["train-0"]
    return latest | {"train": builder.bring(step, thorough=True)}


def to_build(steps: Iterable[Step], sound: Collection[str]) -> set[str]:
    """Name the steps that are not there; a candidate is no such step if what was chosen from it is there."""
    missing = [step for step in steps if step.fingerprint not in sound]
    own = {step.link.name for step in missing if not step.link.variant}
    read = {name for step in missing if step.link.name in own for names in step.link.inputs.values() for name in names}
    return own | {step.link.name for step in missing if step.link.name in read}


def built(plan: Plan) -> dict[str, Outcome]:
    """Return the latest artifact of each stage that the store has, of the rounds that were needed."""
    steps = [step for step in plan.walk() if not step.link.variant]
    found = [(step, plan.find(step)) for step in steps]
    return latest([reuse(step, each) for step, each in found if each.sound])


def latest(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """Return the latest artifact of each stage: where there is a verdict, of the last round that has one.

    A round that came to no end takes nothing away from what the one before it had to answer.
    """
    rounds = [outcome.step.link.round for outcome in outcomes if outcome.step.stage == "check"]
    most = rounds[-1] if rounds else None
    return {each.step.stage: each for each in outcomes if most is None or each.step.link.round <= most}


def damaged(plan: Plan) -> dict[str, str]:
    """Say of each stage whose latest artifact is there and cannot be trusted what is wrong with it."""
    steps = [step for step in plan.walk() if not step.link.variant]
    seen = ((step, plan.find(step)) for step in steps)
    return {step.stage: f"{found.folder}: {in_a_line(found.damage)}" for step, found in seen if found.damage}


def in_a_line(damage: Mapping[str, str]) -> str:
    """Write what is wrong with files, the first of them by name."""
    name, what = next(iter(damage.items()))
    return f"{name} {what}" + (f", and {len(damage) - 1} files more" if len(damage) > 1 else "")
