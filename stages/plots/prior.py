"""Some runs of the simulator drawn over the data, before anything is inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from simfer.stages.plots.figures import (
    SKY,
    Place,
    drawable,
    finite,
    grid_figure,
    is_log,
    limits_of,
    set_scale,
    with_unit,
)

_MOST_VECTORS = 2000  # points of runs in a panel: more of them are drawn as pixels
_SHOWN = 0.05, 0.95  # the share of the values that a panel is laid out by


@dataclass(frozen=True)
class Runs:
    """One output's runs along a dimension, or without one side by side, and the data among them."""

    output: str
    unit: str
    dim: str
    dim_unit: str
    x: Float[np.ndarray, " n"]
    runs: Float[np.ndarray, "runs n"]
    at: Float[np.ndarray, " m"]
    observed: Float[np.ndarray, " m"]
    series: str = ""  # which one it is of an output with more dimensions
    name: str = ""  # of the output, where what it is called here is another


def prior_runs(file: Place, shown: Sequence[Runs], source: str) -> None:
    """Draw runs over the data, a panel for each output or series (at most 9)."""
    few = shown[:9]
    title = f"{len(few[0].runs)} runs {source}, and the data"
    with grid_figure(file, len(few), (3.0, 2.3), title, most=3, least=4.4, margin=0.6) as (figure, axes):
        for ax, one in zip(axes, few, strict=True):
            set_scale(ax, "y", is_log(one.name or one.output, np.append(one.runs, one.observed)), 5)
            _runs(ax, one)
            _look_at(ax, one)
            ax.plot([], [], color=SKY, label="runs of the simulator")
            ax.plot(one.at, one.observed, "o", ms=3.4, mfc="k", mec="white", mew=0.4, label="data", zorder=5)
            ax.set_title(drawable(one.output + (f", {one.series}" if one.series else "")))
            ax.set(xlabel=with_unit(one.dim, one.dim_unit), ylabel=with_unit(one.output, one.unit))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _runs(ax: Axes, one: Runs) -> None:
    """Draw the runs, as pixels where they are many: all of them as one thing, or each would be a picture."""
    look: Any = {"colors": SKY, "linewidths": 0.6, "alpha": 0.6, "rasterized": one.runs.size > _MOST_VECTORS}
    ax.add_collection(LineCollection([np.stack([one.x, each], axis=1) for each in one.runs], **look))
    ax.set_xlim(limits_of(np.append(one.x, one.at), False))
    if len(one.x) < 3:
        ax.plot(one.x, one.runs.T, ".", color=SKY, alpha=0.6)


def _look_at(ax: Axes, one: Runs) -> None:
    """Have a panel reach over the data and most of the runs, so that a few that run away hide nothing."""
    (runs,), (observed,) = finite(one.runs.ravel()), finite(one.observed)
    if not runs.size:
        return
    low, high = np.quantile(runs, _SHOWN)
    around = max(runs.min(), 2 * low - high), min(runs.max(), 2 * high - low)  # as far again to either side
    log = ax.get_yscale() == "log"
    limits = limits_of(np.append(runs if log else around, observed), log)
    ax.set_ylim(limits)
    if leave := int(((one.runs < limits[0]) | (one.runs > limits[1])).any(axis=1).sum()):
        ax.text(0.99, 0.98, f"{leave} of {len(one.runs)} runs go beyond", ha="right", va="top", transform=ax.transAxes)
