"""What the commands on a config have in common: the config, its store, and how the answer is wanted."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import Parameter, Signature
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from simfer.pipeline import chain
from simfer.pipeline.chain import Mistake, UsageError
from simfer.pipeline.progress import Progress, reporter

if TYPE_CHECKING:
    from rich.console import Console

    from simfer.pipeline.chain import Problem
    from simfer.pipeline.store import Store

_WITHOUT_A_TERMINAL = 200  # columns: a file or a pipe has no width of its own, and tables are as wide as they need
_CONFIG = Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of a problem.", show_default=False)]
_SHARED: dict[str, Any] = {
    "settings": Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the config, as train.steps=2000."),
    ],
    "store": Annotated[
        str | None,
        typer.Option(
            "--store", metavar="FOLDER", help="Folder of the artifacts, or s3://bucket/prefix.", show_default=False
        ),
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", help="Say nothing unless something goes wrong.")],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")],
}


@dataclass(frozen=True)
class Call:
    """One command on one config."""

    config: Path
    settings: tuple[str, ...] = ()
    chosen: str | None = None  # the store, if one is named
    quiet: bool = False
    json: bool = False

    @property
    def shows(self) -> bool:
        """Whether results are for eyes."""
        return not (self.quiet or self.json)

    @property
    def folder(self) -> Path:
        """The folder of the config."""
        return self.config.resolve().parent

    def drained(self, engine: str | None, workers: int | None) -> Call:
        """Return the same command with the rows run by somebody else, or so many at a time.

        Raises:
            UsageError: That is no engine.
        """
        given = {"simulate.workers": workers, "simulate.engine": engine and _engine(engine)}
        more = [f"{key}={dumps(value)}" for key, value in given.items() if value is not None]
        return replace(self, settings=(*self.settings, *more)) if more else self

    @cached_property
    def problem(self) -> Problem:
        """The config, read and checked."""
        from simfer.pipeline import config

        return config.load(self.config, self.settings)

    @cached_property
    def store(self) -> Store:
        """The store of its artifacts."""
        from simfer.pipeline import config

        return config.open_store(config.project_folder(self.config), self.chosen)

    @cached_property
    def reporter(self) -> Progress:
        """Where the work says how far it is."""
        return reporter(not self.shows)


def on_config(body: Callable[..., None], *, looks: bool = False, options: dict[str, Any] | None = None) -> Any:
    """Give a command the options that all share: `body` takes a `Call`, and its own options by their names.

    Args:
        body: What the command does.
        looks: Whether it only looks, and so has no --quiet and no --json.
        options: Annotated types of further options, each None unless it is given.
    """
    hints = get_type_hints(body, include_extras=True)
    own = [each for each in inspect.signature(body).parameters.values() if each.kind is not Parameter.VAR_KEYWORD][1:]
    parameters = [Parameter("config", Parameter.KEYWORD_ONLY, annotation=_CONFIG)]
    parameters += [each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY) for each in own]
    for name, kind in ((options or {}) | _SHARED).items():
        if not (looks and name in ("quiet", "json")):
            default = False if name in ("quiet", "json") else None
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default))

    def command(**given: Any) -> None:
        path, settings, chosen = given.pop("config"), given.pop("settings"), given.pop("store")
        call = Call(path, tuple(settings or ()), chosen, given.pop("quiet", False), given.pop("json", False))
        body(call, **given)

    command.__doc__ = body.__doc__
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _engine(name: str) -> str:
    try:
        return chain.full_name(name, Path.cwd())
    except ValueError as error:
        raise UsageError([Mistake("--engine", str(error))]) from None


def console() -> Console:
    """Return where tables are printed."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_WITHOUT_A_TERMINAL)
