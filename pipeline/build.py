"""Build what the store lacks: one step at a time, its inputs first, by one process alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, compilations, description, runtime, studies
from simfer.pipeline.blame import blame
from simfer.pipeline.chain import ConfigError, Problem, StageError, UserCodeError, WaitingForRuns
from simfer.pipeline.leases import Lease
from simfer.pipeline.manifest import NAME as MANIFEST
from simfer.pipeline.manifest import Manifest, file_digest, read
from simfer.pipeline.plan import Plan, Step, outdated, user_files
from simfer.pipeline.progress import Progress, duration, place
from simfer.pipeline.stopping import Stoppable
from simfer.pipeline.store import Found, Store, Workplace
from simfer.pipeline.timing import Timed, timed


@dataclass(frozen=True, repr=False)
class Outcome:
    """How one step ended: its artifact, and whether it was there already."""

    step: Step
    folder: Path
    manifest: Manifest
    cached: bool

    @property
    def summary(self) -> dict[str, Any]:
        """Return what the stage had to say, a verdict by the thresholds of the config."""
        return chain.judged(self.step.link, self.manifest["summary"])

    @property
    def passed(self) -> bool:
        """Say whether this is a check that came out well."""
        return bool(self.step.stage == "check" and self.summary.get("facts", {}).get("passed"))

    def __repr__(self) -> str:
        return description.outcome_in_words(*self._described())

    def _repr_html_(self) -> str:
        return description.outcome_in_html(*self._described())

    def _described(self) -> tuple[str, str, dict[str, Any], Path]:
        how = "cached" if self.cached else f"built in {duration(self.manifest['seconds'])}"
        return self.step.link.name, how, self.summary, self.folder


class Builder:
    """One run: its plan, and what of it has been seen to."""

    def __init__(
        self,
        problem: Problem,
        store: Store,
        redo: str | None,
        reporter: Progress,
        folder: Path | None,
        lease: Lease | None = None,
    ) -> None:
        self.lease = lease or Lease(store.root)
        self.problem, self.store, self.folder = problem, store, folder
        self.reporter = Timed(Stoppable(reporter))
        self.plan, self.redo = Plan(problem, store), redo
        self.again: set[str] = set()  # fingerprints of the steps that are built again
        self.is_checked = False  # the config, against the simulator
        self.intact: dict[str, Outcome] = {}  # by fingerprint: what this run has built, or hashed in full

    def bring(self, step: Step, *, thorough: bool = False) -> Outcome:
        """Return the artifact of a step, built if the store lacks it; one about to be read is hashed in full."""
        name = step.link.name
        if step.fingerprint in self.intact:
            return self.intact[step.fingerprint]
        if thorough:  # before it is looked for: what is found is there until it was read
            self.lease.hold(step.fingerprint)
            self.lease.hold(self.plan.find(step).folder.name)
        found = self.plan.find(step, thorough=thorough)
        if _is_enough(step, found) and not self._is_again(step):
            outcome = reuse(step, found)
            self.store.share(step.stage, outcome.folder, outcome.manifest)
            if what := chain.refused(step.link, outcome.summary):
                raise StageError(f"{name}: {what}")
            if what := chain.remark(step.link, outcome.summary):
                self.reporter.note(f"{name}: {what}")
            if not thorough:
                self.reporter.note(f"{name}: cached, {place(found.folder)}")
                return outcome
        else:
            outcome = self._build(step, thorough)
        self.intact[step.fingerprint] = outcome
        self.plan.shelf.built(step.fingerprint, outcome.manifest)
        return outcome

    def _is_again(self, step: Step) -> bool:
        """Say whether a step is of the stage `redo`, or reads what one of those gives that are built again."""
        given = {self.plan.steps[name].fingerprint for names in step.link.inputs.values() for name in names}
        if step.stage == self.redo or given & self.again:
            self.again.add(step.fingerprint)
        return step.fingerprint in self.again

    def _build(self, step: Step, thorough: bool) -> Outcome:
        self._check(simulates=step.stage == "simulate")
        self.lease.hold(step.fingerprint)
        name, wait = step.link.name, "another process is building it; waiting until it is done"
        with self.store.workplace(step.stage, step.fingerprint, lambda: self.reporter.note(f"{name}: {wait}")) as work:
            if step.fingerprint in self.again:
                return self._make(step, work)
            found = self._settle(step, work, thorough)
            if _is_enough(step, found):
                self.reporter.note(f"{name}: finished by another process, {place(found.folder)}")
                return reuse(step, found)
            return self._make(step, work, removed=found.damage.keys() - {MANIFEST})

    def _check(self, *, simulates: bool) -> None:
        """Hold the config against the simulator, once and before anything is built.

        Where simulations come first, a few rows are solved too.
        """
        if not self.is_checked:
            runtime.prepare()
            runtime.forget_edited(user_files(self.problem))
            if mistakes := list(outdated(self.problem)):
                raise ConfigError(mistakes)
            first = self.plan.steps.get("simulate-0")
            is_read = first is not None and first.stage != self.redo
            begun = self.store.begun(first.stage, first.fingerprint) if first and is_read else []
            with blame("checking the config", lambda: user_files(self.problem)):
                mistakes = chain.mistakes(self.problem, simulates=simulates, progress=self.reporter, begun=begun)
            if mistakes:
                raise ConfigError(mistakes)
            runtime.refuse_narrow()
            self.is_checked = True

    def _settle(self, step: Step, work: Workplace, thorough: bool) -> Found:
        """Look again now that no one else is at it: publish what only lacks its name, clear away what is damaged."""
        found = self.plan.find(step, thorough=thorough)
        for name, what in found.damage.items():
            self.reporter.note(f"{step.link.name}: damaged, so it is built again: {place(found.folder / name)}: {what}")
        if found.damage and studies.resumes(step.stage):
            work.reopen(found.damage)
        elif found.damage:
            work.discard()
        elif found.sound and not _is_enough(step, found):
            work.reopen(())
        elif not found.sound and work.adopt():
            return self.plan.find(step)
        return found

    def _make(self, step: Step, work: Workplace, removed: Collection[str] = ()) -> Outcome:
        name = step.link.name
        inputs, failed = self._inputs(step)
        started, clock = datetime.now(UTC), time.monotonic()
        self.reporter.note(f"{name}: building")
        keep = studies.resumes(step.stage) and step.fingerprint not in self.again
        building = work.open(keep=keep)
        if keep:
            self._borrow(step, building)
        with timed() as timing, chain.placed(step.link):
            summary = self._run(step, inputs, failed, building)
            if any(not (work.building / file).exists() for file in removed):
                # The stage took itself for done without what was damaged; to publish that would be to lose it unseen.
                self.reporter.note(f"{name}: not to be repaired in part; building all of it")
                summary = self._run(step, inputs, failed, work.open(keep=False))
            device = runtime.device()
        seconds = time.monotonic() - clock
        entries = self._entries(step, summary, device, started, seconds)
        entries |= {"timing": timing.seconds(), "programs": timing.num_programs}
        manifest = work.publish(entries, partial(self.plan.shelf.identify, work.building))
        manifest = self.store.share(step.stage, work.final, manifest)
        self.reporter.note(f"{name}: done in {duration(seconds)}, {place(work.final)}")
        return Outcome(step, work.final, manifest, cached=False)

    def _borrow(self, step: Step, building: Path) -> None:
        """Take over what another artifact has done of the same work: chains go on from there, rows are there."""
        lent = chain.LENT.get(step.stage)
        if lent is None or (building / lent).exists():
            return
        for lender in self.plan.shelf.lenders(step.stage, step.key, step.former):
            if (lender / lent).exists():
                copy = shutil.copytree if (lender / lent).is_dir() else shutil.copyfile
                copy(lender / lent, building / lent)
                self.reporter.note(f"{step.link.name}: goes on from {place(lender)}")
                return

    def _smaller(self, step: Step) -> list[Path]:
        """Return the ensemble of the most rows, of those that differ from a step's in their number alone."""
        found = self.plan.shelf.lenders(step.stage, step.key, step.former)
        rows = {folder: read(folder, folder.name)["summary"]["facts"]["rows"] for folder in found}
        return [max(rows, key=lambda folder: rows[folder])] if rows else []

    def _inputs(self, step: Step) -> tuple[dict[str, list[Path]], dict[str, str]]:
        """Bring what a step reads; of optional inputs those that fail are left out, with what was said of them."""
        inputs: dict[str, list[Path]] = {role: [] for role in step.link.inputs}
        failed: dict[str, str] = {}
        for role, given in ((role, name) for role, names in step.link.inputs.items() for name in names):
            try:
                inputs[role].append(self.bring(self.plan.steps[given], thorough=True).folder)
            except (StageError, UserCodeError) as error:
                if role not in step.link.optional:
                    raise
                failed[role] = str(error).splitlines()[-1]  # of an exception in the user's code the traceback's end
                self.reporter.note(f"{given}: left out, since {error}")
        if step.stage == "simulate" and not step.link.inputs and step.fingerprint not in self.again:
            inputs["lent"] = self._smaller(step)
        if chain.asks(step.link):
            inputs["told"] = [self.store.asked(step.fingerprint)]
        return inputs, failed

    def _run(
        self, step: Step, inputs: Mapping[str, list[Path]], failed: Mapping[str, str], folder: Path
    ) -> dict[str, Any]:
        _refuse_edited(step)
        with blame(step.link.name, lambda: user_files(self.problem)):
            try:
                summary = chain.run(step.link, inputs, folder, self.reporter, failed)
            except WaitingForRuns as error:
                raise WaitingForRuns(f"{step.link.name} {error}", error.ledger) from None
        _refuse_edited(step)
        runtime.refuse_narrow()
        compilations.make_room()
        return summary

    def _entries(
        self, step: Step, summary: dict[str, Any], device: str, started: datetime, seconds: float
    ) -> dict[str, Any]:
        return {
            "stage": step.stage,
            "round": step.link.round,
            "fingerprint": step.fingerprint,
            "key": step.key,
            "summary": summary,
            "versions": runtime.versions(),
            "device": device,
            "precision": runtime.precision(),
            **self._engine(),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "revision": runtime.revision(self.folder) if self.folder else None,
        }

    def _engine(self) -> dict[str, str]:
        """Return who ran the rows, by its kind alone: where it is says something of a network, and nothing of rows."""
        name = self.problem.simulate.engine
        return {"engine": Path(name.partition(":")[0]).name} if name else {}


def reuse(step: Step, found: Found) -> Outcome:
    """Take what the store has as it is."""
    assert found.manifest is not None
    return Outcome(step, found.folder, found.manifest, cached=True)


def _is_enough(step: Step, found: Found) -> bool:
    """Say whether the store has an artifact that is whole, and goes as far as is asked for."""
    return found.sound and found.manifest is not None and studies.suffices(step.link, found.manifest["summary"])


def _refuse_edited(step: Step) -> None:
    """Stop if a file is no longer what the fingerprint says: the result would be kept under a wrong name.

    Code is held to the text that was run, too: it may have been edited and put back between a plan and its import.
    """
    executed = chain.executed()
    edited = [
        str(file)
        for file, digest in step.files.items()
        if not file.exists() or file_digest(file) != digest or executed.get(file, digest) != digest
    ]
    if edited:
        raise StageError(f"{step.link.name}: edited while this ran: {', '.join(edited)}. Run again.")
