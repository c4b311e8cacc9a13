"""The data's files, and how they are to be read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema, model_validator

from simfer.stages.errors import did_you_mean
from simfer.stages.settings.fields import AddedLater, Settings, TableFile


def _moment(given: Any) -> Any:
    """Read a date of TOML, or one in text."""
    if isinstance(given, datetime):
        return given.replace(tzinfo=None)
    if isinstance(given, date):
        return datetime(given.year, given.month, given.day)
    return datetime.fromisoformat(given).replace(tzinfo=None) if isinstance(given, str) else given


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]


class Dates(Settings):
    """How dates become the numbers of a coordinate."""

    origin: Moment
    """The date that is 0, such as 2020-03-01."""
    unit: Literal["second", "minute", "hour", "day", "week", "year"] = "day"
    """What is counted from there; a year has 365.25 days."""


class Long(Settings):
    """A table with a row for each datum, in which a column names the output."""

    name: str
    """The column that names the output."""
    value: str
    """The column with the data."""


class Source(Settings):
    """A file of data, and how it is to be read where that does not show in it."""

    file: TableFile
    """A CSV file: first the coordinates, then a column for each output measured; an empty cell is a missing datum."""
    columns: Annotated[dict[str, str], AddedLater()] = {}
    """What a coordinate or an output is called in the file, where that is another name."""
    ignore: Annotated[list[str], AddedLater()] = []
    """Columns that are no data."""
    missing: Annotated[list[str] | None, AddedLater()] = None
    """Cells that stand for a missing datum beside empty ones, such as "NA" or "-999"; [] if a -999 is a number."""
    censored: Annotated[dict[str, str], AddedLater()] = {}
    """By output, a column of flags: 1 where the datum lies below the number beside it, -1 above, 0 or empty neither."""
    long: Annotated[Long | None, AddedLater()] = None
    """A row for each datum, where a column names the output: `{ name = "COLUMN", value = "COLUMN" }`."""
    dates: Annotated[Dates | None, AddedLater()] = None
    """How dates become a coordinate: `{ origin = 2020-03-01, unit = "day" }`, or second, minute, hour, week, year."""
    separator: Annotated[Literal[",", ";", "\t", "|", " "] | None, AddedLater()] = None
    """What parts the cells; read off the header if left out."""
    decimal: Annotated[Literal[".", ","] | None, AddedLater()] = None
    """What a number's decimals follow; where cells are not parted by commas, read off the numbers if left out."""
    encoding: Annotated[str | None, AddedLater()] = None
    """Of the text: UTF-8, or UTF-16 with its mark, if left out."""
    prefix: Annotated[str, AddedLater()] = ""
    """What stands before outputs and coordinates of an experiment; [experiments] sees to it."""


class Observation(Source):
    """The data: a CSV file of coordinates and outputs, or several of them by names of yours.

    A table of any other name in it is a file of its own: `[observation.cases]` with `file`, and whatever else that
    file needs.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Source]
    file: TableFile | None = None  # type: ignore[assignment]
    """A CSV file: first the coordinates, then a column for each output measured; an empty cell is a missing datum."""

    @model_validator(mode="before")
    @classmethod
    def _names_a_file(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            more = {key: value for key, value in given.items() if key not in cls.model_fields}
            for key, value in more.items():
                if not isinstance(value, (Mapping, Source)):
                    known = sorted(cls.model_fields)
                    raise ValueError(f"{key}: unknown key.{did_you_mean(key, known)} (known: {', '.join(known)})")
            if "file" not in given and not more:
                raise ValueError("file: missing; expected the data's file, or tables that each name one")
        return given

    @property
    def sources(self) -> dict[str, Source]:
        """Every file with how it is read, by its place in the config."""
        fields = {name: getattr(self, name) for name in Source.model_fields}
        own = {} if self.file is None else {"observation": Source.model_construct(**fields)}
        more = self.__pydantic_extra__ or {}
        return own | {f"observation.{name}": source for name, source in more.items()}
