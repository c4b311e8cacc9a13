"""A table of runs that are finished: which files, and what their columns are."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from simfer.stages.settings.fields import InputFile, Settings, below_config

PATH = {"type": "string", "format": "path"}
_WILD = frozenset("*?[")


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _files(patterns: list[str], info: ValidationInfo) -> list[str]:
    """Complete paths, and write a pattern out as the files that fit it, in the order of their names and numbers."""
    return [file for pattern in patterns for file in _fitting(below_config(pattern, info))]


def _fitting(pattern: str) -> list[str]:
    try:
        if Path(pattern).exists():
            return [pattern]
        found = sorted(glob(pattern, recursive=True), key=_by_number) if _WILD & set(pattern) else []
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte in it
        raise ValueError(f"got {pattern[:60]!r}, which cannot be a file: {error}") from None
    if not found:
        raise ValueError(f"no such file: {pattern} (paths are relative to the config file)")
    return found


def _by_number(file: str) -> list[tuple[int, str]]:
    """Return what puts out_2.csv before out_10.csv: rows of a table beside such files are in that order."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file)]


def or_names_alone(schema: dict[str, Any]) -> None:
    """Let the schema of a table's field take a file's name, or a list of them, in its place."""
    schema["anyOf"] += [PATH, {"type": "array", "items": PATH, "minItems": 1}]


Files = Annotated[
    list[str],
    BeforeValidator(_as_list),
    AfterValidator(_files),
    InputFile(),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [PATH, {"type": "array", "items": PATH, "minItems": 1}]}),
]


class RunTable(Settings):
    """Runs that are finished, in files; a table's name alone, or a list of names, stands for `files`."""

    files: Files
    """CSV, Parquet, NPZ, NetCDF, Zarr or HDF5 files, or a pattern such as "runs/*.csv"."""
    columns: dict[str, str | list[str]] = {}
    """What a parameter or an output is called in the files, if not by its name; a list, or "y*", makes one output."""
    ignore: list[str] = []
    """Columns that are neither parameters nor outputs, such as a host's name; "t_*" stands for several."""
    coordinates: dict[str, str | list[float]] = {}
    """Coordinates that files do not say: numbers along an axis, or the name of the array that holds them."""
    units: dict[str, str] = {}
    """Units of parameters, outputs and coordinates, where the files do not say."""
    scale: dict[str, str] = {}
    """Outputs that the files hold as "log10" or "log": they are read back to their own scale."""
    random: bool = False
    """Whether the simulator that made the runs is random: equal parameters, other outputs."""

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, given: Any) -> Any:
        return {"files": given} if isinstance(given, (str, list)) else given

    @model_validator(mode="after")
    def _a_scale_is_known(self) -> RunTable:
        for name, scale in self.scale.items():
            if scale not in ("log10", "log"):
                raise ValueError(f'scale.{name}: got "{scale}", expected "log10" or "log"')
        return self
