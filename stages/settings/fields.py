"""What settings are made of: types of fields that say what they take, and how they enter the fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


class Settings(BaseModel):
    """A frozen table of settings: unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class Marker:
    """How a field enters the fingerprint, if not by its value."""


class NotInKey(Marker):
    """The field changes how the work is done and never what comes out (batch size, workers, verbosity)."""


class AddedLater(Marker):
    """The field enters the fingerprint only where it is not at its default, which does what was done before it."""


class InputFile(Marker):
    """The field is the path of a file: its content enters the fingerprint, not its place."""


class Code(Marker):
    """The field is a name from a table or "file.py:Name": for the latter the code enters the fingerprint."""


def _below_config(path: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder", Path.cwd())
    return str((Path(folder) / path).resolve())


def _existing_file(path: str, info: ValidationInfo) -> str:
    full = _below_config(path, info)
    if not Path(full).is_file():
        raise ValueError(f"no such file: {full} (paths are relative to the config file)")
    return full


def table_or_code(table: Callable[[], Any]) -> Callable[[str, ValidationInfo], str]:
    """Return a check that a name is in a table, asked when it is needed, or the user's own: "file.py:Name"."""

    def check(name: str, info: ValidationInfo) -> str:
        if ":" in name:
            file, _, attribute = name.rpartition(":")
            if not file.endswith(".py") or not attribute.isidentifier():
                raise ValueError(f'got "{name}", expected "file.py:Name"')
            return f"{_existing_file(file, info)}:{attribute}"
        known = sorted(table())
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            raise ValueError(f'got "{name}", expected one of {", ".join(known)}, or "file.py:Name".{hint}')
        return name

    return check


ExistingFile = Annotated[str, AfterValidator(_existing_file), InputFile()]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(given: Any) -> int:
    number, _, unit = given.partition(" ") if isinstance(given, str) else (str(given), "", "")
    try:
        size = float(number) * _UNITS[unit] if unit else int(number)
    except (ValueError, KeyError):
        size = 0
    if size <= 0:
        raise ValueError(f'got {given}, expected a number of bytes, or one with its unit: "2 GB"')
    return int(size)


Memory = Annotated[Any, AfterValidator(_bytes)]
