"""Input files of a program: templates of ours or of PEST, Dakota's parameter file; and what was written in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from simfer.stages.simulate.children.numbers import number

SEED = "seed"
_OURS = re.compile(r"\{\{\s*([^\s:{}]+)\s*(?::\s*([^\s{}]*))?\s*\}\}")
_PEST = re.compile(r"ptf\s+(\S)\s*$", re.IGNORECASE)


class TemplateError(Exception):
    """A template that cannot be filled; the config is at fault, and no row."""


class Filled(NamedTuple):
    """A filled template, and the parameters' values as the program reads them there."""

    text: str
    written: dict[str, float]


def names_in(template: str) -> list[str]:
    """Return the names that a template takes, the seed's among them."""
    if marker := _pest_marker(template):
        return [name.strip() for name in _between(template, marker)]
    return [found[1] for found in _OURS.finditer(template)]


def fill(template: str, values: Mapping[str, float], seed: int | None) -> Filled:
    """Write the parameters into a template: with 17 digits, which lose nothing, unless it says how."""
    marker = _pest_marker(template)
    written: dict[str, float] = {}

    def put(name: str, text: str) -> str:
        value = number(text, f"template: {name}")
        if written.setdefault(name, value) != value:
            raise TemplateError(
                f"{name} is written as {written[name]!r} and as {text.strip()}: give both the same format"
            )
        return text

    def ours(found: re.Match[str]) -> str:
        name, form = found[1], found[2] or ""
        if name == SEED:
            return str(seed)
        if name not in values:
            raise TemplateError(f"{{{{ {name} }}}}: no such parameter; there is {', '.join(values)}")
        return put(name, _formatted(name, values[name], form))

    if marker is None:
        return Filled(_OURS.sub(ours, template), written)
    body = template.partition("\n")[2]
    place = re.escape(marker)

    def pest(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name not in values:
            raise TemplateError(f"{found[0]}: no such parameter; there is {', '.join(values)}")
        return put(name, _within(values[name], len(found[0])))

    return Filled(re.sub(f"{place}([^{place}\n]*){place}", pest, body), written)


def dakota_parameters(values: Mapping[str, float], outputs: list[str], row: int) -> Filled:
    """Write Dakota's standard parameter file (its manual: Parameters file format)."""
    lines = [f"{len(values)} variables", *(f"{value!r} {name}" for name, value in values.items())]
    lines += [f"{len(outputs)} functions", *(f"1 ASV_{i}:{name}" for i, name in enumerate(outputs, 1))]
    lines += [f"{len(values)} derivative_variables", *(f"{i} DVV_{i}:{name}" for i, name in enumerate(values, 1))]
    lines += ["0 analysis_components", f"{row} eval_id"]
    return Filled("".join(f"{line.rjust(40)}\n" for line in lines), dict(values))


def _pest_marker(template: str) -> str | None:
    found = _PEST.match(template.partition("\n")[0])
    return found[1] if found else None


def _between(template: str, marker: str) -> list[str]:
    return [found[1] for found in re.finditer(f"{re.escape(marker)}([^{re.escape(marker)}\n]*){re.escape(marker)}",
                                              template.partition("\n")[2])]  # fmt: skip


def _formatted(name: str, value: float, form: str) -> str:
    try:
        return format(round(value), form) if form.endswith("d") else format(value, form) if form else repr(value)
    except ValueError as error:
        raise TemplateError(f"{{{{ {name}:{form} }}}}: {error}; expected a format of Python's, such as 12.5e") from None


def _within(value: float, width: int) -> str:
    """Write a number with as many digits as a field has room for."""
    for digits in range(17, 0, -1):
        scientific = re.sub(r"e([+-])0", r"e\1", f"{value:.{digits - 1}e}")
        for text in (f"{value:.{digits}g}", scientific):
            if len(text) <= width:
                return text.rjust(width)
    raise TemplateError(f"got {value!r}, which a field of {width} characters has no room for")
