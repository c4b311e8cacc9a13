"""Some runs of the simulator drawn over the data, before anything is inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simfer.stages.plots.figures import SKY, Place, drawable, new_figure, set_scale, with_unit


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
    log: bool = False
    series: str = ""  # which one it is of an output with more dimensions


def prior_runs(file: Place, shown: Sequence[Runs], source: str) -> None:
    """Draw runs over the data, a panel for each output or series (at most 9)."""
    few = shown[:9]
    columns = min(len(few), 3)
    rows = -(-len(few) // columns)
    title = f"{len(few[0].runs)} runs {source}, and the data"
    with new_figure(file, max(4.4, 3.0 * columns), 2.3 * rows + 0.6, title) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, one in zip(axes, few, strict=False):
            set_scale(ax, "y", one.log, 5)
            ax.plot(one.x, one.runs.T, color=SKY, lw=0.6, alpha=0.6, marker="." if len(one.x) < 3 else "")
            ax.plot([], [], color=SKY, label="runs of the simulator")
            ax.plot(one.at, one.observed, "o", ms=3.4, mfc="k", mec="white", mew=0.4, label="data", zorder=5)
            ax.set_title(drawable(one.output + (f", {one.series}" if one.series else "")))
            ax.set(xlabel=with_unit(one.dim, one.dim_unit), ylabel=with_unit(one.output, one.unit))
        for ax in axes[len(few) :]:
            ax.remove()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
