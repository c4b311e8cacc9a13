"""Names of parameters, outputs and the noise's quantities: which of them can be written, and which are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

_LONGEST = 120  # bytes: a name is a folder's, with something behind it
_RESERVED = ("zarr.json", ".", "..")


def unwritable(name: str) -> str | None:
    """Say why a name cannot be that of a column, an array and a variable in a file; None where it can."""
    if not name.strip() or name != name.strip():
        return f"got the name {name!r}, expected one that is not empty, and has no blank before or behind it"
    if "/" in name or "\\" in name:
        plain = name.replace("/", "_").replace("\\", "_")
        return (
            f'got the name "{name}"; a slash parts folders in the files that simfer writes. Call it "{plain}" (in the '
            "simulator too); a unit belongs in `unit`, and what pictures write is `label`"
        )
    if name in _RESERVED or name.startswith("__") or not name.isprintable() or len(name.encode()) > _LONGEST:
        return f"got the name {name!r}, which cannot be that of a folder or of a variable in a file; rename it"
    return None


def clashes(parameters: Iterable[str], noise: Mapping[str, str]) -> list[str]:
    """Say which quantities of the noise have the name of a parameter, or of one another: one would be lost.

    Args:
        parameters: The simulator's parameters.
        noise: The places in the config of the noise's quantities -> what they are called.
    """
    taken, times = set(parameters), Counter(noise.values())
    return [
        f'{where}: what is inferred there is called "{name}", as a parameter is; rename the parameter, or give the '
        f'noise\'s a name of its own: [noise_parameters] NAME = {{ ... }}, and {where} = "NAME"'
        for where, name in noise.items()
        if name in taken
    ] + [
        f'{", ".join(where for where in noise if noise[where] == name)}: both are called "{name}"; rename an output'
        for name, count in times.items()
        if count > 1
    ]
