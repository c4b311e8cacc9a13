"""Where the simulator ran, and where it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simfer.stages.model.outputs import Status
from simfer.stages.plots.figures import (
    BLUE,
    MOST_POINTS,
    MOST_VECTORS,
    STATUSES,
    Place,
    Values,
    corner_figure,
    finite,
    first_few,
    is_log,
    labels_of,
    limits_of,
    new_figure,
    point_area,
    set_scale,
    span_of,
    thinned,
)
from simfer.stages.plots.kept import kept


@kept
def design(
    file: Place,
    theta: Mapping[str, Float[np.ndarray, " rows"]],
    status: Int[np.ndarray, " rows"],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw where the simulator ran (at most 6 parameters) and where, and how, it failed."""
    names, values, words = first_few(theta, 6, "parameters")
    rows = {s: np.flatnonzero(status == s) for s in STATUSES if s == Status.OK or (status == s).any()}
    failed = (status > Status.OK).mean() if len(status) else 0.0
    title = f"{len(status):,} simulations, {100 * failed:.1f} % failed{words}"
    with corner_figure(file, 1.45, title, names, labels_of(names, labels), values) as (axes, keys):
        for (i, j), ax in axes.items():
            if i == j:
                _histograms(ax, values[i], rows, counts=len(names) == 1)
                continue
            for s, at in rows.items():
                at = thinned(at, MOST_POINTS // len(rows))
                ink, alpha = (600.0, 0.5) if s == Status.OK else (1000.0, 0.8)  # what failed is seldom much
                look: Any = {"alpha": alpha, "linewidths": 0, "rasterized": len(at) > MOST_VECTORS}
                ax.scatter(values[j][at], values[i][at], s=point_area(len(at), ink), color=STATUSES[s], **look)
        for s, at in rows.items():
            keys.append(Patch(color=STATUSES[s], label=f"{s.name.lower().replace('_', ' ')}: {len(at):,}"))
        if len(names) > 1:
            keys.append(Line2D([], [], ls="", label="diagonal: each to its own peak"))


def failures(
    file: Place,
    status: Int[np.ndarray, " rows"],
    plane: Mapping[str, Values],
    along: tuple[str, Values],
    cuts: Sequence[float] = (),
    boundary: tuple[Values, Values] | None = None,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw how rows ended in the plane of one or two parameters, and the share that failed along what tells best."""
    rows = {s: np.flatnonzero(status == s) for s in STATUSES if (status == s).any()}
    failed = status != Status.OK
    title = f"{failed.sum():,} of {len(status):,} simulations failed ({100 * failed.mean():.1f} %)"
    with new_figure(file, 7.4, 3.9, title) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        names, values, _ = first_few(plane, 2, "parameters")
        log = is_log(names[0], values[0])
        set_scale(left, "x", log, 5)
        left.set(xlim=limits_of(values[0], log))
        (_statuses if len(names) > 1 else _stacked)(left, names, values, rows)
        written = labels_of([*names, along[0]], labels)
        left.set_xlabel(written[0])
        if len(names) > 1:
            left.set_ylabel(written[1])
        for cut in cuts if boundary is None else ():
            left.axvline(cut, color="k", lw=1, ls="--")
        if boundary is not None:
            left.plot(*boundary, color="k", lw=1, ls="--")
        _failure_rate(right, *along, failed, cuts)
        right.set_xlabel(written[-1])
        keys: list[Any] = [Patch(color=STATUSES[s], label=f"{_named(s)}: {len(at):,}") for s, at in rows.items()]
        if cuts:
            keys.append(Line2D([], [], color="k", lw=1, ls="--", label="best cut"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


def _histograms(ax: Axes, values: Values, rows: Mapping[Status, np.ndarray], counts: bool) -> None:
    low, high = span_of(finite(values)[0])
    bins = np.geomspace(low, high, 31) if ax.get_xscale() == "log" else np.linspace(low, high, 31)
    heights = [np.histogram(finite(values[at])[0], bins)[0] for at in rows.values()]
    below = np.zeros(30)
    for height, s in zip(heights, rows, strict=True):
        if counts:
            ax.stairs(below + height, bins, baseline=below, fill=True, color=STATUSES[s])
            below = below + height
        else:  # failures are often too few to be seen among the rest
            ax.stairs(height / max(height.max(), 1), bins, fill=s == Status.OK, color=STATUSES[s], lw=1)
    ax.set(ylim=(0, 1.08 * max(below.max(), 1)), ylabel="simulations")
    ax.yaxis.set_visible(counts)
    ax.spines["left"].set_visible(counts)


def _named(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _statuses(ax: Axes, names: list[str], values: list[Values], rows: Mapping[Status, np.ndarray]) -> None:
    """Draw rows as points, failed ones on top of at most some thousand others."""
    log = is_log(names[1], values[1])
    set_scale(ax, "y", log, 5)
    ax.set(ylim=limits_of(values[1], log))
    for s, at in rows.items():
        few, ok = thinned(at, MOST_POINTS // len(rows)), s == Status.OK
        size = point_area(len(few), 6000)
        ax.scatter(values[0][few], values[1][few], s=size, alpha=0.55 if ok else 0.9, color=STATUSES[s], linewidths=0)


def _stacked(ax: Axes, names: list[str], values: list[Values], rows: Mapping[Status, np.ndarray]) -> None:
    _histograms(ax, values[0], rows, counts=True)


def _failure_rate(
    ax: Axes, name: str, values: Values, failed: Bool[np.ndarray, " rows"], cuts: Sequence[float]
) -> None:
    """Draw the share of failed rows in bins of equally many, with 90 % intervals (Wilson 1927)."""
    log = is_log(name, values)
    set_scale(ax, "x", log, 5)
    parts = np.array_split(np.argsort(values), int(np.clip(np.sqrt(len(values)) / 1.5, 1, 16)))
    count = np.array([len(part) for part in parts])
    middle = np.array([np.median(values[part]) for part in parts])
    ends = np.array([(values[part].min(), values[part].max()) for part in parts]).T
    rate = np.array([failed[part].mean() for part in parts])
    z2 = 1.645**2
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(z2 * (rate * (1 - rate) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    low, high = np.minimum(centre - half, rate), np.maximum(centre + half, rate)
    ax.hlines(100 * rate, *ends, color=BLUE, lw=1)
    ax.errorbar(middle, 100 * rate, 100 * np.stack([rate - low, high - rate]), fmt="o", ms=3, color=BLUE, lw=0.8)
    for cut in cuts:
        ax.axvline(cut, color="k", lw=1, ls="--")
    ax.set(xlim=limits_of(values, log), ylim=(-3, 103), ylabel="failed [%], with 90 % intervals")
