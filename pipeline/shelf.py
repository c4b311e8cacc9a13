"""Artifacts by the keys in their manifests: under which name one lies, what stands for it, and what it can lend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from simfer.pipeline import chain
from simfer.pipeline.chain import AddedLater, Prior, Problem, ReadLater
from simfer.pipeline.manifest import Manifest, digest
from simfer.pipeline.store import Found, Store

Key = Mapping[str, Any]


class Shelf:
    """What the store has, each stage's manifests read once and only where an artifact is not found by its name."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self._made: dict[str, Manifest] = {}  # by the fingerprint that was asked for
        self._stages: dict[str, dict[str, Manifest]] = {}

    def find(self, stage: str, fingerprint: str, former: Key, *, thorough: bool = False) -> Found:
        """Look an artifact up by its name, or by a key that says the same in the way of before."""
        if self.store is None:
            return Found(Path(stage, fingerprint))
        found = self.store.find(stage, fingerprint, thorough=thorough)
        if found.manifest is None and not found.damage:
            known = self._by_key(stage)
            older = known.get(fingerprint) or known.get(digest(former)[:16])
            if older and (again := self.store.find(stage, older["fingerprint"], thorough=thorough)).sound:
                found = again
        if found.sound and found.manifest:
            self._made[fingerprint] = found.manifest
        return found

    def identity(self, stage: str, fingerprint: str, former: Key, *, handed: bool) -> str:
        """Return what stands for an artifact in the keys of those that read it.

        Of two that hand over the same that is the fingerprint of the one that was there first.
        """
        made = self._made.get(fingerprint) or self.find(stage, fingerprint, former).manifest
        if made is None:
            return fingerprint
        own = str(made["fingerprint"])
        return str(made.get("identity", own)) if handed else own

    def manifests(self, stage: str) -> Iterator[Manifest]:
        """Yield the manifest of every artifact of a stage."""
        yield from self._by_key(stage).values()

    def built(self, fingerprint: str, manifest: Manifest) -> None:
        """Take note of what was just built."""
        self._made[fingerprint] = manifest
        self._stages.pop(manifest["stage"], None)

    def identify(self, folder: Path, manifest: Manifest) -> dict[str, str]:
        """Return the entries of a manifest that say what its artifact hands over, and what stands for it."""
        stage, key = manifest["stage"], manifest["key"]
        handed = chain.handed(stage, folder, manifest["files"], manifest["summary"])
        if handed is None:
            return {}
        for made in self._by_key(stage).values():
            other = made["fingerprint"] != manifest["fingerprint"] and made["key"]["version"] == key["version"]
            if other and self._handed(stage, made, key) == handed:
                return {"handed": handed, "identity": str(made.get("identity", made["fingerprint"]))}
        return {"handed": handed}

    def _handed(self, stage: str, made: Manifest, key: Key) -> str | None:
        if "handed" in made:
            return str(made["handed"])
        if stage != "infer":
            return chain.handed(stage, Path(), made["files"], {})
        # Artifacts of before do not say: only what reads the same is worth opening.
        if self.store is None or made["key"]["inputs"] != key["inputs"]:
            return None
        found = self.store.find(stage, made["fingerprint"])
        return chain.handed(stage, found.folder, made["files"], made["summary"]) if found.sound else None

    def counts(self, stage: str, key: Key, former: Key) -> list[int]:
        """List of how many draws the store has posteriors that are otherwise this one, the nearest number first."""
        asked = _num_samples({"key": key})
        numbers = {_num_samples(made) for made in self._alike(stage, key, former)}
        alike = (number for number in numbers - {asked} if chain.hands_alike(number, asked))
        return sorted(alike, key=lambda number: abs(number - asked))

    def lenders(self, stage: str, key: Key, former: Key) -> Iterator[Path]:
        """Yield the folders of sound artifacts that have done a part of what a step is about to do, the best first."""
        if self.store is not None:
            alike = sorted(self._alike(stage, key, former), key=_num_samples, reverse=True)
            founds = (self.store.find(stage, made["fingerprint"], thorough=True) for made in alike)
            yield from (found.folder for found in founds if found.sound)

    def _alike(self, stage: str, key: Key, former: Key) -> list[Manifest]:
        wanted = [digest(part) for each in (key, former) if (part := self._part(each)) is not None]
        return [made for made in self._by_key(stage).values() if _digest_of(self._part, made["key"]) in wanted]

    def _part(self, key: Key) -> Key | None:
        """Return what of a step's key its longest work depends on."""
        return chain.part(reduced(key), self._stands_for)

    def _stands_for(self, stage: str, fingerprint: str) -> str:
        """Return what stands for an artifact where only what it hands over is read."""
        made = next((each for each in self._by_key(stage).values() if each["fingerprint"] == fingerprint), None)
        return str(made.get("identity", fingerprint)) if made else fingerprint

    def _by_key(self, stage: str) -> dict[str, Manifest]:
        """Return the manifests of a stage by the fingerprints that they would have today."""
        if stage not in self._stages:
            made = self.store.manifests(stage) if self.store else iter(())
            whole = ((each, _digest_of(reduced, each["key"])) for each in made if _is_whole(each))
            self._stages[stage] = {name[:16]: each for each, name in whole if name}
        return self._stages[stage]


def _num_samples(made: Manifest) -> int:
    return int(made["key"]["config"].get("infer", {}).get("num_samples", 0))


def _is_whole(made: Manifest) -> bool:
    """Say whether a manifest has a key such as steps have; what anybody else may have written there is left alone."""
    key = made.get("key")
    if not isinstance(key, dict) or not isinstance(key.get("version"), int) or key.get("stage") != made["stage"]:
        return False
    config, inputs = key.get("config"), key.get("inputs")
    if not isinstance(config, dict) or not isinstance(inputs, dict):
        return False
    infer = config.get("infer", {})
    return isinstance(infer, dict) and isinstance(infer.get("num_samples", 0), int)


def _digest_of(read: Callable[[Key], Key | None], key: Key) -> str:
    """Return the digest of what is read of a key, "" of one that cannot be read: it is of no step of ours."""
    try:
        return digest(read(key))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return ""


def reduced(key: Key) -> dict[str, Any]:
    """Return a key as it is written today: with what is read later at its default."""
    return {**key, "config": _config(key["config"])}


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in config.items():
        later, added = _read_later(name)
        if isinstance(value, Mapping):
            value = {each: inner for each, inner in value.items() if each not in added} | later
        # Where the simulator is the likelihood, the slice that makes it is a config in a config.
        entries[name] = _config(value) if name == "exact" and value else _priors(value)
    return entries


def _priors(value: Any) -> Any:
    """Return a part of a key with the priors in it as they are written today."""
    if isinstance(value, Mapping):
        table = {name: _priors(inner) for name, inner in value.items()}
        shown = _later(Prior)
        return table | shown if isinstance(table.get("dist"), str) and shown.keys() <= table.keys() else table
    return [_priors(inner) for inner in value] if isinstance(value, list) else value


@cache
def _read_later(section: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of a section that are read later, with their defaults, and those that enter no key at all."""
    field = Problem.model_fields.get(section)
    model: Any = field.annotation if field else None
    if not hasattr(model, "model_fields"):
        return {}, ()
    later = _later(model)
    added = {name for name in later if any(isinstance(m, AddedLater) for m in model.model_fields[name].metadata)}
    return {name: value for name, value in later.items() if name not in added}, tuple(added)


def _later(model: Any) -> dict[str, Any]:
    fields = model.model_fields.items()
    return {name: f.default for name, f in fields if any(isinstance(marker, ReadLater) for marker in f.metadata)}
