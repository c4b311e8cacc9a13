"""Draw what each stage made: publication-quality pictures as PNG files, the same bytes for the same numbers."""

from __future__ import annotations

from simfer.stages.plots.bands import Panel, predictive
from simfer.stages.plots.comparisons import compare, curve, tuning
from simfer.stages.plots.figures import Held, Look, looking
from simfer.stages.plots.influences import Influence, influences, influences_along, influences_over
from simfer.stages.plots.marginals import Marginal, marginals
from simfer.stages.plots.models import models
from simfer.stages.plots.planes import Field, Map, fields, maps
from simfer.stages.plots.posterior import pair, trace
from simfer.stages.plots.prior import Runs, prior_runs
from simfer.stages.plots.runs import overlaid
from simfer.stages.plots.simulations import design, failures
from simfer.stages.plots.training import held_out, losses
from simfer.stages.plots.verdicts import calibration, verdict

__all__ = [
    "Field",
    "Held",
    "Influence",
    "Look",
    "Map",
    "Marginal",
    "Panel",
    "Runs",
    "calibration",
    "compare",
    "curve",
    "design",
    "failures",
    "fields",
    "held_out",
    "influences",
    "influences_along",
    "influences_over",
    "looking",
    "losses",
    "maps",
    "marginals",
    "models",
    "overlaid",
    "pair",
    "predictive",
    "prior_runs",
    "trace",
    "tuning",
    "verdict",
]
