"""Why a step is cached or not, in words: what changed since an artifact was made, from what to what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simfer.pipeline.chain import SAID, STAGES
from simfer.pipeline.complaints import in_toml
from simfer.pipeline.manifest import Manifest
from simfer.pipeline.plan import ORDER, Key, Plan, Step
from simfer.pipeline.shelf import reduced

_ABSENT = object()
_LONG = 60  # characters of a table, of which the rest is left out


@dataclass(frozen=True)
class _Change:
    path: tuple[str, ...]
    old: Any
    new: Any


def why(step: Step, plan: Plan) -> list[str]:
    """Explain a hit or a miss of a step of the plan."""
    found = plan.find(step)
    if found.sound and found.manifest:
        return ["made from the same settings, inputs and code"]
    if found.damage:
        return [f"{name} is damaged: {what}" for name, what in found.damage.items()]
    made = {each["fingerprint"]: each for stage in STAGES for each in plan.shelf.manifests(stage)}
    explainer = _Explainer(plan.given, made)
    # The most similar artifact of the same round, the latest of those that are equally similar, says it most simply.
    same = [each for each in made.values() if (each["stage"], each["round"]) == (step.stage, step.link.round)]
    latest_first = sorted(same, key=lambda each: str(each["finished"]), reverse=True)
    pairs = [(reduced(each["key"]), key) for each in latest_first for key in (step.key, step.former)]
    nearest = min(pairs, key=lambda pair: explainer.distance(*pair), default=None)
    return explainer.sentences(*nearest) if nearest else ["never built"]


def _changes(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[_Change]:
    """Yield the places where two keys differ; what only one of them has is one place, however much it holds."""
    if isinstance(old, list) and isinstance(new, list):
        old, new = ({f"[{i}]": item for i, item in enumerate(items)} for items in (old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            if name != ORDER or old.keys() == new.keys():
                yield from _changes(old.get(name, _ABSENT), new.get(name, _ABSENT), (*path, name))
    elif old != new:
        yield _Change(path, old, new)


@dataclass(frozen=True)
class _Explainer:
    """Puts changes into words, those of an input by what changed in its own making."""

    steps: Mapping[str, Step]
    made: Mapping[str, Manifest]

    def sentences(self, old: Key, new: Key) -> list[str]:
        """Say what differs between two keys."""
        because = {name: "; ".join(self._roots(old, new, name)) for name in _changed_inputs(old, new)}
        return _own(old, new) + [f"input {name}: changed, because of {roots}" for name, roots in because.items()]

    def distance(self, old: Key, new: Key) -> int:
        """Count what differs between two keys, all the way up."""
        return len(_own(old, new)) + sum(len(self._roots(old, new, name)) for name in _changed_inputs(old, new))

    def _roots(self, old: Key, new: Key, name: str) -> list[str]:
        """List the changes that an input's change comes from, however far up the chain they are."""
        before, after = old["inputs"].get(name, []), new["inputs"].get(name, [])
        if len(before) != len(after):
            return ["another number of them"]
        pairs = [(self.made.get(a), self.steps[b]) for a, b in zip(before, after, strict=True) if a != b]
        return list(dict.fromkeys(root for manifest, step in pairs for root in self._causes(manifest, step)))

    def _causes(self, manifest: Manifest | None, step: Step) -> Iterator[str]:
        if manifest is None:
            yield f"another {step.stage}, whose artifact is no longer in the store"
            return
        old = reduced(manifest["key"])
        new = min((step.key, step.former), key=lambda key: len(_own(old, key)))
        yield from _own(old, new)
        for name in _changed_inputs(old, new):
            yield from self._roots(old, new, name)


def _own(old: Key, new: Key) -> list[str]:
    changes = (each for each in _changes(old, new) if each.path[0] != "inputs")
    return [_in_words(each) for each in changes if each.path[0] != "config" or _written(each.path[1:])]


def _changed_inputs(old: Key, new: Key) -> list[str]:
    return list(dict.fromkeys(change.path[1] for change in _changes(old, new) if change.path[0] == "inputs"))


def _in_words(change: _Change) -> str:
    *path, last = change.path if change.path[0] != "config" else _written(change.path[1:])
    if last == "version":
        return f"Simfer computes this step in another way: version {change.old} -> {change.new}"
    place = ".".join(path).replace(".[", "[")
    if last == ORDER:
        return f"{place}: order {change.old} -> {change.new}"
    if last == "content":
        return f"{place}: content changed"
    if path and path[-1] == "code":
        return f"{place.removesuffix('.code')}: {last} {_fate(change)}"
    return f"{place}.{last}: {_show(change.old)} -> {_show(change.new)}".lstrip(".").replace(".[", "[")


def _written(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the place in the config of what a stage sees, as its user has written it."""
    if path[:2] == ("simulate", "experiments") and len(path) > 2:
        if path[2] == ORDER:
            return path[1:]
        return "experiments", path[2], "options", *path[3:]
    for count in (1, 2):
        said = SAID.get(".".join(path[:count]))
        if said is not None:
            return (said, *path[count:]) if said else path[count:]
    return path


def _fate(change: _Change) -> str:
    if change.old is _ABSENT:
        return "is now imported"
    return "is no longer imported" if change.new is _ABSENT else "changed"


def _show(value: Any) -> str:
    """Write a value as a config has it; of a table what says something."""
    if value is _ABSENT or value is None:
        return "left out"
    if isinstance(value, Mapping) and "code" in value:
        return f'"{value["file"]}:{value["name"]}"'
    if not isinstance(value, Mapping):
        return in_toml(value)
    told = {key: inner for key, inner in value.items() if key != ORDER and inner not in ("", None)}
    if not told:
        return "{}"
    text = "{ " + ", ".join(f"{key} = {_show(inner)}" for key, inner in told.items()) + " }"
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."
