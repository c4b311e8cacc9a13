"""The steps of a problem, each with the fingerprint of all that its result depends on, as far as they are known.

What comes next depends on what came out: a round on the verdict of the last one, and a step's fingerprint on what the
steps before it hand over. So a plan lists what is there and what comes next, and nothing beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from simfer.pipeline import chain, manifest, sources
from simfer.pipeline.cells import cells_digest
from simfer.pipeline.chain import (
    AddedLater,
    Cells,
    Code,
    InputFile,
    Link,
    Mistake,
    NotInKey,
    Problem,
    ReadLater,
    Turn,
    closure,
)
from simfer.pipeline.manifest import Manifest
from simfer.pipeline.shelf import Shelf
from simfer.pipeline.store import Found, Store

Key = dict[str, Any]
_MARKERS = NotInKey, AddedLater, ReadLater, InputFile, Cells, Code
ORDER = "(order)"  # in a key: how the entries of a table follow one another


@dataclass(frozen=True)
class Step:
    """One step: what to run, what its result depends on, and the name that follows from that."""

    link: Link
    key: Key
    fingerprint: str
    files: Mapping[Path, str]  # those that the config names, and the code that it runs -> their digests
    former: Key  # the key as it was written before tables counted by their cells

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return self.link.stage


class Plan:
    """The steps of a problem that were asked for so far, by their names, and where the store has them."""

    def __init__(self, problem: Problem, store: Store | None = None) -> None:
        self.problem, self.shelf = problem, Shelf(store)
        self.steps: dict[str, Step] = {}
        self.given: dict[str, Step] = {}  # by what stands for a step in the keys of others
        self._read = _Reader()
        for by_cells in (True, False):  # at once: what is edited while steps run is found by these digests
            self._read.settings(problem, by_cells)

    def step(self, link: Link) -> Step:
        """Return the step of a link, whose inputs were asked for before."""
        inputs = {
            role: [self._identity(name, handed=role in link.handed) for name in names]
            for role, names in link.inputs.items()
        }
        rest = {"stage": link.stage, "version": chain.VERSIONS[link.stage], "inputs": inputs}
        key, former = ({"config": self._read.settings(link.config, by_cells), **rest} for by_cells in (True, False))
        # 64 bits in a folder's name: the whole digest would be safer only against a forger.
        files = {path: self._read.digest(path) for path in self._read.files(link.config)}
        step = Step(link, key, manifest.digest(key)[:16], files, former)
        self.steps[link.name] = step
        return step

    def find(self, step: Step, *, thorough: bool = False) -> Found:
        """Look the step's artifact up: under its fingerprint, or under an older one of the same key."""
        return self.shelf.find(step.stage, step.fingerprint, step.former, thorough=thorough)

    def manifest(self, step: Step) -> Manifest | None:
        """Return the manifest of the step's artifact; None if it is not there, or damaged."""
        found = self.find(step)
        return found.manifest if found.sound else None

    def walk(
        self, ended: Callable[[Step], Manifest | None] | None = None, *, whole: bool = False, others: bool = True
    ) -> Iterator[Step]:
        """Yield the steps one after another, as far as what came out asks for more.

        Args:
            ended: Gives the manifest of the check that was yielded last; from the store if left out.
            whole: Whether to go on for as long as the store has a next round, whatever the verdicts are.
            others: Whether draws that are there stand in for another number of them, where the next round follows.
        """
        turn: Turn | None = Turn(0, self.problem.infer.num_samples)
        while turn is not None:
            if not turn.goes_on:
                yield from map(self.step, chain.links(self.problem, turn)[:-2])
                turn = (self._in_place(turn) if others else None) or turn
            for link in chain.links(self.problem, turn)[-2:]:
                yield (step := self.step(link))
            made = (ended or self.manifest)(step)
            later = made and chain.turn_after(self.problem, turn, step.link, made["summary"])
            turn = later or (self._there(turn) if whole else None)

    def _in_place(self, turn: Turn) -> Turn | None:
        """Return a turn with other draws, from whose verdict the next round followed; None where there is none."""
        infer = self.step(chain.links(self.problem, turn)[-2])
        if self.find(infer).sound:
            return None
        for number in self.shelf.counts(infer.stage, infer.key, infer.former):
            other = replace(turn, num_samples=number)
            check = [self.step(link) for link in chain.links(self.problem, other)[-2:]][-1]
            made = self.manifest(check)
            later = made and chain.turn_after(self.problem, other, check.link, made["summary"])
            if later and later.round > turn.round:
                return other
        return None

    def _there(self, turn: Turn) -> Turn | None:
        """Return the next round's turn if the store has its simulations."""
        for leans in (turn.leans, True):
            later = Turn(turn.round + 1, self.problem.infer.num_samples, leans=leans)
            if later.round > self.problem.refine.max_rounds:
                return None
            if self.find(self.step(chain.links(self.problem, later)[0])).sound:
                return later
        return None

    def _identity(self, name: str, *, handed: bool) -> str:
        """Return what stands for a step in the key of one that reads it, or reads only what it hands over."""
        step = self.steps[name]
        identity = self.shelf.identity(step.stage, step.fingerprint, step.former, handed=handed)
        self.given[identity] = step
        return identity


