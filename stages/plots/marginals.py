"""What was believed before the data, beside what is believed after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simfer.stages.plots.densities import smooth
from simfer.stages.plots.figures import (
    BLUE,
    RED,
    SKY,
    Place,
    Values,
    broken,
    drawable,
    finite,
    grid_figure,
    hide_y,
    is_log,
    out_of,
    set_scale,
)

_MOST = 24  # quantities


@dataclass(frozen=True)
class Marginal:
    """One quantity: its posterior draws, and where its prior has the quantiles of a standard normal."""

    label: str
    draws: Values
    prior: Float[np.ndarray, " n"]  # the prior's quantiles at `normal`
    normal: Float[np.ndarray, " n"]
    truth: float | None = None
    name: str = ""  # where its label is another


def marginals(file: Place, shown: Sequence[Marginal]) -> None:
    """Draw each quantity's posterior over its prior (at most 24), each density to its own height's share."""
    few = shown[:_MOST]
    title = "Prior and posterior" + out_of(
        [one.label for one in few], dict.fromkeys(one.label for one in shown), "quantities"
    )
    with grid_figure(file, len(few), (1.85, 1.45), title, most=4, least=3.4, margin=0.6) as (figure, axes):
        for ax, one in zip(axes, few, strict=True):
            _draw(ax, one)
        keys = [Line2D([], [], color="0.5", label="prior"), Patch(color=SKY, label="posterior")]
        if any(one.truth is not None for one in few):
            keys.append(Line2D([], [], color=RED, ls="--", label="truth"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


def _draw(ax: Axes, one: Marginal) -> None:
    x, density = _prior(one)
    log = is_log(one.name or one.label, np.append(x[density > 0.02 * density.max()], finite(one.draws.ravel())[0]))
    set_scale(ax, "x", log, 4)
    at, height = smooth(one.draws, log)
    if log:  # densities for each decade
        density = density * x * np.log(10.0)
    ax.plot(x, density, color="0.5")
    ax.fill_between(at, height, color=SKY, alpha=0.55, lw=0)
    ax.plot(at, height, color=BLUE)
    if one.truth is not None:
        ax.axvline(one.truth, color=RED, ls="--", lw=0.9)
    inside = x[density > 0.02 * density.max()]
    ax.set_xlim(min(inside.min(), at.min()), max(inside.max(), at.max()))
    ax.set_ylim(0, 1.08 * max(height.max(), density[np.isfinite(density)].max()))
    ax.set_xlabel(broken(drawable(one.label), 1.8))
    hide_y(ax)


def _prior(one: Marginal) -> tuple[Values, Values]:
    """Return the prior's density by its quantiles: phi(z) dz / dtheta."""
    slope = np.gradient(one.prior, one.normal)
    keep = slope > 0
    density = np.exp(-0.5 * one.normal[keep] ** 2) / np.sqrt(2.0 * np.pi) / slope[keep]
    return one.prior[keep], density
