"""Quantities that follow from a posterior's parameters and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from simfer.stages.settings.expressions import parse
from simfer.stages.settings.fields import AddedLater, Code, Settings


def _formula(text: str) -> str:
    if text:
        parse(text)
    return text


class Derived(Settings):
    """A quantity that follows from others, draw by draw."""

    formula: Annotated[str, AfterValidator(_formula)] = ""
    """What it is: "beta / gamma", or of an output, "max(infected)"."""
    function: Annotated[str, Code(tuple), AddedLater()] = ""
    """Your own function in a file beside the config, "file.py:name", whose arguments are parameters and outputs."""
    unit: str = ""
    """Unit, for pictures and tables."""
    label: str = ""
    """How pictures write the name, such as "$R_0$"."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Derived:
        if bool(self.formula) == bool(self.function):
            raise ValueError('expected either a formula, "beta / gamma", or a function, "file.py:name"')
        return self

    @property
    def words(self) -> str:
        """What it is, as files and messages have it."""
        return self.formula or Path(self.function).name


def _table(given: Any) -> Any:
    if isinstance(given, str):
        return {"function": given} if Code.is_own(given) else {"formula": given}
    return given


AnyDerived = Annotated[Derived, BeforeValidator(_table)]
