"""What a config can say: every key of it, and a line on each name that it can use."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from simfer.stages.errors import Mistake, UsageError, did_you_mean
from simfer.stages.settings.arguments import Column
from simfer.stages.settings.derived import Derived
from simfer.stages.settings.experiments import Experiment
from simfer.stages.settings.joint import JointPrior
from simfer.stages.settings.names import ARCHITECTURES, SIMULATORS
from simfer.stages.settings.noise import NOISE
from simfer.stages.settings.noise_families import Noise
from simfer.stages.settings.prior_table import PRIORS, Argument
from simfer.stages.settings.priors import Prior
from simfer.stages.settings.problem import Problem

_LARGE = 1e6  # bounds beyond it only keep numbers within their type
_MANY = 6  # names are listed up to here

_PER = 'One of its own for each experiment: "experiment".'  # what it stands for is written out before it is checked

_ANY = "number, table of a prior or of a column, or formula"

Schema = dict[str, Any]


class Setting(NamedTuple):
    """A key of the config."""

    key: str  # "train.width"; NAME and OUTPUT stand for a parameter's and an output's name
    type: str  # in words
    default: str  # as a config has it; "required", or "left out" where that is the default
    unit: str  # what it is counted or measured in, if anything
    meaning: str


_VECTORS = (
    Setting("parameters.NAME.size", "whole number from 1 to 1000", "left out", "numbers",
            "How many numbers a vector has: an array for the simulator, `NAME[0]` and so on in tables."),
    Setting("parameters.NAME.ordered", "true or false", "false", "",
            "Whether each number of a vector is above the one before it."),
    Setting("parameters.NAME.concentration", "list of numbers > 0, or number > 0", "1", "",
            "Of a vector with the prior Dirichlet, for each share, or with the prior LKJ, where 1 is flat."),
    Setting("parameters.NAME.covariance", "list of lists of numbers", "required", "",
            "Of a vector with the prior MultivariateNormal, with `loc` and `transform` as in [priors]."),
    Setting("parameters.NAME.dimension", "whole number >= 2", "required", "",
            "Of the correlation matrix, for the prior LKJ."),
)  # fmt: skip


def settings(section: str | None = None) -> list[Setting]:
    """List every key that a config can have.

    Args:
        section: One table of the config, such as "train"; all if left out.

    Returns:
        The keys in the order of the reference, each with its type, default, unit and meaning.

    Raises:
        UsageError: A config has no such table.
    """
    if section is not None and section not in Problem.model_fields:
        known = ", ".join(Problem.model_fields)
        what = (
            f'a config has no table "{section}", expected one of {known}.{did_you_mean(section, Problem.model_fields)}'
        )
        raise UsageError([Mistake("list settings", what)])
    return [each for name in ([section] if section else Problem.model_fields) for each in _section(name)]


def schema() -> Schema:
    """Return the JSON Schema (draft 7) of a config, by which editors complete and check it.

    An editor with taplo (such as "Even Better TOML" for VS Code) reads it where a config's first line says so:
    `#:schema simfer.schema.json`, beside which `simfer list schema > simfer.schema.json` has put it.
    """
    made = _with_vectors(_in_draft_7(Problem.model_json_schema()))
    _write_in(made)
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | made | {"title": "A problem for Simfer"}


def _write_in(made: Schema) -> None:
    """Say what is written out before the config is checked: experiments, joint priors, and formulas alone."""
    for name in PRIORS:
        made["$defs"][name]["properties"]["per"] = {"const": "experiment", "description": _PER}
    derived = made["properties"]["derived"]
    derived["additionalProperties"] = {"anyOf": [{"type": "string"}, derived["additionalProperties"]]}
    instead = {"observation": "experiments", "parameters": "priors"}
    made["required"] = [name for name in made["required"] if name not in instead]
    made["allOf"] = [{"anyOf": [{"required": [name]}, {"required": [other]}]} for name, other in instead.items()]


def _in_draft_7(value: Any) -> Any:
    """Wrap references that have a description or a default beside them, which are not looked at otherwise."""
    if isinstance(value, list):
        return [_in_draft_7(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    # Titles are names once more, in capitals; a discriminator is OpenAPI's.
    left_out = [name for name in value if name == "discriminator" or (name == "title" and isinstance(value[name], str))]
    inner = {name: _in_draft_7(each) for name, each in value.items() if name not in left_out}
    if "$ref" in inner and len(inner) > 1:
        return {"allOf": [{"$ref": inner.pop("$ref")}], **inner}
    return inner


def _with_vectors(made: Schema) -> Schema:
    """Let a parameter be a vector too, which is written out before a config is checked."""
    more = {"size": {"type": "integer"}, "ordered": {"type": "boolean"}}
    for family in PRIORS:
        table = made["$defs"][family]
        elements = {name: {"anyOf": [one, {"type": "array"}]} for name, one in table["properties"].items()
                    if name in PRIORS[family].arguments}  # fmt: skip
        table["properties"] |= more | elements
    joint = {
        "type": "object",
        "required": ["dist"],
        "properties": {"dist": {"enum": ["Dirichlet", "LKJ", "MultivariateNormal"]}},
    }
    parameters = made["properties"]["parameters"]
    parameters["additionalProperties"] = {
        "anyOf": [{"type": "array"}, joint, *_kinds(parameters["additionalProperties"])]
    }
    return made


def _kinds(each: Schema) -> list[Schema]:
    return list(each.get("oneOf") or each.get("anyOf") or [each])


def _section(name: str) -> Iterator[Setting]:
    whole = Problem.model_json_schema()
    if name == "parameters":
        yield Setting("parameters.NAME", "number, or table of a prior", "required", "", _meaning(whole, name))
        yield from _table("parameters.NAME", Prior.model_json_schema())
        yield Setting("parameters.NAME.per", "name", "left out", "", _PER)
        meaning = "What the distribution takes, by NumPyro's names: `simfer list priors`, with defaults."
        yield Setting("parameters.NAME.ARGUMENT", "number, or formula", "NumPyro's own", "", meaning)
        yield from _VECTORS
    elif name == "noise":
        yield Setting("noise.OUTPUT", "table", "required", "", _meaning(whole, name))
        yield from _table("noise.OUTPUT", Noise.model_json_schema())
        for family, model in NOISE.items():
            for each in _table("noise.OUTPUT", model.model_json_schema(), without="dist"):
                yield each._replace(meaning=f"{family}: {each.meaning}")
        meaning = "Your own: what your function takes, by its names."
        yield Setting("noise.OUTPUT.ARGUMENT", _ANY, "required", "", meaning)
        yield from _table("noise.OUTPUT.ARGUMENT", Column.model_json_schema())
    elif name == "priors":
        yield from _table("priors.NAME", JointPrior.model_json_schema())
    elif name == "experiments":
        yield Setting("experiments.NAME", "table", "left out", "", _meaning(whole, name))
        yield from _table("experiments.NAME", Experiment.model_json_schema())
    elif name == "derived":
        yield Setting("derived.NAME", "formula, or table", "left out", "", _meaning(whole, name))
        yield from _table("derived.NAME", Derived.model_json_schema())
    elif name == "noise_parameters":
        yield Setting(f"{name}.NAME", "number, or table of a prior", "left out", "", _meaning(whole, name))
    else:
        yield from _table(name, whole, whole["properties"][name]["$ref"])


def _meaning(whole: Schema, name: str) -> str:
    return _in_a_line(whole["properties"][name]["description"])


def _table(key: str, whole: Schema, reference: str | None = None, without: str = "") -> Iterator[Setting]:
    """Yield the keys of a table, and of the tables in it that are always there."""
    table = whole["$defs"][reference.rpartition("/")[2]] if reference else whole
    for name, each in table["properties"].items():
        if "$ref" in each:
            yield from _table(f"{key}.{name}", whole, each["$ref"])
        elif name != without:
            default = "required" if name in table.get("required", ()) else _in_toml(each["default"])
            meaning = _in_a_line(each.get("description", ""))
            yield Setting(f"{key}.{name}", _in_words(each), default, each.get("unit", ""), meaning)
            yield from _inner(f"{key}.{name}", whole, each)


def _inner(key: str, whole: Schema, each: Schema) -> Iterator[Setting]:
    """Yield the keys of a table that may be left out, or of those of outputs; not the solver's once more."""
    if _named(each.get("additionalProperties")):
        yield from _table(f"{key}.OUTPUT", whole, _named(each["additionalProperties"]))
    tables = [name for kind in each.get("anyOf", ()) if (name := _named(kind))]
    if len(tables) == 1 and tables[0].rpartition("/")[2] not in ("Solver", "Column"):
        yield from _table(key, whole, tables[0])


