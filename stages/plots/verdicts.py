"""What the checks say: the verdict's figures, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np

from simfer.stages.plots.figures import GREEN, RED, Place, Values, drawable, new_figure
from simfer.stages.plots.kept import kept

_FAR = 3.0  # times the limit
_MOST = 60  # letters of a figure's name in a line


@kept
def verdict(file: Place, figures: Sequence[Mapping[str, Any]], checked: bool = True) -> None:
    """Draw how much of its limit each figure of the verdict uses up; beyond 1 it fails.

    That is value / threshold, or threshold / value where larger is better, so that a longer bar is always worse; of
    R-hat, which has nothing below 1, its excess over 1. Where there was no simulator to ask (not `checked`), the title
    says so.
    """
    shares = np.asarray([_share(*_from_one(f), f["larger_is_better"]) for f in figures])
    high = float(np.clip(1.05 * shares.max(initial=0.0), 1.2, _FAR))  # what is farther is drawn to the edge
    colours = [GREEN if f["passed"] else RED for f in figures]
    said = "Verdict" if checked else "NOT CHECKED against a simulator"
    title = f"{said}: {colours.count(GREEN)} of {len(figures)} figures within their limits"
    with new_figure(file, 6.2, 0.26 * len(figures) + 1.05, title, least=5.6) as figure:
        ax = figure.add_subplot(xlim=(0, high), ylim=(len(figures) - 0.4, -0.6))
        ax.barh(range(len(figures)), np.clip(shares, 0.004 * high, high), height=0.62, color=colours)
        ax.axvline(1, color="k", lw=1)
        ax.set_xlabel("share of the limit used up (1 is the limit)")
        ax.set_yticks(range(len(figures)), [_in_lines(drawable(str(f["figure"]).replace("_", " "))) for f in figures])
        ax.tick_params(axis="y", length=0)
        for row, (f, colour) in enumerate(zip(figures, colours, strict=True)):
            limit = f"{f['value']:.4g} {'≥' if f['larger_is_better'] else '≤'} {f['threshold']:.4g}"
            if not f["passed"]:
                limit = f"{f['value']:.4g}, not {limit.split(' ', 1)[1]}"
            # In points from the axis' end, so that long names, which leave little of the axis, push nothing out.
            at: Any = {"color": colour, "va": "center", "fontsize": 7, "textcoords": "offset points"}
            end: Any = {"xy": (1, row), "xycoords": ax.get_yaxis_transform()}
            ax.annotate("pass" if f["passed"] else "FAIL", xytext=(5, 0), weight="bold", **end, **at)
            ax.annotate(limit, xytext=(30, 0), **end, **at)


def _in_lines(name: str) -> str:
    """Return a name in lines that leave the bars their room."""
    return "\n".join(wrap(name, _MOST, break_long_words=False, break_on_hyphens=False))


def _from_one(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Return value and threshold; of R-hat, which is 1 where all is well, what they have beyond 1."""
    value, threshold = float(figure["value"]), float(figure["threshold"])
    return (value - 1.0, threshold - 1.0) if "R-hat" in str(figure["figure"]) else (value, threshold)


def _share(value: float, threshold: float, larger_is_better: bool) -> float:
    used, limit = (threshold, value) if larger_is_better else (value, threshold)
    if not np.isfinite(value) or limit <= 0:
        return np.inf
    return max(used / limit, 0.0)


def calibration(
    file: Place,
    curves: Mapping[str, Values],
    stays: Mapping[str, bool],
    grid: Values,
    low: Values,
    high: Values,
    over: str,
) -> None:
    """Draw each quantity's ECDF of ranks less the diagonal, with the band in which all of it should stay."""
    title = f"Calibration over the {over}: ranks of the truth, ECDF - uniform"
    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    with new_figure(file, 2.4 * columns, 2.1 * rows + 0.3, title) as figure:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        even = (np.arange(len(grid)) + 1) / (len(grid) + 1)
        for ax, (name, curve) in zip(axes, curves.items(), strict=False):
            ax.fill_between(grid, low - even, high - even, color="0.88", step="post", lw=0)
            ax.step(grid, curve - even, where="post", color=GREEN if stays[name] else RED)
            ax.axhline(0.0, color="0.5", lw=0.6)
            ax.set_title(drawable(name), fontsize=8)
            ax.set_xlabel("rank / number of draws", fontsize=7)
            ax.tick_params(labelbottom=True)
        for ax in axes[len(curves) :]:
            ax.set_visible(False)
