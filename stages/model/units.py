"""Units as people write them, told apart by what they are and not by how: 1/h and h^-1, mg/L and mg / L."""

from __future__ import annotations

import re

import numpy as np

from simfer.stages.settings.expressions import parse

_SPELLINGS = str.maketrans({"µ": "u", "μ": "u", "·": "*", "⋅": "*", "×": "*", "²": "^2", "³": "^3"})
_SIDE_BY_SIDE = re.compile(r"(?<=[\w)])\s+(?=[^\W\d]|\()")  # L/(mol s)
_BARE_POWER = re.compile(r"(?<=[^\W\d_])[+-]?\d+(?!\w)")  # m2, s-1


def contradict(one: str, other: str) -> bool:
    """Say whether two units are both told, and are not the same one."""
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
    except (ValueError, ArithmeticError, TypeError):  # no formula, such as %: then it is its own name
        return True


def _formula(unit: str) -> str:
    written = _SIDE_BY_SIDE.sub("*", unit.strip().translate(_SPELLINGS))
    return "".join(_BARE_POWER.sub(lambda power: f"^{power[0]}", written).split())
