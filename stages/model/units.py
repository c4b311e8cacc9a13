"""Units as people write them, told apart by what they are and not by how: 1/h and h^-1, mg/L and mg / L."""

from __future__ import annotations

import re

import numpy as np

from simfer.stages.settings.expressions import parse

_SPELLINGS = str.maketrans(
    {"µ": "u", "μ": "u", "·": "*", "⋅": "*", "×": "*", "−": "-", "℃": "degC", "º": "°", "%": " percent "}
)
_RAISED, _LEVEL = "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_REWRITTEN = [
    (re.compile(r"^\$(.*)\$$|^\[(.*)\]$"), lambda found: found[1] or found[2] or ""),  # $h^{-1}$, [mg/L]
    (re.compile(r"\\(?:mathrm|text|rm)\s*\{([^{}]*)\}"), lambda found: found[1]),
    (re.compile(r"\\(?:cdot|times)\b"), lambda found: "*"),
    (re.compile(r"\\[,;: ]|~"), lambda found: " "),
    (re.compile(r"\\mu\b\s*"), lambda found: "u"),
    (re.compile(r"\{([^{}]*)\}"), lambda found: f"({found[1]})"),
    (re.compile(f"[{_RAISED}]+"), lambda found: f"^({found[0].translate(_LEVEL)})"),
    (re.compile(r"°\s*(?=[CF]\b)|°"), lambda found: "deg"),
    (re.compile(r"^\s*per\s+"), lambda found: "1/"),
    (re.compile(r"\s+per\s+"), lambda found: "/"),
    (re.compile(r"(?<=[\w)])\.(?=[^\W\d])(?![eE][+-]?\d)"), lambda found: "*"),  # kg.m^-3, m2.s
    (re.compile(r"(?<=[\w)])\s+(?=[^\W\d]|\()"), lambda found: "*"),  # L/(mol s)
    (re.compile(r"(?<![\d.][eE])(?<=[^\W\d_])[+-]?\d+(?!\w)"), lambda found: f"^({found[0]})"),  # m2, s-1; not 1e3
    (re.compile(r"\s+"), lambda found: ""),
    (re.compile(r"(?<![\w.])[^\W\d]\w*"), lambda found: _name(found[0])),
]
_NO_UNIT = {"-", "–", "—", "1", "dimensionless", "unitless", "none"}
_NAMES = {
    name: names[0]
    for names in (
        ["us", "usec", "microsecond"], ["ms", "msec", "millisecond"], ["s", "sec", "second"], ["min", "minute"],
        ["h", "hr", "hour"], ["d", "day"], ["wk", "week"], ["mo", "month"], ["yr", "y", "year"],
        ["degC", "deg_C", "celsius", "degree_Celsius", "degrees_Celsius"], ["g", "gram"], ["m", "meter", "metre"],
        ["L", "l", "liter", "litre"], ["mL", "ml"], ["uL", "ul"], ["nL", "nl"], ["dL", "dl"], ["cL", "cl"],
    )
    for name in names
}  # fmt: skip
_SHORT = 3  # letters: in a word that is no longer, a capital or an s at its end may well be another unit


def contradict(one: str, other: str) -> bool:
    """Say whether two units are both told, and are not the same one; what cannot be compared does not."""
    if not one or not other:
        return False
    written, another = (_formula(each) for each in (one, other))
    if written == another:
        return False
    try:
        first, second = parse(written), parse(another)
        names = sorted({*first.names, *second.names})
        numbers = dict(zip(names, np.random.default_rng(0).uniform(1.0, 2.0, len(names)), strict=True))
        return not np.isclose(first(numbers, np), second(numbers, np), rtol=1e-9, atol=0.0)
    except (ValueError, ArithmeticError, TypeError):
        return False


def _formula(unit: str) -> str:
    written = unit.strip().translate(_SPELLINGS).strip()
    for pattern, by in _REWRITTEN:
        written = pattern.sub(by, written).strip()
    return "1" if written in _NO_UNIT or written.strip("()") in _NO_UNIT else written


def _name(name: str) -> str:
    """Return a unit's usual symbol; of another word its singular."""
    if name in _NAMES or len(name) < _SHORT:
        return _NAMES.get(name, name)
    word = name[:-1] if name.endswith("s") and not name.endswith("ss") else name
    for each in (name.lower(), word, word.lower()):
        if each in _NAMES:
            return _NAMES[each]
    return word if len(name) > _SHORT else name
