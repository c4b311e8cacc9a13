"""Numbers as programs print them, Fortran's among them."""

from __future__ import annotations

import re

from simfer.stages.simulate.children.returned import BadOutput

_NO_LETTER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([+-]\d+)")  # 0.12-100: the exponent took the E's place


def number(text: str, where: str) -> float:
    """Read one number: 1.5, 1.0D+00, 0.12-100, NaN."""
    plain = text.strip().strip('"')
    if set(plain) == {"*"}:
        raise BadOutput(f"{where}: got {plain}, which is Fortran's for a number that its field is too narrow for")
    written = plain.replace("D", "e").replace("d", "e") if "n" not in plain.lower() else plain
    if found := _NO_LETTER.fullmatch(written):
        written = f"{found[1]}e{found[2]}"
    try:
        return float(written)
    except ValueError:
        raise BadOutput(f"{where}: got {plain!r}, expected a number") from None
