"""Draw what each stage made: publication-quality pictures as PNG files, the same bytes for the same numbers."""

from __future__ import annotations

from stages.plots.bands import Panel, predictive
from stages.plots.comparisons import curve, ranking, tuning
from stages.plots.influences import Influence, influences, influences_along, influences_over
from stages.plots.planes import Field, Map, fields, maps
from stages.plots.posterior import pair, trace
from stages.plots.simulations import design, failures
from stages.plots.training import held_out, losses
from stages.plots.verdicts import calibration, verdict

__all__ = [
    "Field",
    "Influence",
    "Map",
    "Panel",
    "calibration",
    "curve",
    "design",
    "failures",
    "fields",
    "held_out",
    "influences",
    "influences_along",
    "influences_over",
    "losses",
    "maps",
    "pair",
    "predictive",
    "ranking",
    "trace",
    "tuning",
    "verdict",
]
