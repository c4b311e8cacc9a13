"""Names in a config that nobody knows, and what was probably meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.model.plugins import resolve
from simfer.stages.simulate.simulators.base import Simulator


def resolved(
    where: str, name: str, table: Mapping[str, str], kind: type, found: list[Mistake]
) -> Callable[..., Any] | None:
    """Return the class that a name stands for; None, and what is wrong with it, where there is none."""
    try:
        make = resolve(name, table, where)
    except ConfigError as error:
        found += error.mistakes
        return None
    if not (inspect.isclass(make) and issubclass(make, kind)):
        base = "ODESimulator or FunctionSimulator" if kind is Simulator else kind.__name__
        found.append(Mistake(where, f"{name.rpartition('/')[2]} is not a class that inherits from {base}"))
        return None
    if inspect.isabstract(make):
        missing = ", ".join(sorted(getattr(make, "__abstractmethods__", ())))
        found.append(Mistake(where, f"{make.__name__} does not define {missing}"))
        return None
    return make


def unknown_names(where: str, given: Iterable[str], known: Iterable[str], needed: bool = False) -> list[Mistake]:
    """List which names nobody knows, and, if all are needed, which are missing."""
    given, known = list(given), list(known)
    found = [
        Mistake(
            f"{where}.{name}", f"unknown; expected one of {', '.join(known) or '(none)'}.{did_you_mean(name, known)}"
        )
        for name in given
        if name not in known
    ]
    missing = [name for name in known if name not in given] if needed else []
    return found + [
        Mistake(f"{where}.{name}", "missing: the simulator takes it; give it a prior or a fixed number")
        for name in missing
    ]
