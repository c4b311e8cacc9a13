"""Pieces of HTML: tables, pictures with captions, things to unfold. All that is said is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_MANY = 5  # columns, which a narrow screen has no room for
_HEADS = {"q5": "5 %", "q95": "95 %", "r_hat": "R-hat", "ess_bulk": "ESS, bulk", "ess_tail": "ESS, tail"}


def number(value: Any) -> str:
    """Write a value for a reader: four digits of a number, yes or no, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) and 1e4 <= abs(value) < 1e7:
        return f"{float(f'{value:.4g}'):,.0f}".replace("-", "−")
    if isinstance(value, float):
        return (
            f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−") if math.isfinite(value) else "–"
        )
    return str(value)


def duration(seconds: float) -> str:
    """Write a time: 3.2 s, 5 min, 2.5 h."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None, whole: bool = False) -> str:
    """Write a table; on a narrow screen each row of many columns becomes a few lines.

    Args:
        rows: Its rows, values by the names of their columns.
        columns: The columns, in their order; all that there are if left out.
        whole: Whether columns have names that a user gave, which are written as they are.
    """
    if not rows:
        return ""
    names = list(columns) if columns else list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if any(row.get(name) not in ("", None) for row in rows)]
    numeric = {name for name in names if not any(isinstance(row.get(name), (str, bool)) for row in rows)}
    many = len(names) >= _MANY - whole  # and names of a user's are longer
    words = {name: _HEADS.get(name, name if whole else name.replace("_", " ")) for name in names}
    head = "".join(f"<th{_side(name in numeric)}>{escape(words[name])}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(_cell(row.get(name), name in numeric, words[name] if many else '') for name in names)}</tr>"
        for row in rows
    )
    kind = ' class="many"' if many else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _side(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _cell(value: Any, numeric: bool, head: str) -> str:
    kind = f' class="{"yes" if value else "no"}"' if isinstance(value, bool) else _side(numeric)
    named = f" data-head='{escape(head)}'" if head else ""
    return f"<td{kind}{named}>{escape(_together(number(value)))}</td>"


def _together(text: str) -> str:
    """Keep a limit's sign beside its number."""
    return re.sub(r"([≤≥]) ", "\\1\u00a0", text)


def said(text: str) -> str:
    """Escape words; what stands in backquotes is code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def paragraph(text: str, kind: str = "") -> str:
    """Write a paragraph."""
    return f"<p{f' class={kind!r}' if kind else ''}>{said(text)}</p>"


def items(texts: Iterable[str], kind: str = "") -> str:
    """Write a list; nothing where there is nothing."""
    inner = "".join(f"<li>{said(text)}</li>" for text in texts)
    return f"<ul{f' class={kind!r}' if kind else ''}>{inner}</ul>" if inner else ""


def listing(text: str) -> str:
    """Write code or a config as it is."""
    return f"<pre><code>{escape(text)}</code></pre>"


def figure(svg: str, caption: str) -> str:
    """Put a caption below a picture."""
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def fold(title: str, inner: str, opened: bool = False) -> str:
    """Put what only some will read behind its title."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{inner}</details>"


def section(anchor: str, title: str, *parts: str) -> str:
    """Write a section; nothing where it has nothing to say."""
    inner = "".join(parts)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{inner}</section>' if inner else ""
