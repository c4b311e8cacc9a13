"""What a stage returns of its work, for a reader: plain data, kept in the artifact's manifest."""

from __future__ import annotations

from typing import Any, NotRequired, TypeAlias, TypedDict

Table: TypeAlias = list[dict[str, Any]]  # a row each, by the name of its column


class Summary(TypedDict):
    """What a stage came to: facts by name, and where there are any, tables by title, warnings and pictures."""

    facts: dict[str, Any]
    tables: NotRequired[dict[str, Table]]
    warnings: NotRequired[list[str]]  # a sentence each, shown before everything else
    pictures: NotRequired[list[str]]  # files in the stage's folder
    to_paste: NotRequired[str]  # lines of a config
    said: NotRequired[dict[str, str]]  # of a check: words for its verdict, by whatever thresholds it is read
    handed: NotRequired[str]  # a digest of what is handed over to later rounds