def kept(problem: Problem, store: Store) -> Iterator[str]:
    """Yield the names of the artifacts that a config refers to: of every round that is there, whatever the verdicts."""
    planned = Plan(problem, store)
    for step in planned.walk(whole=True):
        yield step.fingerprint
        yield planned.find(step).folder.name


def user_files(problem: Problem) -> set[Path]:
    """Return every file of the user's own code that `problem` runs."""
    plugins = {Path(value.rpartition(":")[0]) for value in _marked(problem, Code) if Code.is_own(value)}
    return {file for plugin in plugins for file in closure(plugin)}


def files_of(problem: Problem) -> set[Path]:
    """Return every file of data that `problem` names."""
    return {Path(path) for path in _marked(problem, InputFile)}


def outdated(problem: Problem) -> Iterator[Mistake]:
    """Name the lines of the user's code that import from Simfer as it was, and what to write in their place."""
    for file in sorted(user_files(problem)):
        for number, line, now in sources.outdated(file):
            yield Mistake(f"{file.name}, line {number}", f"got `{line}`, which is now `{now}`")


def _marked(value: Any, marker: type, kinds: frozenset[type] = frozenset()) -> Iterator[str]:
    """Yield the text of every setting that bears a marker."""
    if isinstance(value, BaseModel):
        for name, inner in value:
            yield from _marked(inner, marker, _markers(type(value), name))
    elif isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _marked(inner, marker, kinds)
    elif isinstance(value, str) and marker in kinds:
        yield value


class _Reader:
    """Reads settings into keys, and each file that they name just once."""

    def __init__(self) -> None:
        self.digest, self.closure = cache(manifest.file_digest), cache(closure)
        self.cells = cache(cells_digest)

    def files(self, model: BaseModel) -> set[Path]:
        """Return every file that the settings name, and the code that these files import."""
        plugins = {Path(value.rpartition(":")[0]).resolve() for value in _marked(model, Code) if ":" in value}
        code = {file for plugin in plugins for file in self.closure(plugin)}
        return code | {Path(path) for path in _marked(model, InputFile)}

    def settings(self, model: BaseModel, by_cells: bool = True) -> Key:
        """Return what of a table of settings enters the key; tables by their cells, or as they are written."""
        fields, entries = type(model).model_fields, {}
        for name, inner in model:
            kinds = _markers(type(model), name)
            if NotInKey in kinds or (AddedLater in kinds and (ReadLater in kinds or inner == fields[name].default)):
                continue
            shown = fields[name].default if ReadLater in kinds else inner
            entries[name] = self.value(shown, kinds, by_cells)
        return entries

    def value(self, value: Any, kinds: frozenset[type] = frozenset(), by_cells: bool = True) -> Any:
        """Return what of one setting enters the key: files by their content, code by its sources."""
        if isinstance(value, BaseModel):
            return self.settings(value, by_cells)
        if isinstance(value, Mapping):
            table = {str(name): self.value(inner, kinds, by_cells) for name, inner in value.items()}
            # Parameters become columns, and rows of numbers are drawn, in the order of the config.
            return table | ({ORDER: ", ".join(table)} if len(table) > 1 else {})
        if isinstance(value, (list, tuple)):
            return [self.value(inner, kinds, by_cells) for inner in value]
        if isinstance(value, str) and InputFile in kinds:
            return {"content": (self.cells if by_cells and Cells in kinds else self.digest)(Path(value))}
        if isinstance(value, str) and Code in kinds and Code.is_own(value):
            return self.code(value)
        return _plain(value)

    def code(self, value: str) -> Key:
        """Return the key of "file.py:Name": the sources of that file and of the local files that it imports."""
        file, _, name = value.rpartition(":")
        plugin = Path(file).resolve()
        code = {path.relative_to(plugin.parent).as_posix(): self.digest(path) for path in self.closure(plugin)}
        return {"name": name, "file": plugin.name, "code": code}


@cache
def _markers(model: type[BaseModel], name: str) -> frozenset[type]:
    field = model.model_fields.get(name)
    return frozenset(_kinds(field.annotation, field.metadata)) if field else frozenset()


def _kinds(annotation: Any, metadata: Any) -> Iterator[type]:
    """Yield the markers of a field, those inside its type (as of a list's items) among them."""
    yield from (type(extra) for extra in metadata if isinstance(extra, _MARKERS))
    for inner in get_args(annotation):
        yield from _kinds(inner, getattr(inner, "__metadata__", ()))


def _plain(value: Any) -> Any:
    """Write what TOML knows and JSON does not."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value.isoformat() if isinstance(value, (date, datetime, time)) else value
