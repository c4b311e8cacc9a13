"""Runs that somebody else makes: `ask` writes the points that a chain waits for, `tell` takes results in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simfer.pipeline import chain, runtime
from simfer.pipeline.chain import ConfigError, Mistake, Problem, WaitingForRuns
from simfer.pipeline.plan import Plan
from simfer.pipeline.progress import Progress
from simfer.pipeline.runner import execute
from simfer.pipeline.store import Store

Answer = dict[str, Any]


def ask(
    problem: Problem, store: Store, reporter: Progress, folder: Path, num: int | None, output: Path, again: bool
) -> Answer:
    """Run the chain until it waits for runs, and write points that nobody was given yet (or was, if `again`)."""
    _refuse_others(problem)
    try:
        result = execute(problem, store, reporter=reporter, folder=folder)
    except WaitingForRuns as error:
        step = _step_of(problem, store, error.ledger)
        count, left = chain.write_points(problem, error.ledger, output, num, again)
        facts = {"step": step, "points": count, "file": str(output) if count else None, "not_given_out": left}
        said = (
            []
            if count
            else [f"nothing is left to give out: {error}; `--again` writes those that were not told once more"]
        )
        return {"facts": facts, "warnings": said}
    return {"facts": {"step": None, "points": 0, "passed": result.passed}, "warnings": ["the chain waits for nothing"]}


def tell(problem: Problem, store: Store, file: Path, replace: bool) -> Answer:
    """Take the runs of a file in; say what is still waited for."""
    _refuse_others(problem)
    if not file.exists():
        raise ConfigError([Mistake(str(file), "no such file")])
    runtime.prepare()
    plan = Plan(problem, store)
    open_steps = [step for step in plan.walk() if chain.asks(step.link) and not plan.find(step).sound]
    asked = [store.asked(step.fingerprint) for step in open_steps]
    rounds = [step for step in open_steps if step.stage == "simulate"]
    foreign = store.asked(rounds[0].fingerprint) if rounds else None
    facts = chain.tell(problem, file, asked, foreign, replace)
    words = {step.link.name: chain.waited_for(store.asked(step.fingerprint)) for step in open_steps}
    waits = [f"{name} {what}" for name, what in words.items() if what]
    return {"facts": facts, "warnings": waits}


def _refuse_others(problem: Problem) -> None:
    if problem.simulate.kind != "ask":
        what = 'got a simulator that Simfer runs itself, expected simulator = "ask", whose runs somebody else makes'
        raise ConfigError([Mistake("simulate.simulator", what)])


def _step_of(problem: Problem, store: Store, ledger: Path) -> str:
    steps = Plan(problem, store).walk()
    return next((step.link.name for step in steps if store.asked(step.fingerprint) == ledger), "")
