"""The shape of a manifest: whoever has another's artifact has a file that anyone may have written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Test = Callable[[Any], bool]
_MOST = 2**63  # what a file system counts bytes and nanoseconds in


def wrong(manifest: Mapping[str, Any]) -> str:
    """Say which entry is missing, or not of the type that Simfer writes; nothing if all are."""
    return next(_complaints(manifest), "")


def _complaints(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from _unlike(manifest, _ENTRIES)
    yield from _unlike(manifest, _MAY_BE, needed=False)
    for name, record in manifest["files"].items():
        if not _is_inside(name):
            yield f"files: {name!r}, which does not stay in its folder"
        yield from (f"files.{name}: {what}" for what in _unlike(record, _RECORD))
    summary = manifest["summary"]
    yield from (f"summary: {what}" for what in _unlike(summary, {"facts": _is_table}))
    yield from (f"summary: {what}" for what in _unlike(summary, _MAY_SAY, needed=False))
    yield from (f"summary.pictures: {name!r}" for name in summary.get("pictures", []) if not _is_inside(name))
    yield from (f"summary.facts: {name}" for name, value in summary["facts"].items() if not _is_fact(value))
    try:
        json.dumps(manifest, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        yield "letters that are none"


def _unlike(table: Any, entries: Mapping[str, Test], needed: bool = True) -> Iterator[str]:
    for name, test in entries.items():
        if needed and name not in table:
            yield f"no {name}"
        elif name in table and not test(table[name]):
            yield f"{name}: {str(table[name])[:40]!r}"


def _is_inside(name: Any) -> bool:
    """Say whether a name is that of a file below a folder, and cannot be of any other."""
    return isinstance(name, str) and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and abs(value) < 1e308)


def _is_fact(value: Any) -> bool:
    return _is_scalar(value)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _table_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _matches(pattern: str) -> Test:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_key(value: Any) -> bool:
    """Say whether what an artifact was made of is written as keys are, however old."""
    if not (
        isinstance(value, dict)
        and _is_count(value.get("version"))
        and _table_of(_list_of(_is_text))(value.get("inputs"))
    ):
        return False
    config = value.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("infer", {}), dict):
        return False
    return _is_count(config.get("infer", {}).get("num_samples", 0))


_is_moment = _matches(r"\d{4}-\d\d-\d\dT[\d:.]+(\+\d\d:\d\d|Z)?")
_RECORD: dict[str, Test] = {"sha256": _matches(r"[0-9a-f]{64}"), "bytes": _is_count, "mtime_ns": _is_count}
_ENTRIES: dict[str, Test] = {
    "stage": _is_text,
    "round": _is_count,
    "fingerprint": _is_text,
    "key": _is_key,
    "summary": _is_table,
    "versions": _table_of(_is_scalar),
    "device": _is_text,
    "started": _is_moment,
    "finished": _is_moment,
    "seconds": _is_number,
    "files": _table_of(_is_table),
}
_MAY_BE: dict[str, Test] = {
    "handed": _is_text,
    "identity": _matches(r"[0-9a-f]{16}"),
    "precision": _is_text,
    "timing": _table_of(_is_number),
    "programs": _is_count,
}
_MAY_SAY: dict[str, Test] = {
    "tables": _table_of(_list_of(_table_of(_is_scalar))),
    "warnings": _list_of(_is_text),
    "pictures": _list_of(_is_text),
    "to_paste": _is_text,
}
