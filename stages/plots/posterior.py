"""Posterior draws: chain by chain, and in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simfer.stages.plots.densities import smooth, smooth_2d
from simfer.stages.plots.figures import (
    BLUE,
    CYCLE,
    GREEN,
    ORANGE,
    RED,
    SKY,
    Place,
    Values,
    broken,
    corner_figure,
    finite,
    first_few,
    forward,
    hide_y,
    is_log,
    labels_of,
    new_figure,
    out_of,
    set_scale,
    thinned,
)
from simfer.stages.plots.kept import kept

_MORE_DECIMALS = 2  # at most, where an interval is skewed
_MOST_OF_A_TRACE, _MOST_OF_ALL = 400, 3000  # points: of one more than its width shows, of all what a page bears


@kept
def trace(
    file: Place,
    draws: Mapping[str, Float[np.ndarray, "chains draws"]],
    divergent: Bool[np.ndarray, "chains draws"] | None = None,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw each quantity (at most 20), chain by chain: its density, its trace, and where draws of NUTS diverged."""
    names = list(draws)[:20]
    chains, length = draws[names[0]].shape
    title = f"{chains} chain{'s' * (chains != 1)} of {length:,} draws"
    if divergent is None:
        divergent = np.zeros((chains, length), bool)
    else:
        title += f", {divergent.sum():,} divergent"
    with new_figure(file, 7.0, 1.1 * len(names) + 1.1, title + out_of(names, draws, "quantities")) as figure:
        axes = figure.subplots(len(names), 2, squeeze=False, width_ratios=(1, 2))
        most = min(_MOST_OF_A_TRACE, _MOST_OF_ALL // len(names))
        for name, label, (left, right) in zip(names, labels_of(names, labels), axes, strict=True):
            _trace_row(name, left, right, np.asarray(draws[name], float), divergent, most)
            left.set_xlabel(label)
            right.set_ylabel(broken(label, 1.0))
            right.tick_params(labelbottom=name == names[-1])
        axes[0, 0].set_title("density of each chain")
        axes[0, 1].set_title("trace of each chain")
        axes[-1, 1].set_xlabel("draw")
        figure.align(axes[:, 1], "y")
        keys = [Line2D([], [], color=CYCLE[k], label=f"chain {k + 1}") for k in range(min(chains, len(CYCLE)))]
        if divergent.any():
            keys.append(Line2D([], [], color="k", ls="", marker="|", label="divergent"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


@kept
def pair(
    file: Place,
    draws: Mapping[str, Float[np.ndarray, "chains draws"]],
    divergent: Bool[np.ndarray, "chains draws"] | None = None,
    labels: Mapping[str, str] | None = None,
    reference: Mapping[str, Float[np.ndarray, " n"]] | None = None,
    marks: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Draw every marginal and every pair (at most 10 quantities): the regions that hold 50 % and 90 % of the draws.

    `marks` are single points by what they are called, such as the truth: values by quantity, of which some may lack.
    """
    names, values, words = first_few(draws, 10, "quantities")
    others = [np.asarray(reference[name]).ravel() if reference and name in reference else None for name in names]
    marked = np.empty(0, int) if divergent is None else thinned(np.flatnonzero(divergent), 1000)
    title = f"Posterior, {values[0].size:,} draws{words}"
    seen = [v if o is None else np.append(v, o) for v, o in zip(values, others, strict=True)]
    with corner_figure(file, 1.35, title, names, labels_of(names, labels), seen, 0.001) as (axes, keys):
        for (i, j), ax in axes.items():
            if i == j:
                _marginal(ax, values[i], others[i], values[i][marked])
                continue
            _regions(ax, values[j], values[i])
            if (x := others[j]) is not None and (y := others[i]) is not None:
                _regions(ax, x, y, outlines=True)
            ax.plot(values[j][marked], values[i][marked], "x", color=RED, ms=3, mew=0.8)
        keys += _mark(axes, names, marks or {})
        keys.append(Patch(color=SKY, label="90 % of the draws"))
        if len(names) > 1:
            keys.append(Patch(color=BLUE, label="50 % of the draws"))
        if any(other is not None for other in others):
            keys.append(Line2D([], [], color="k", lw=0.9, ls="--", label="reference"))
        if marked.size:
            keys.append(
                Line2D([], [], color=RED, marker="x" if len(names) > 1 else "|", ls="", label="divergent draws")
            )
        space = "\n" if len(names) > 1 else " "  # of two quantities the free half of the plot is narrow
        keys.append(Line2D([], [], ls="", label=f"numbers: median{space}(90 % interval)"))


def _mark(
    axes: Mapping[tuple[int, int], Axes], names: Sequence[str], marks: Mapping[str, Mapping[str, float]]
) -> list[Line2D]:
    """Draw points across every panel that they have a value for; return their keys."""
    keys = []
    for (called, values), colour in zip(marks.items(), (RED, GREEN, ORANGE), strict=False):
        for (i, j), ax in axes.items():
            if names[j] in values:
                ax.axvline(values[names[j]], color=colour, lw=0.8)
            if i != j and names[i] in values:
                ax.axhline(values[names[i]], color=colour, lw=0.8)
        keys.append(Line2D([], [], color=colour, lw=0.8, label=called))
    return keys


def _trace_row(
    name: str, left: Axes, right: Axes, chains: Values, divergent: Bool[np.ndarray, "chains draws"], most: int
) -> None:
    log, at = is_log(name, chains), thinned(np.arange(chains.shape[1]), most)
    set_scale(left, "x", log, 4)
    set_scale(right, "y", log, 3)
    for number, chain in enumerate(chains):
        colour = CYCLE[number % len(CYCLE)]
        left.plot(*smooth(chain, log), color=colour, lw=0.9)
        right.plot(at, chain[at], color=colour, lw=0.4, alpha=0.8)
    hide_y(left)
    left.set_ylim(bottom=0)
    right.margins(y=0.15)
    right.set_xlim(0, max(chains.shape[1], 2))
    for ax, marks in ((left, chains[divergent]), (right, np.nonzero(divergent)[1])):
        ax.plot(marks, np.full(len(marks), 0.04), "|", color="k", ms=5, mew=0.6, transform=ax.get_xaxis_transform())


def _marginal(ax: Axes, values: Values, other: Values | None, marked: Values) -> None:
    log = ax.get_xscale() == "log"
    x, density = smooth(values, log)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    ax.fill_between(x, density, color=SKY, alpha=0.35, lw=0)
    ax.fill_between(x, density, where=((x >= low) & (x <= high)).tolist(), color=SKY, lw=0)
    ax.plot(x, density, color=BLUE)
    ax.vlines(middle, 0, np.interp(middle, x, density), color=BLUE, lw=0.8)
    if other is not None:
        ax.plot(*smooth(other, log), color="k", lw=0.9, ls="--")
    ax.plot(marked, np.full(len(marked), 0.03), "|", color=RED, ms=4, mew=0.6, transform=ax.get_xaxis_transform())
    ax.set_ylim(bottom=0)
    ax.set_title(_interval(low, middle, high, log), fontsize=7)


def _interval(low: float, middle: float, high: float, log: bool) -> str:
    """Write a median and its interval, to two digits of its width: of twice its narrower side's, where it is skewed."""
    decimals = 1 - int(np.floor(np.log10(high - low))) if high > low else 3
    if 0.0 < (narrow := min(high - middle, middle - low)) < 0.25 * (high - low):
        decimals = min(1 - int(np.floor(np.log10(2.0 * narrow))), decimals + _MORE_DECIMALS)
    plain = not log and -5 < decimals < 6
    if log or plain or not high > low:
        written = f".{max(decimals, 0)}f"
        numbers = [f"{round(v, decimals) + 0.0:{written}}" if plain else f"{v:.3g}" for v in (middle, low, high)]
        return "{} ({}, {})".format(*numbers).replace("-", "−")
    power = int(np.floor(np.log10(max(abs(low), abs(high)))))  # one for all three, or they would be too long
    digits = max(decimals + power, 0)
    numbers = [f"{v / 10.0**power:.{digits}f}" for v in (middle, low, high)]
    return "{} ({}, {})".format(*numbers).replace("-", "−") + rf" $\times10^{{{power}}}$"


def _regions(ax: Axes, x: Values, y: Values, outlines: bool = False) -> None:
    logs = ax.get_xscale() == "log", ax.get_yscale() == "log"
    x, y = finite(*(forward(v, log) for v, log in zip((x, y), logs, strict=True)))
    if not x.size:
        return
    x, y, density, levels = smooth_2d(x, y)
    x, y = (10**v if log else v for v, log in zip((x, y), logs, strict=True))
    if outlines:
        ax.contour(x, y, density, levels, colors="k", linewidths=0.9, linestyles="--")
    else:
        ax.contourf(x, y, density, [*levels, 1.01 * density.max()], colors=[SKY, BLUE])