def _named(kind: Any) -> str:
    return kind.get("$ref", "") if isinstance(kind, dict) else ""


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _in_toml(value: Any) -> str:
    if value is None:
        return "left out"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _in_words(each: Schema) -> str:
    """Write a type as one who edits a config would say it."""
    if kinds := each.get("anyOf") or each.get("oneOf"):
        if any(kind.get("$ref", "").endswith("/Column") for kind in kinds):
            kinds = [kind for kind in kinds if not kind.get("$ref", "").endswith("/Column")]
            words = [_in_words(kind) for kind in kinds if kind.get("type") not in ("null", "string")]
            return " or ".join([*words, "column", "formula"])
        if all("$ref" in kind for kind in kinds):
            return "prior"  # of all tables it is the one that has several forms
        return " or ".join(dict.fromkeys(_in_words(kind) for kind in kinds if kind.get("type") != "null"))
    if "enum" in each:
        names = [json.dumps(name) for name in each["enum"]]
        return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) <= _MANY else "name"
    return "table" if "$ref" in each else _TYPES[each.get("type", "object")](each)


def _text(each: Schema) -> str:
    if "py:" in each.get("pattern", ""):
        return '"file.py:Name"'
    return "file" if each.get("format") == "path" else "text"


def _bounded(words: str, each: Schema) -> str:
    low, high = each.get("minimum", each.get("exclusiveMinimum")), each.get("maximum", each.get("exclusiveMaximum"))
    if low is not None and high is not None and high < _LARGE:
        if each.get("type") == "integer" and "exclusiveMinimum" in each:
            low, each = low + 1, each | {"minimum": low + 1}
        between = "from" if "minimum" in each and "maximum" in each else "between"
        return f"{words} {between} {low:g} {'to' if between == 'from' else 'and'} {high:g}"
    return words if low is None else f"{words} {'>=' if 'minimum' in each else '>'} {low:g}"


