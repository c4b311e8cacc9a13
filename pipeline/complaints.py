"""What is wrong with a config, in words for someone who wrote it and has never heard of Pydantic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag, ValidationError

from simfer.pipeline.chain import Mistake, Problem, did_you_mean

_A_PRIOR = '{ dist = "Normal", loc = 0.0, scale = 1.0 }'
_OWN = {"simulate": "simulator", "train": "architecture"}
_TYPES = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": 'text in quotes, such as "name"',
    "dict_type": "a table of names and values",
    "list_type": "a list, such as [1, 2]",
    "model_type": "a table of settings",
    "model_attributes_type": "a table of settings",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("of at most", "le"),
}


@dataclass
class _Place:
    """Where in a config an error lies: the keys down to it, and the settings that its last key belongs to."""

    keys: list[str]
    model: type[BaseModel] | None = None
    tag: str | None = None  # of the union that the place ends in, if it does


def in_words(error: ValidationError) -> list[Mistake]:
    """Turn everything that Pydantic found into places and sentences."""
    return [_problem(item) for item in error.errors(include_url=False)]


def in_toml(value: Any) -> str:
    """Write a value about as it stands in the config, cut short if it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _problem(item: Any) -> Mistake:
    place = _place(item["loc"])
    say = _SENTENCES.get(item["type"], _other)
    return Mistake(".".join(place.keys), say(item, place))


def _place(loc: tuple[int | str, ...]) -> _Place:
    """Follow an error's location through the types; names of union members in it are no keys of the config."""
    place, kind = _Place([]), _bare(Problem)
    for step in loc:
        place.model, place.tag = None, None
        if get_origin(kind) in (Union, UnionType):
            place.tag, kind = str(step), _member(kind, str(step))
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            place.model, kind = kind, _field(kind, str(step))
        else:
            kind = _bare(get_args(kind)[-1]) if get_args(kind) else None
        _append(place.keys, step)
    return place


def _append(keys: list[str], step: int | str) -> None:
    if isinstance(step, int):
        keys[-1] += f"[{step}]"
    else:
        keys.append(step if re.fullmatch(r"[\w-]+", step) else json.dumps(step, ensure_ascii=False))


def _bare(kind: Any) -> Any:
    """Strip what Annotated and Optional put around a type."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        others = [inner for inner in get_args(kind) if inner is not NoneType]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _member(union: Any, tag: str) -> Any:
    for kind in get_args(union):
        tags = [extra.tag for extra in getattr(kind, "__metadata__", ()) if isinstance(extra, Tag)]
        bare = _bare(kind)
        dist = getattr(bare, "model_fields", {}).get("dist")  # of a model that its dist tells from the others
        if tag in tags or (not tags and dist is not None and tag in get_args(dist.annotation)):
            return bare
    return None


def _field(model: type[BaseModel], name: str) -> Any:
    if name in model.model_fields:
        return _bare(model.model_fields[name].annotation)
    if model.model_config.get("extra") == "allow":
        return _bare(get_args(get_type_hints(model, include_extras=True)["__pydantic_extra__"])[-1])
    return None


def _unknown_key(item: Any, place: _Place) -> str:
    model, got = place.model or Problem, str(item["loc"][-1])
    known = sorted(model.model_fields)
    hint = did_you_mean(got, known) or _elsewhere(got, place)
    return f"unknown key.{hint} (known: {', '.join(known)})"


def _elsewhere(got: str, place: _Place) -> str:
    """Say where a right key in the wrong table belongs."""
    for section, field in Problem.model_fields.items():
        kind = _bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and got in kind.model_fields:
            return f" It belongs in [{section}]."
    if place.model is not None and "options" in place.model.model_fields:
        section = ".".join([*place.keys[:-1], "options"])
        return f" What the {_OWN[place.keys[0]]} itself takes goes in [{section}]."
    return ""


def _wrong_type(item: Any, place: _Place) -> str:
    expected = _TYPES[item["type"]]
    if place.tag == "number":
        expected += f", or a prior such as {_A_PRIOR}"
    return f"got {in_toml(item['input'])}, expected {expected}"


def _out_of_bounds(item: Any, place: _Place) -> str:
    words, bound = _BOUNDS[item["type"]]
    value = item["ctx"][bound]
    return f"got {in_toml(item['input'])}, expected a number {words} {value:g}"


def _not_among(item: Any, place: _Place) -> str:
    known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
    return f"got {in_toml(item['input'])}, expected one of {', '.join(known)}.{did_you_mean(item['input'], known)}"


def _unknown_distribution(item: Any, place: _Place) -> str:
    known = [name for name in re.findall(r"'([^']*)'", item["ctx"]["expected_tags"]) if name != "custom"]
    own = ', or "file.py:function"' if place.keys[0] == "noise" and len(place.keys) == 2 else ""
    got, hint = in_toml(item["input"]["dist"]), did_you_mean(item["ctx"]["tag"], known)
    what = "noise family" if own else "prior"
    return f"dist = {got} is not a {what} that Simfer knows.{hint} (known: {', '.join(known)}{own})"


def _no_distribution(item: Any, place: _Place) -> str:
    example = 'dist = "Normal"'
    if isinstance(item["input"], dict):
        got = f"got dist = {in_toml(item['input']['dist'])}" if "dist" in item["input"] else "dist is missing"
        return f"{got}; expected the name of a distribution, such as {example}"
    return f"got {in_toml(item['input'])}, expected a table that names a distribution, such as {{ {example}, ... }}"


def _missing(item: Any, place: _Place) -> str:
    return f"missing; the config needs a table [{place.keys[0]}]" if len(place.keys) == 1 else "missing; no default"


def _other(item: Any, place: _Place) -> str:
    return f"got {in_toml(item['input'])}: {item['msg']}"


_SENTENCES: dict[str, Callable[[Any, _Place], str]] = {
    **dict.fromkeys(_TYPES, _wrong_type),
    **dict.fromkeys(_BOUNDS, _out_of_bounds),
    "extra_forbidden": _unknown_key,
    "literal_error": _not_among,
    "union_tag_invalid": _unknown_distribution,
    "union_tag_not_found": _no_distribution,
    "missing": _missing,
    "too_short": lambda item, place: "empty; expected at least one entry",
    "value_error": lambda item, place: str(item["ctx"]["error"]),
}
