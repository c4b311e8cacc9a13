"""What can go wrong through no fault of ours, each kind with an exit code of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class SimferError(Exception):
    """A mistake or a limit that the user can act on: its message says what was got, and what to do.

    All other errors of Simfer's are kinds of it; `exit_code` is that of the command line.

    Example:
        >>> import simfer
        >>> try:
        ...     simfer.load("line.toml", overrides=["simulate.seed=7"]).posterior
        ... except simfer.SimferError as error:
        ...     print(error)
        infer has not been run; there is nothing yet
    """

    exit_code = 3


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a config.

    Args:
        where: The key of the config, such as `train.width`; empty where it is of none.
        what: What was got, what was expected, and what can be done.

    Example:
        >>> import simfer
        >>> simfer.Mistake("train.steps", "got -1, expected a whole number > 0").where
        'train.steps'
    """

    where: str
    what: str


class ConfigError(SimferError):
    """A config that cannot be run: all its mistakes at once.

    Args:
        mistakes: Each thing that is wrong, a `Mistake`; kept as `mistakes`.

    Example:
        >>> import simfer
        >>> try:
        ...     simfer.load("line.toml", overrides=["train.wdith=64", "train.steps=-1"])
        ... except simfer.ConfigError as error:
        ...     print([mistake.where for mistake in error.mistakes])
        ['train.steps', 'train.wdith']
    """

    exit_code = 2

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(f"{p.where}: {p.what}" if p.where else p.what for p in mistakes))


class UsageError(ConfigError):
    """A command that cannot be run as it was typed: all its mistakes at once."""


class StageError(SimferError):
    """A stage that cannot go on: too many simulations failed, a loss is not finite. What was finished is kept.

    Example:
        >>> import simfer
        >>> try:
        ...     simfer.run("line.toml", overrides=['simulate.simulator="line.py:Nowhere"'], until="simulate")
        ... except simfer.StageError as error:
        ...     print(str(error).partition(",")[0])
        100.0% of the simulations failed (64 not finite)
    """


class WaitingForRuns(SimferError):
    """A chain that cannot go on before somebody has made the runs that it asks for (`simfer ask`, `simfer tell`).

    Args:
        what: What is waited for, in words.
        ledger: The folder in which what was asked and told is kept.

    Example:
        >>> import simfer
        >>> try:
        ...     simfer.run("line.toml", overrides=["simulate.simulator=ask"], until="simulate")
        ... except simfer.WaitingForRuns as error:
        ...     print(str(error).partition(" (")[0])
        simulate-0 waits for 64 of 64 runs
    """

    exit_code = 6

    def __init__(self, what: str, ledger: Path) -> None:
        self.ledger = ledger
        super().__init__(what)


class UserCodeError(SimferError):
    """An exception that your own simulator, architecture or noise raised; `__cause__` is the original.

    Example:
        >>> import simfer
        >>> try:
        ...     simfer.run("line.toml", overrides=['simulate.simulator="line.py:Broken"'], until="simulate")
        ... except simfer.UserCodeError as error:
        ...     print(repr(error.__cause__))
        KeyError('sped')
    """


def did_you_mean(got: Any, known: Iterable[str]) -> str:
    """Ask, after a sentence, whether the nearest of the known names was meant; say nothing where none is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(str(got).lower(), names, 1)
    return f' Did you mean "{names[near[0]]}"?' if near else ""
