"""How pictures for a paper look; nothing of it enters a key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from simfer.stages.settings.fields import Positive, Settings, Unit


class Plots(Settings):
    """How `simfer plots` draws what a run came to."""

    formats: Annotated[list[Literal["pdf", "svg", "png"]], Field(min_length=1)] = ["pdf", "svg"]
    """Kinds of files that are written."""
    width: Annotated[Positive | None, Unit("inches")] = None
    """Width of a picture, as that of a journal's column; heights follow, and letters keep their size."""
    dpi: Annotated[Positive, Unit("dots per inch")] = 300.0
    """Of PNG, and of what is drawn as pixels within the others."""
    title: bool = False
    """Whether pictures have titles; a paper has captions."""
    style: dict[str, Any] = {}
    """Matplotlib's rcParams, such as "font.family" = "serif"."""
    log: list[str] = []
    """Parameters, outputs and coordinates on logarithmic axes, as are those of a LogUniform prior; all else is not."""
    labels: dict[str, str] = {}
    """How pictures name parameters and outputs, LaTeX between dollars; a parameter's own `label` otherwise."""
