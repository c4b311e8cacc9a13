"""Tables in HTML, as notebooks show them: plain markup with nothing to load."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_COLOURS = {True: "#1a7f37", False: "#cf222e", None: "#9a6700"}  # legible on white and on black


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table; what its cells say is escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def headline(text: str, passed: bool | None) -> str:
    """Write a verdict in the colour of what it says; None is one that is not known."""
    return f'<strong style="color: {_COLOURS[passed]}">{escape(text)}</strong>'
