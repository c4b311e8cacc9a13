"""Quantities that follow from a posterior's parameters and outputs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from simfer.stages.settings.expressions import parse
from simfer.stages.settings.fields import Settings


def _formula(text: str) -> str:
    parse(text)
    return text


class Derived(Settings):
    """A quantity that follows from others, draw by draw."""

    formula: Annotated[str, AfterValidator(_formula)]
    """What it is: "beta / gamma", or of an output, "max(infected)"."""
    unit: str = ""
    """Unit, for pictures and tables."""
    label: str = ""
    """How pictures write the name, such as "$R_0$"."""


def _table(given: Any) -> Any:
    return {"formula": given} if isinstance(given, str) else given


AnyDerived = Annotated[Derived, BeforeValidator(_table)]