def _of(words: str, each: Schema | bool | None) -> str:
    if not isinstance(each, dict) or not each:
        return words
    plural = re.sub(r"\b(file|name|number)\b(?!\.)", r"\1s", _in_words(each))
    return f"{words} of {plural}"


_TYPES: dict[str, Callable[[Schema], str]] = {
    "string": _text,
    "boolean": lambda each: "true or false",
    "integer": lambda each: _bounded("whole number", each),
    "number": lambda each: _bounded("number", each),
    "array": lambda each: _of("list", each.get("items")),
    "object": lambda each: _of("table", each.get("additionalProperties")),
}


def describe(table: str) -> dict[str, str]:
    """Describe the names of a table: `simulators`, `architectures`, `noise` or `priors`."""
    if table == "priors":
        return {name: f"{each.summary} ({', '.join(map(_argument, each.arguments.items()))})"
                for name, each in PRIORS.items()}  # fmt: skip
    if table == "noise":
        arguments = {name: ", ".join(f for f in model.model_fields if f != "dist") for name, model in NOISE.items()}
        return {
            name: f"{_first_line(model.__doc__)} ({arguments[name]})" if arguments[name] else _first_line(model.__doc__)
            for name, model in NOISE.items()
        }
    return _classes({"simulators": SIMULATORS, "architectures": ARCHITECTURES}[table])


def _argument(item: tuple[str, Argument]) -> str:
    name, argument = item
    return name if argument.default is None else f"{name} = {argument.default:g}"


def _classes(table: Mapping[str, str]) -> dict[str, str]:
    # Read, not imported: a list must not wait for JAX.
    found = {}
    for name, place in table.items():
        module, _, attribute = place.rpartition(":")
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        found[name] = _first_line(ast.get_docstring(classes[attribute]))
    return found


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
