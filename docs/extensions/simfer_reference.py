"""Sphinx extension: puts into a page what the code itself knows, where a comment `<!-- settings -->` stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from simfer.pipeline.cli import app as simfer
from simfer.stages.settings.listing import Setting, describe, schema, settings

_PLACE = re.compile(r"^<!-- (settings|commands|names) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what fills the pages."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)
    app.connect("build-finished", _write_schema)
    app.add_lexer("csv", TextLexer)  # Pygments has none
    return {"parallel_read_safe": True, "version": "1"}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    made = {"settings": _settings, "commands": _commands, "names": _names}
    source[0] = _PLACE.sub(lambda place: "\n".join(made[place[1]]()), source[0])


def _settings() -> Iterator[str]:
    for section, keys in groupby(settings(), lambda setting: setting.key.partition(".")[0]):
        yield f"## {section}\n"
        for setting in keys:
            yield from _setting(setting)


def _setting(setting: Setting) -> Iterator[str]:
    # An argument of one family alone, as "Normal: Standard deviation", is told from its namesakes by the family.
    family = re.match(r"(\w+): ", setting.meaning) if setting.key.startswith("noise.OUTPUT.") else None
    yield f":::{{confval}} {setting.key}{f' ({family[1]})' if family else ''}"
    yield f":type: {_quoted(setting.type)}"
    yield f":default: {_quoted(setting.default)}"
    unit = f" In: {setting.unit}." if setting.unit else ""
    yield f"\n{setting.meaning[family.end() if family else 0 :]}{unit}\n:::\n"


def _quoted(text: str) -> str:
    """Keep quotation marks and brackets as they are typed; words stay words."""
    return re.sub(r'"[^"]*"|\{\}|\[\]', lambda code: f"`{code[0]}`", text)


def _commands() -> Iterator[str]:
    group: Any = get_command(simfer)
    text = get_docs_for_click(obj=group, ctx=Context(group, info_name="simfer"), name="simfer")
    text = (
        text[text.index("\n## ") :]
        .replace(str(group.epilog), "")
        .replace("\n* `--help`: Show this message and exit.", "")
    )
    yield re.sub(r"\n{3,}", "\n\n", text)


def _names() -> Iterator[str]:
    for table in ("simulators", "architectures", "noise", "priors"):
        yield f"## {table.capitalize()}\n\n| name | what it is |\n|---|---|"
        yield from (f"| `{name}` | {_escaped(line)} |" for name, line in describe(table).items())
        yield ""


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_<>\[\]$])", r"\\\1", text)


def _keep_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let Napoleon, which runs next, not read "Load it: names in, names out" of a property as its type."""
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(": ", " \N{EN DASH} ")


def _write_schema(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        (Path(app.outdir) / "simfer.schema.json").write_text(json.dumps(schema(), indent=1))
