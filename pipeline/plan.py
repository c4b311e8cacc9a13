"""The steps of a problem in their order, each with the fingerprint of all that its result depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from simfer.pipeline import chain, manifest, sources
from simfer.pipeline.chain import AddedLater, Code, InputFile, Link, Mistake, NotInKey, Problem
from simfer.pipeline.sources import closure

Key = dict[str, Any]
ORDER = "(order)"  # in a key: how the entries of a table follow one another


@dataclass(frozen=True)
class Step:
    """One step: what to run, what its result depends on, and the name that follows from that."""

    link: Link
    key: Key
    fingerprint: str
    files: Mapping[Path, str]  # those that the config names, and the code that it runs -> their digests

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return self.link.stage


def plan(problem: Problem, extra: Sequence[Link] = ()) -> list[Step]:
    """List the steps of every round that `problem` may need, and `extra` ones that build on them."""
    read = _Reader()
    steps: dict[str, Step] = {}
    for link in [*chain.links(problem), *extra]:
        inputs = {name: [steps[given].fingerprint for given in names] for name, names in link.inputs.items()}
        key = {
            "stage": link.stage,
            "version": chain.VERSIONS[link.stage],
            "config": read.settings(link.config),
            "inputs": inputs,
        }
        # 64 bits in a folder's name: the whole digest would be safer only against a forger.
        files = {path: read.digest(path) for path in read.files(link.config)}
        steps[link.name] = Step(link, key, manifest.digest(key)[:16], files)
    return list(steps.values())


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

    def files(self, model: BaseModel) -> set[Path]:
        """Return every file that the settings name, and the code that these files import."""
        plugins = {Path(value.rpartition(":")[0]).resolve() for value in _marked(model, Code) if ":" in value}
        code = {file for plugin in plugins for file in self.closure(plugin)}
        return code | {Path(path) for path in _marked(model, InputFile)}

    def settings(self, model: BaseModel) -> Key:
        """Return what of a table of settings enters the key."""
        kinds = {name: _markers(type(model), name) for name, _ in model}
        enters = {
            name: NotInKey not in kinds[name]
            and not (AddedLater in kinds[name] and inner == type(model).model_fields[name].default)
            for name, inner in model
        }
        return {name: self.value(inner, kinds[name]) for name, inner in model if enters[name]}

    def value(self, value: Any, kinds: frozenset[type] = frozenset()) -> Any:
        """Return what of one setting enters the key: files by their content, code by its sources."""
        if isinstance(value, BaseModel):
            return self.settings(value)
        if isinstance(value, Mapping):
            table = {str(name): self.value(inner, kinds) for name, inner in value.items()}
            # Parameters become columns, and rows of numbers are drawn, in the order of the config.
            return table | ({ORDER: ", ".join(table)} if len(table) > 1 else {})
        if isinstance(value, (list, tuple)):
            return [self.value(inner, kinds) for inner in value]
        if isinstance(value, str) and InputFile in kinds:
            return {"content": self.digest(Path(value))}
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
    yield from (type(extra) for extra in metadata if isinstance(extra, (NotInKey, AddedLater, InputFile, Code)))
    for inner in get_args(annotation):
        yield from _kinds(inner, getattr(inner, "__metadata__", ()))


def _plain(value: Any) -> Any:
    """Write what TOML knows and JSON does not."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value.isoformat() if isinstance(value, (date, datetime, time)) else value
