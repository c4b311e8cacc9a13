"""What several models predict, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simfer.stages.plots.bands import Panel
from simfer.stages.plots.figures import CYCLE, Place, drawable, grid_figure, quantiles_of, with_unit


def models(file: Place, shown: Sequence[Mapping[str, Panel]]) -> None:
    """Draw each output's data (at most 9 outputs) on the 90 % intervals that each model has for them."""
    few = shown[:9]
    title = "Data on the 90 % intervals of each model"
    with grid_figure(file, len(few), (3.1, 2.5), title, most=3, least=4.4, margin=0.7) as (figure, axes):
        for ax, panels in zip(axes, few, strict=True):
            for (name, panel), colour in zip(panels.items(), CYCLE, strict=False):
                low, middle, high = quantiles_of(panel.replicated, (0.05, 0.5, 0.95))
                ax.fill_between(panel.x, low, high, color=colour, alpha=0.3, lw=0)
                ax.plot(panel.x, middle, color=colour, label=drawable(name))
            one = next(iter(panels.values()))
            ax.plot(one.x, one.observed, "o", ms=3.2, mfc="k", mec="white", mew=0.4, label="data")
            ax.set(title=drawable(one.output), ylabel=with_unit(one.output, one.unit))
            ax.set_xlabel(with_unit(one.dim, one.dim_unit) if one.dim else "number of the datum")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
