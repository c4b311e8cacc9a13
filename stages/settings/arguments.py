"""What an argument of a noise may be: a number, a prior, a column of the data, or a formula of shared ones."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Tag

from simfer.stages.settings.expressions import parse
from simfer.stages.settings.fields import Count, Finite, OpenFraction, Positive, Settings
from simfer.stages.settings.priors import AnyPrior, PositiveOrPrior, PositivePrior, Prior, SharePrior


class Column(Settings):
    """An argument with a value for each datum: a column of the data file, and what is inferred about it.

    It is sqrt((times column)^2 + plus^2).
    """

    column: str
    """The column's name in the data file, such as that of error bars."""
    times: PositiveOrPrior | None = None
    """A factor, or a prior for it: error bars that are too small, or too large, as a whole."""
    plus: PositiveOrPrior | None = None
    """What is added in quadrature, or a prior for it: scatter beyond the error bars."""


def _formula(text: str) -> str:
    parse(text)
    return text


def _kind(value: Any) -> str:
    if isinstance(value, Column) or (isinstance(value, dict) and "column" in value):
        return "column"
    if isinstance(value, str):
        return "formula"
    return "prior" if isinstance(value, (dict, Prior)) else "number"


_Column = Annotated[Column, Tag("column")]
_Formula = Annotated[str, AfterValidator(_formula), Tag("formula")]
Argument = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[AnyPrior, Tag("prior")] | _Column | _Formula, Discriminator(_kind)
]
PositiveArgument = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[PositivePrior, Tag("prior")] | _Column | _Formula,
    Discriminator(_kind),
]
CountArgument = Annotated[Annotated[Count, Tag("number")] | _Column | _Formula, Discriminator(_kind)]
ShareArgument = Annotated[
    Annotated[OpenFraction, Tag("number")] | Annotated[SharePrior, Tag("prior")] | _Column | _Formula,
    Discriminator(_kind),
]


def _bare(column: Column) -> Column:
    if column.times is not None or column.plus is not None:
        raise ValueError("a limit is what the column says; leave out times and plus")
    return column


Limit = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[Column, AfterValidator(_bare), Tag("column")], Discriminator(_kind)
]
