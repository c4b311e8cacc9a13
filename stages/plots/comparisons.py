"""Draw what trainings are held against one another by: error and cost, number of simulations, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from simfer.stages.plots.figures import BLUE, CYCLE, GREY, RED, SKY, Place, drawable, new_figure


def compare(
    file: Place,
    rows: Sequence[Mapping[str, Any]],
    ranges: Mapping[str, tuple[float, float]],
    unit: str,
    limit: float | None,
) -> None:
    """Draw each architecture's error on test rows against what a gradient takes, and against its training."""
    costs = {"gradient_us": "value and gradient [µs]", "training_s": "training [s]"}
    with new_figure(file, 7.2, 3.6, "Error on test rows, against what it costs") as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (cost, words) in zip(axes, costs.items(), strict=True):
            for row, colour in zip(rows, cycle(CYCLE), strict=False):
                x, name = row[cost], row["architecture"]
                ax.vlines(x, *ranges[name], color=colour, lw=1.2)
                ax.plot(x, row["percentile_99"], "o", color=colour, ms=6)
                ax.plot(x, row["median"], "o", color=colour, ms=4, mfc="white")
                ax.vlines(x, row["median"], row["percentile_99"], color=colour, lw=0.6, ls=":")
                ax.annotate(
                    drawable(name), (x, row["median"]), (6, -2), textcoords="offset points", color=colour, fontsize=7
                )
            ax.set(xscale="log", yscale="log", xlabel=words)
            ax.margins(x=0.25, y=0.12)
            _round_ticks(ax.xaxis)
            if limit is not None:
                ax.axhline(limit, color="k", lw=0.8, ls="--")
        _round_ticks(axes[0].yaxis)
        axes[0].set_ylabel(f"|emulated − simulated| [{unit}]")
        look: Any = {"color": "0.3", "marker": "o"}
        keys = [
            Line2D([], [], lw=1.2, **look, label="99th percentile, from the least to the most over seeds"),
            Line2D([], [], ls="", mfc="white", ms=4, **look, label="median"),
        ]
        if limit is not None:
            keys.append(Line2D([], [], color="k", lw=0.8, ls="--", label="check.max_emulator_error"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


def curve(file: Place, points: Sequence[Mapping[str, Any]], law: Any, target: float, unit: str, level: float) -> None:
    """Draw the error on test rows against the number of simulations, the line fitted to it, and the target."""
    n, high, middle = (np.array([p[key] for p in points], float) for key in ("simulations", "percentile_99", "median"))
    wanted = law.needed(target, level)[0]
    sure = law.falls(level) and high[-1] > target  # otherwise the line leads nowhere
    end = min(max(1.3 * n.max(), 1.3 * wanted), 30 * n.max()) if sure else 1.3 * n.max()
    x = np.geomspace(n.min() / 1.3, end, 100)
    power = f"{law.slope:.2g} ± {law.reach(level) * law.slope_error:.2g}".replace("-", "−")
    title = f"The error goes as n to the power {power}"
    with new_figure(file, 4.8, 3.5, title) as figure:
        ax = figure.add_subplot(xscale="log", yscale="log", xlabel="number of simulations")
        ax.set_ylabel(f"|emulated − simulated| [{unit}]")
        line, factor = law.at(x), law.factor(x, level)
        ax.fill_between(
            x, line / factor, line * factor, color=SKY, alpha=0.35, lw=0, label=f"its {100 * level:.0f} % band"
        )
        ax.plot(x, line, color=BLUE, lw=1, label="power law, fitted")
        ax.plot(n, high, "o", color=BLUE, ms=5, label="99th percentile")
        ax.plot(n, middle, "o", color=BLUE, mfc="white", ms=4, label="median")
        ax.axhline(target, color="k", lw=0.8, ls="--", label=f"target {target:g}")
        if n.max() < wanted <= end:
            ax.plot(wanted, target, "D", color=RED, ms=5, label=f"reached at about {wanted:,.0f}")
        for axis in (ax.xaxis, ax.yaxis):
            _round_ticks(axis)
        ax.legend()


def tuning(file: Place, trials: Sequence[tuple[str, float | None]], importance: Mapping[str, float]) -> None:
    """Draw the loss of every trial and the best so far, and which settings it hangs on."""
    number = np.arange(1, len(trials) + 1)
    state = np.array([each[0] for each in trials])
    loss = np.array([np.nan if value is None else value for _, value in trials], float)
    ended = state == "complete"
    best = np.fmin.accumulate(np.where(ended, loss, np.nan))
    count = f"{ended.sum()} of {len(trials)} trials run to the end"
    with new_figure(file, 7.2 if importance else 4.4, 3.2, f"Search for settings: {count}") as figure:
        axes = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
        axes[0].plot(number[ended], loss[ended], "o", color=BLUE, ms=3.5, label="trial")
        axes[0].plot(number[state == "pruned"], loss[state == "pruned"], "x", color=GREY, ms=3.5, label="cut short")
        axes[0].step(number, best, where="post", color=RED, lw=1, label="best so far")
        axes[0].plot(number[:1], loss[:1], "s", mfc="none", mec="k", ms=7, label="as configured")
        axes[0].set(yscale="log", xlabel="trial", ylabel="cross-validated loss")
        axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes[0].legend()
        for ax in axes[1:]:
            names = sorted(importance, key=lambda name: importance[name])
            ax.barh([drawable(name) for name in names], [importance[name] for name in names], color=SKY, height=0.6)
            ax.set(xlabel="importance for being among the best (PED-ANOVA)", xlim=(0, None))
            ax.tick_params(axis="y", length=0)


def _round_ticks(axis: Axis) -> None:
    """Label a logarithmic axis by 1, 2, 5, 10 and so on, written out."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
