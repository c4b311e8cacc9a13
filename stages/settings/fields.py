"""What settings are made of: types of fields that say what they take, and how they enter the fingerprint."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from simfer.stages.errors import did_you_mean


@cache
def _meanings(file: str) -> dict[str, dict[str, str]]:
    """Read what stands below each field of each class in a file."""
    classes = [node for node in ast.parse(Path(file).read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return {each.name: dict(_texts(each)) for each in classes}


def _texts(model: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(model.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                yield name, inspect.cleandoc(text)


def _with_meanings(schema: dict[str, Any], model: type[BaseModel]) -> None:
    # Pydantic's use_attribute_docstrings would read them whenever a config is loaded, which takes a tenth of a second.
    for kind in reversed(model.__mro__):
        file = getattr(sys.modules[kind.__module__], "__file__", None) if issubclass(kind, Settings) else None
        for name, meaning in (_meanings(file).get(kind.__name__, {}) if file else {}).items():
            schema["properties"][name]["description"] = meaning


class Settings(BaseModel):
    """A frozen table of settings: unknown keys and wrong types are refused.

    What stands below a field is its meaning: the reference, `simfer list settings` and editors have it from there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        json_schema_extra=_with_meanings,
        defer_build=True,  # of a hundred tables a command checks a dozen, and `--help` none
    )


@dataclass(frozen=True)
class Unit:
    """What a field is counted or measured in."""

    unit: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the unit to the field's schema."""
        return handler(core) | {"unit": self.unit}


class Marker:
    """How a field enters the fingerprint, if not by its value."""


class NotInKey(Marker):
    """The field changes how the work is done and never what comes out (batch size, workers, verbosity)."""


class AddedLater(Marker):
    """The field enters the fingerprint only where it is not at its default, which does what was done before it."""


class ReadLater(Marker):
    """The field is applied when a result is looked at (a threshold, a unit) and changes nothing that is computed.

    It enters the fingerprint at its default, whatever it is: that is how it stands in older ones.
    """


class InputFile(Marker):
    """The field is the path of a file: its content enters the fingerprint, not its place."""


class Cells(Marker):
    """The file is a table: its cells enter the fingerprint, not how numbers and the ends of lines are written."""


@dataclass(frozen=True)
class Code(Marker):
    """The field is a name from a table or "file.py:Name": for the latter the code enters the fingerprint."""

    table: Callable[[], Iterable[str]]  # asked when it is needed
    also: str = ""  # what else there may be, as a pattern: the address of a server

    @staticmethod
    def is_own(value: str) -> bool:
        """Say whether a name is that of a user's own code."""
        return ".py:" in value and not value.startswith(("http://", "https://"))

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check that a name is in the table, or the user's own."""
        return core_schema.with_info_after_validator_function(self._check, handler(kind))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Offer the names of the table to an editor."""
        own = {"type": "string", "pattern": r"\.py:[^\W\d]\w*$"}
        names = sorted(self.table())
        others = [{"type": "string", "pattern": self.also}] if self.also else []
        return {"anyOf": [{"enum": names}, own, *others]} if names else own

    def _check(self, name: str, info: ValidationInfo) -> str:
        if not name:
            return name  # none is named
        if self.also and re.match(self.also, name):
            return name
        if ":" in name:
            file, _, attribute = name.rpartition(":")
            if not file.endswith(".py") or not attribute.isidentifier():
                raise ValueError(f'got "{name}", expected "file.py:Name"')
            return f"{_existing_file(file, info)}:{attribute}"
        known = sorted(self.table())
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f'got "{name}", expected one of {", ".join(known)}, or "file.py:Name".{hint}')
        return name


def home(path: str | Path) -> Path:
    """Return a path with a leading "~" replaced by the user's folder, as a shell would have done it."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user that is none
        return Path(path)


def below_config(path: str, info: ValidationInfo) -> str:
    """Return the full path of one that is relative to the config file."""
    folder = (info.context or {}).get("folder", Path.cwd())
    return str((Path(folder) / home(path)).resolve())


def _existing_file(path: str, info: ValidationInfo) -> str:
    try:
        full = below_config(path, info)
        is_there = Path(full).is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte in it
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"got {path[:60]!r}, which cannot be a file: {reason}") from None
    if not is_there:
        raise ValueError(f"no such file: {full} (paths are relative to the config file)")
    return full


ExistingFile = Annotated[str, AfterValidator(_existing_file), InputFile(), Field(json_schema_extra={"format": "path"})]
TableFile = Annotated[ExistingFile, Cells()]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0, lt=2**31)]  # as many as JAX and HDF5 count, and more than anyone can wait for
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
_MOST_BYTES = 2**63
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(given: Any) -> float:
    """Return a duration in seconds: a number of them, or one with its unit, such as "2 h"."""
    number, _, unit = given.partition(" ") if isinstance(given, str) else (given, "", "s")
    try:
        span = float(number) * _SECONDS[unit]
    except (ValueError, KeyError, TypeError):
        span = 0.0
    if not 0 < span < float("inf"):
        raise ValueError(f'got {given!r}, expected seconds, or a number with its unit (s, min, h, d): "2 h"')
    return span


_DURATION = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[\d.]+ (s|min|h|d)$"}]
}
Duration = Annotated[Any, AfterValidator(seconds), WithJsonSchema(_DURATION)]
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(given: Any) -> int:
    number, _, unit = given.partition(" ") if isinstance(given, str) else (str(given), "", "")
    try:
        size = float(number) * _UNITS[unit] if unit else int(number)
    except (ValueError, KeyError):
        size = 0
    if not 0 < size < _MOST_BYTES:
        raise ValueError(f'got {given}, expected a number of bytes, or one with its unit: "2 GB"')
    return int(size)


_MEMORY = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[\d.]+ [kMGT]B$"}]}
Memory = Annotated[Any, AfterValidator(_bytes), WithJsonSchema(_MEMORY)]
