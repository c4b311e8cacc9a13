"""The data on what the posterior predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from simfer.stages.plots.figures import (
    BLUE,
    LEVELS,
    SKY,
    Place,
    drawable,
    grid_figure,
    is_log,
    quantiles_of,
    set_scale,
    with_unit,
)


@dataclass(frozen=True)
class Panel:
    """One output's data beside what the posterior predicts; `dim` is "" where the data have no coordinate."""

    output: str
    unit: str
    dim: str
    dim_unit: str
    x: Float[np.ndarray, " n"]
    observed: Float[np.ndarray, " n"]
    replicated: Float[np.ndarray, "draws n"]
    curve_x: Float[np.ndarray, " m"]
    curve: Float[np.ndarray, "draws m"] | None = None  # whole outputs, where they are at hand
    simulated: Float[np.ndarray, "draws m"] | None = None  # a random simulator's outputs, their scatter in them
    side: Int[np.ndarray, " n"] | None = None  # -1 where a datum lies below what is drawn, 1 above
    limits: tuple[float, ...] = ()  # beyond which no datum is on record
    name: str = ""  # of the output, where what it is called here is another


def predictive(file: Place, panels: Sequence[Panel]) -> None:
    """Draw the data on the intervals in which the posterior expects data."""
    title, most = "Posterior predictive check", 2 if len(panels) in (2, 4) else 3
    with grid_figure(file, len(panels), (3.1, 2.5), title, most=most, least=4.4, margin=0.7) as (figure, axes):
        for ax, panel in zip(axes, panels, strict=True):
            _predict(ax, panel)
        keys = {k: v for ax in axes for v, k in zip(*ax.get_legend_handles_labels(), strict=True)}
        ncols = 2 if len(panels) == 1 else len(keys)
        figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=ncols)


def _predict(ax: Axes, panel: Panel) -> None:
    bands = quantiles_of(panel.replicated, LEVELS)
    inside = ((bands[0] <= panel.observed) & (panel.observed <= bands[3])).sum()
    set_scale(ax, "y", is_log(panel.name or panel.output, np.append(panel.observed, bands)), 5)
    (_series if panel.dim and len(np.unique(panel.x)) > 1 else _side_by_side)(ax, panel, bands)
    for limit in panel.limits:
        ax.axhline(limit, color="k", lw=0.7, ls=":", label="limit of what is recorded")
    ax.set_title(drawable(f"{panel.output}: {inside} of {len(panel.observed)} data inside 90 %"))
    ax.set_ylabel(with_unit(panel.output, panel.unit))


def _series(ax: Axes, panel: Panel, bands: Float[np.ndarray, "4 n"]) -> None:
    x, at = np.unique(panel.x, return_inverse=True)  # data that share a coordinate share a band
    if len(x) < len(panel.x):
        pooled = [quantiles_of(panel.replicated[:, at == k].reshape(-1, 1), LEVELS)[:, 0] for k in range(len(x))]
        bands = np.stack(pooled, axis=1)
    if is_log(panel.dim, x):
        set_scale(ax, "x", True, 5)
    ax.fill_between(x, bands[0], bands[3], color=SKY, alpha=0.45, lw=0, label="90 % of predicted data")
    ax.fill_between(x, bands[1], bands[2], color=SKY, lw=0, label="50 % of predicted data")
    if panel.curve is not None:
        ax.plot(panel.curve_x, quantiles_of(panel.curve, [0.5])[0], color=BLUE, label="median output")
    if panel.simulated is not None:
        ends = quantiles_of(panel.simulated, (LEVELS[0], LEVELS[-1]))
        ax.plot(panel.curve_x, ends.T, color=BLUE, ls="--", lw=0.8, label=["90 % of simulated outputs", None])
    _data(ax, panel.x, panel)
    ax.set_xlabel(with_unit(panel.dim, panel.dim_unit))


def _side_by_side(ax: Axes, panel: Panel, bands: Float[np.ndarray, "4 n"]) -> None:
    num = len(panel.observed)
    x, width = np.arange(1, num + 1), float(np.clip(90 / num, 1, 9))
    ax.vlines(x, bands[0], bands[3], color=SKY, alpha=0.45, lw=width, label="90 % of predicted data")
    ax.vlines(x, bands[1], bands[2], color=SKY, lw=width, label="50 % of predicted data")
    if panel.curve is not None and panel.curve.shape[1] == num:
        median = quantiles_of(panel.curve, [0.5])[0]
        ax.plot(x, median, "_", color=BLUE, ms=width + 2, label="median output")
    _data(ax, x, panel)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.set(xlim=(0.3, num + 0.7), xlabel="number of the datum")


def _data(ax: Axes, x: Float[np.ndarray, " n"], panel: Panel) -> None:
    """Draw the data; those of which a bound alone is known as an open triangle that points to where they lie."""
    side = np.zeros(len(x), int) if panel.side is None else panel.side
    ax.plot(x[side == 0], panel.observed[side == 0], "o", ms=3.2, mfc="k", mec="white", mew=0.4, label="data")
    for sign, marker, word in ((-1, "v", "below"), (1, "^", "above")):
        if (at := side == sign).any():
            ax.plot(x[at], panel.observed[at], marker, ms=4.5, mfc="none", mec="k", mew=0.8, label=f"data {word} this")
