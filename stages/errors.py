"""What can go wrong through no fault of ours, each kind with an exit code of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


class SimferError(Exception):
    """A mistake or a limit that the user can act on: shown as its message, without a traceback."""

    exit_code = 3


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a config: where, and what was got, was expected, and can be done."""

    where: str
    what: str


class ConfigError(SimferError):
    """A config that cannot be run: all its mistakes at once."""

    exit_code = 2

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(f"{p.where}: {p.what}" if p.where else p.what for p in mistakes))


class UsageError(ConfigError):
    """A command that cannot be run as it was typed: all its mistakes at once."""


class StageError(SimferError):
    """A stage that cannot go on (too many failed simulations, a loss that is not finite)."""


class UserCodeError(SimferError):
    """An exception that the user's own simulator, network or noise model raised; `__cause__` is the original."""


def did_you_mean(got: Any, known: Iterable[str]) -> str:
    """Ask, after a sentence, whether the nearest of the known names was meant; say nothing where none is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(str(got).lower(), names, 1)
    return f' Did you mean "{names[near[0]]}"?' if near else ""
