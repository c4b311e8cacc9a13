"""What a model behind UM-Bridge takes and gives, whose vectors have no names of their own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from simfer.stages.settings.fields import Finite, Settings


class ServerOutput(Settings):
    """Values of the model's output, in their order."""

    coords: dict[str, Annotated[list[Finite], Field(min_length=1)]] = {}
    """Name of each axis -> the coordinates along it; none of a single number."""
    unit: str = ""
    """The output's unit."""


class Server(Settings):
    """Names for the vectors of a model behind UM-Bridge."""

    inputs: Annotated[list[list[str]], Field(min_length=1)]
    """The parameters in each of the model's input vectors."""
    outputs: Annotated[dict[str, ServerOutput], Field(min_length=1)]
    """The model's output vectors, end to end, cut into named outputs."""
    config: dict[str, Any] = {}
    """What the model is told beside its input, such as a level of accuracy."""
