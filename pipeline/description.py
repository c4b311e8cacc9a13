"""Results in words and in HTML, for a prompt and a notebook: of summaries alone, so that nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from simfer.pipeline.progress import number, place
from simfer.stages import markup

Summaries = Mapping[str, Mapping[str, Any]]  # by stage
Rows = Sequence[Mapping[str, Any]]

_COLUMNS = ("parameter", "mean", "sd", "q5", "q95", "unit")  # of the posterior, those that have room on a line
_MOST = 10  # rows at a prompt


def verdict(summaries: Summaries) -> tuple[str, bool | None]:
    """Say in a sentence what the true simulator says of the posterior, and whether that is good; None: not known."""
    if "check" not in summaries:
        unchecked = (
            "NOT CHECKED: this posterior has not been held against the true simulator. `simfer check` does that."
        )
        return unchecked if "infer" in summaries else "No posterior yet.", None
    passed = summaries["check"].get("facts", {}).get("passed", False)
    if passed is None:
        return "NOT CHECKED: there is no simulator to hold this posterior against.", None
    if passed:
        return "PASSED: the true simulator bears this posterior out.", True
    return "FAILED: the true simulator does not bear this posterior out; see the table of checks.", False


def advice(summaries: Summaries) -> str:
    """Say what a verdict that is not good asks for; "" where there is none, or all that could be said is good."""
    said = str(summaries.get("check", {}).get("facts", {}).get("verdict", ""))
    return said.partition(". ")[2] if said.startswith("not checked") else said.removeprefix("failed: ")


def result_in_words(summaries: Summaries, folders: Mapping[str, Path]) -> str:
    """Write the verdict, the posterior and the folders in a few lines."""
    said, passed = verdict(summaries)
    rows = _posterior(summaries)
    parts = [f"Result: {said}"] + ([f"  {more}"] if not passed and (more := advice(summaries)) else [])
    parts += _columns([{name: row.get(name, "") for name in _COLUMNS} for row in rows[:_MOST]])
    parts += [f"  and {len(rows) - _MOST} more, in .summaries"] if len(rows) > _MOST else []
    return "\n".join([*parts, *_folders(folders)])


def result_in_html(summaries: Summaries, folders: Mapping[str, Path]) -> str:
    """Write the verdict, the posterior, all warnings and the folders in HTML."""
    said, passed = verdict(summaries)
    parts = [markup.headline(said, passed)]
    parts += [f"<div>{escape(more)}</div>"] if not passed and (more := advice(summaries)) else []
    parts += [_warnings(summary) for summary in summaries.values()]
    parts += [_table(_posterior(summaries))]
    parts += [markup.table(("stage", "folder"), [(stage, place(folder)) for stage, folder in folders.items()])]
    return f"<div>{''.join(parts)}</div>"


def outcome_in_words(name: str, how: str, summary: Mapping[str, Any], folder: Path) -> str:
    """Write a step, how it came about and what it had to say in a line."""
    facts = summary.get("facts", {})
    said = [f"{fact.replace('_', ' ')} {number(value)}" for fact, value in facts.items() if _is_short(value)]
    return f"Outcome({name}, {how}: {', '.join(said[:_MOST])}; {place(folder)})"


def outcome_in_html(name: str, how: str, summary: Mapping[str, Any], folder: Path) -> str:
    """Write a step, how it came about and all that it had to say in HTML."""
    facts = [{"fact": fact.replace("_", " "), "value": value} for fact, value in summary.get("facts", {}).items()]
    parts = [f"<strong>{escape(name)}</strong>, {escape(how)}", _warnings(summary), _table(facts)]
    for title, rows in summary.get("tables", {}).items():
        parts += [f"<em>{escape(title)}</em>", _table(rows)] if rows else []
    return f"<div>{''.join(parts)}<div>{escape(place(folder))}</div></div>"


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 60)


def _posterior(summaries: Summaries) -> Rows:
    rows: Rows = summaries.get("infer", {}).get("tables", {}).get("posterior", [])
    return rows


def _columns(rows: Rows) -> list[str]:
    """Write a table in lines, its columns below each other; those in which nothing stands are left out."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] != "" for row in rows)]
    cells = [names, *([number(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    words = [any(isinstance(row[name], str) for row in rows) for name in names]
    return ["  " + "  ".join(map(_padded, line, widths, words)).rstrip() for line in cells if line]


def _padded(cell: str, width: int, is_word: bool) -> str:
    return cell.ljust(width) if is_word else cell.rjust(width)


def _folders(folders: Mapping[str, Path]) -> Iterable[str]:
    if folders:
        common = Path(os.path.commonpath([folder.parent.parent for folder in folders.values()]))
        yield f"  Folders in {place(common)}:"
        yield from (f"    {folder.relative_to(common)}" for folder in folders.values())


def _warnings(summary: Mapping[str, Any]) -> str:
    return "".join(
        f"<div>{markup.headline('warning', None)}: {escape(text)}</div>" for text in summary.get("warnings", [])
    )


def _table(rows: Rows) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    return markup.table((name.replace("_", " ") for name in names), cells) if rows else ""


def _cell(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else number(value)
