"""Who drains the rows of a simulator that runs outside this process: a name, with where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

LOCAL = "local"
_WAYS = '"local", "dask:ADDRESS", "dask:scheduler.json", "spool:FOLDER" or "file.py:make"'


def full_name(name: str, folder: Path) -> str:
    """Return an engine's name with a full path, where it has one.

    Raises:
        ValueError: It is none.
    """
    kind, _, where = name.partition(":")
    if name == LOCAL or (kind == "dask" and ("://" in where or not where)):
        return name
    if kind in ("dask", "spool") and where:
        is_path = kind == "spool" or where.endswith(".json") or "/" in where
        return f"{kind}:{(folder / Path(where).expanduser()).resolve()}" if is_path else f"dask:tcp://{where}"
    file, colon, attribute = name.rpartition(":")
    if not colon or not file.endswith(".py") or not attribute.isidentifier():
        raise ValueError(f'got "{name}", expected {_WAYS}')
    full = (folder / Path(file).expanduser()).resolve()
    if not full.is_file():
        raise ValueError(f"no such file: {full}")
    return f"{full}:{attribute}"


def _below_the_config(name: str, info: ValidationInfo) -> str:
    return full_name(name, Path((info.context or {}).get("folder", Path.cwd())))


Engine = Annotated[str, AfterValidator(_below_the_config)]
