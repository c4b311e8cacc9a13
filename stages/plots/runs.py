"""The posteriors of several runs, over one another."""

from __future__ import annotations

from collections.abc import Mapping

from simfer.stages.plots.densities import smooth
from simfer.stages.plots.figures import (
    CYCLE,
    Place,
    Values,
    broken,
    drawable,
    finite,
    grid_figure,
    hide_y,
    labels_of,
    out_of,
)

_MOST = 24  # quantities


def overlaid(file: Place, shown: Mapping[str, Mapping[str, Values]], labels: Mapping[str, str] | None = None) -> None:
    """Draw each quantity's marginal density in every run that has it (at most 24 quantities).

    Args:
        file: Where the picture goes.
        shown: Draws by the quantity's name, and by the run's.
        labels: What quantities are called, where not by their names.
    """
    few = dict(list(shown.items())[:_MOST])
    runs = list(dict.fromkeys(run for each in shown.values() for run in each))
    colours = {run: CYCLE[i % len(CYCLE)] for i, run in enumerate(runs)}
    title = "Posteriors of several runs" + out_of(list(few), shown, "quantities")
    with grid_figure(file, len(few), (1.85, 1.45), title, most=4, least=3.4, margin=0.6) as (figure, axes):
        for ax, label, each in zip(axes, labels_of(list(few), labels), few.values(), strict=True):
            for run, values in each.items():
                x, density = smooth(finite(values.ravel())[0], log=False)
                ax.plot(x, density, color=colours[run], label=drawable(run))
            hide_y(ax)
            ax.set_xlabel(broken(label, 1.7))
        found = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), 3))
