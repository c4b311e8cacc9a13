"""A TOML file, with what the command line sets on top of it, as a frozen and checked problem."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simfer.pipeline.chain import ConfigError, Mistake, Problem, UsageError, home
from simfer.pipeline.complaints import in_toml, in_words
from simfer.pipeline.remote import Remote, is_remote
from simfer.pipeline.store import Store

Table = dict[str, Any]
_HEAD = re.compile(r"""\s*(?:\[+\s*([^\[\]]+?)\s*\]+\s*(?:#.*)?$|([\w."' -]+?)\s*=)""")  # of a table, or of a value


def load(path: Path | str, overrides: Sequence[str] = ()) -> Problem:
    """Read the config file at `path`, with `overrides` such as "train.steps=2000" on top."""
    file = home(path)
    return from_table(read(file), overrides, folder=file.resolve().parent)


def from_table(table: Mapping[str, Any], overrides: Sequence[str] = (), *, folder: Path) -> Problem:
    """Check a config given as a table; paths in it are relative to `folder`."""
    try:
        merged = deepcopy(dict(table))
        for override in overrides:
            _set(merged, override)
        return Problem.model_validate(merged, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(in_words(error)) from None
    except UnicodeEncodeError as error:  # Pydantic keeps no text that cannot be written
        raise ConfigError([Mistake("", f"got {error.object!r:.60}, which is no text that can be written")]) from None
    except RecursionError:
        raise ConfigError([Mistake("", "its tables are nested too deeply for a config")]) from None


def project_folder(config: Path) -> Path:
    """Return the folder of the project that a config file belongs to."""
    folder = config.resolve().parent
    return folder.parent if folder.name == "configs" else folder


def store_folder(project: Path, chosen: str | Path | None = None) -> Path:
    """Return the folder of the artifacts: the one chosen, or the project's own, which a bucket stands behind."""
    if chosen is None or is_remote(chosen):
        return (project / "data" / "artifacts").resolve()
    if not str(chosen).strip() or "\0" in str(chosen):  # as of a variable that is not set
        raise UsageError([Mistake("--store", f'got "{chosen}", expected the name of a folder, or no --store at all')])
    return home(chosen).resolve()


def open_store(project: Path, chosen: str | Path | None = None) -> Store:
    """Return the store of a project: a folder, and behind it a bucket where one is chosen (s3://bucket/prefix)."""
    return Store(store_folder(project, chosen), Remote(str(chosen)) if is_remote(chosen) else None)


def read(path: Path) -> Table:
    """Read a TOML file as it is, unchecked."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark before the text
    except tomllib.TOMLDecodeError as error:
        raise _refusal(path, _twice(path.read_text("utf-8-sig"), str(error)) or f"not TOML: {error}") from None
    except RecursionError:
        raise _refusal(path, "not a config: its brackets or dotted keys are nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _refusal(path, f"not text in UTF-8, as TOML has to be ({error.reason} at byte {error.start})") from None
    except ValueError as error:  # an integer of thousands of digits, a zero byte in the file's name
        raise _refusal(path, f"cannot be read: {error}") from None
    except FileNotFoundError:
        raise _refusal(path, f"no such file{_nearby(path)}") from None
    except IsADirectoryError:
        raise _refusal(path, f"a folder; expected a config file{_nearby(path / 'any.toml')}") from None
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from None


def _twice(text: str, said: str) -> str:
    """Say which key or table is in a file twice, if that is what was wrong with it; "" if not."""
    found = re.search(r"(overwrite|declare|mutate|Duplicate).*(?:at line (\d+)|at end of document)", said)
    lines = text.rstrip().split("\n")
    if found is None or not 0 < (number := int(found[2] or len(lines))) <= len(lines):
        return ""
    if found[1] == "Duplicate":
        key = said.partition("'")[2].partition("'")[0]
        return f"line {number}: {key} stands twice within one pair of braces; leave one out"
    heads = _heads(lines[:number])
    last, head, above = next(heads, (0, None, {}))
    if head is None:
        return ""
    table = head[1] or next((each[1] for _, each, _ in heads if each[1]), "")
    try:
        path = [
            *(_keys(tomllib.loads(f"[{table}]")) if table else []),
            *(_keys(tomllib.loads(f"{head[2]} = 0")) if head[2] else []),
        ]
    except ValueError:
        return ""
    there, value = _there(above, path)
    what = f"the table [{table}]" if head[1] else f"{head[2]} in [{table}]" if table else head[2]
    is_table = isinstance(value, (dict, list)) and found[1] != "mutate"  # one that others could have been added to
    if len(there) == len(path) and (is_table or not head[1]):
        how = "put its keys below the first one" if head[1] else "leave one out"
        return f"line {last + 1}: {what} is there already, in a line above; {how}"
    if not isinstance(value, (dict, list)):
        return f"line {last + 1}: {what} cannot be, as {'.'.join(there)} has a value in a line above; leave one out"
    ends = "braces" if isinstance(value, dict) else "brackets"
    return f"line {last + 1}: {what} cannot be added, as {'.'.join(there)} is closed by its {ends} in a line above"


def _heads(lines: Sequence[str]) -> Iterator[tuple[int, re.Match[str], Table]]:
    """Yield where tables and values begin, the last one first, each with what the lines above it hold.

    What only looks like one, within a text or an array of several lines, has half of that above it, which is no TOML.
    """
    for n in reversed(range(len(lines))):
        if head := _HEAD.match(lines[n]):
            with suppress(ValueError, RecursionError):
                yield n, head, tomllib.loads("\n".join(lines[:n]))


def _there(table: Table, path: Sequence[str]) -> tuple[list[str], Any]:
    """Follow a path for as long as there is something, and return how far that is, and what is there."""
    value: Any = table
    for depth, key in enumerate(path):
        inner = value[-1] if isinstance(value, list) and value else value
        if not isinstance(inner, dict) or key not in inner:
            return list(path[:depth]), value
        value = inner[key]
    return list(path), value


def _refusal(path: Path, what: str) -> ConfigError:
    return ConfigError([Mistake(str(path), what)])


def _nearby(path: Path) -> str:
    names = sorted(str(near) for near in path.parent.glob("*.toml")) if path.parent.is_dir() else []
    return f" (configs there: {', '.join(names)})" if names else ""


def _set(table: Table, override: str) -> None:
    keys, value = _parse(override)
    for depth, key in enumerate(keys[:-1]):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            what = f"{'.'.join(keys[: depth + 1])} is {in_toml(table)}, not a table with keys of its own"
            raise ConfigError([Mistake(f"--set {override}", what)])
    # What a simulator makes of its options is its own affair, a file name among them too.
    table[keys[-1]] = value if any("options" in key for key in keys) else _from_here(value)


def _parse(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    try:
        override.encode()  # what a shell hands over may be bytes that are no text
        keys = _keys(tomllib.loads(f"{key} = 0"))
    except (ValueError, RecursionError):
        keys = []
    if not keys or not equals:
        raise ConfigError([Mistake(f"--set {override}", "expected KEY=VALUE, such as train.steps=2000")])
    return keys, _value(text)


def _keys(nested: Any) -> list[str]:
    return [name for key, inner in nested.items() for name in (key, *_keys(inner))] if nested else []


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # a bare word, which the shell has stripped of its quotes


def _from_here(value: Any) -> Any:
    """Complete file names that are relative to the current folder, as a shell would have completed them."""
    if isinstance(value, dict):
        return {key: inner if key == "options" else _from_here(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_here(inner) for inner in value]
    if not isinstance(value, str):
        return value
    file = value.rpartition(":")[0] if ".py:" in value else value
    is_path = bool(Path(file).suffix) or "/" in file  # no name of a table has either
    return value.replace(file, str(Path.cwd() / file), 1) if is_path and Path(file).is_file() else value
