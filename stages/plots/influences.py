"""Which parameters move which outputs: Sobol indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simfer.stages.plots.figures import BLUE, GREY, SKY, Place, Values, drawable, forward, is_log, new_figure, set_scale
from simfer.stages.plots.planes import draw_image


@dataclass(frozen=True)
class Influence:
    """One output's Sobol indices: of all its values together, with half-widths, and at each of its coordinates."""

    output: str
    first: Float[np.ndarray, " parameters"]
    first_pm: Float[np.ndarray, " parameters"]
    total: Float[np.ndarray, " parameters"]
    total_pm: Float[np.ndarray, " parameters"]
    dims: Mapping[str, Values]  # as a picture names them -> their coordinates
    first_each: Float[np.ndarray, "parameters ..."]
    total_each: Float[np.ndarray, "parameters ..."]


def influences(file: Place, shown: Sequence[Influence], parameters: Sequence[str], level: float) -> None:
    """Draw first-order and total indices of whole outputs (as many as a page holds), with their intervals."""
    tall = 0.3 * len(parameters) + 0.75
    some = shown[: 3 * _fitting(tall)]
    columns = min(len(some), 3)
    rows = -(-len(some) // columns)
    with new_figure(file, max(4.4, 1.2 + 2.4 * columns), rows * tall + 0.75, _SHARE + _few(some, shown)) as figure:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, one in zip(axes, some, strict=False):
            _bars(ax, one)
            _rows_of(ax, parameters)
            ax.set(xlim=(0, 1.02), title=drawable(one.output))
            ax.tick_params(labelbottom=True)
        for ax in axes[len(some) :]:
            ax.remove()
        keys: list[Any] = [Patch(color=BLUE, label="first order: alone")]
        keys.append(Patch(color=SKY, label="total: with interactions"))
        keys.append(Line2D([], [], color="k", lw=0.8, label=f"{100 * level:g} % interval"))
        figure.legend(handles=keys, loc="outside lower center", ncols=3)


def influences_along(file: Place, shown: Sequence[Influence], parameters: Sequence[str]) -> None:
    """Draw the indices of outputs over one dimension (as many as a page holds): parameters by coordinate."""
    tall = 0.24 * len(parameters) + 0.95
    some = shown[: _fitting(tall)]
    with new_figure(file, 7.2, len(some) * tall + 0.4, _SHARE + _few(some, shown)) as figure:
        axes = figure.subplots(len(some), 2, squeeze=False, sharey=True)
        for row, one in zip(axes, some, strict=True):
            ((dim, x),) = one.dims.items()
            for ax, values, word in zip(row, (one.first_each, one.total_each), ("first order", "total"), strict=True):
                image = _strips(ax, dim.partition(" [")[0], x, values)
                _rows_of(ax, parameters)
                ax.set(xlabel=drawable(dim), title=drawable(f"{one.output}: {word}"))
        _key_to_shares(figure, axes, image, [one.total_each for one in some])


def influences_over(file: Place, shown: Sequence[Influence], parameters: Sequence[str]) -> None:
    """Draw the total indices of outputs over two dimensions (as many as a page holds), a map for each parameter."""
    some, names = shown[: _fitting(2.1)], parameters[:6]
    title = "Total s" + _SHARE.removeprefix("S") + _few(some, shown) + _few(names, parameters, "parameters")
    with new_figure(file, max(4.4, 1.3 + 1.9 * len(names)), 2.1 * len(some) + 0.4, title) as figure:
        axes = figure.subplots(len(some), len(names), squeeze=False, sharex="row", sharey="row")
        for row, one in zip(axes, some, strict=True):
            (down, y), (across, x) = one.dims.items()
            for ax, name, values in zip(row, names, one.total_each, strict=False):
                image = draw_image(ax, values, _SHARES, x, y)
                ax.set(title=drawable(f"{one.output}: ") + name, xlabel=drawable(across), facecolor=GREY)
            row[0].set_ylabel(drawable(down))
        _key_to_shares(figure, axes, image, [one.total_each for one in some])


_SHARE = "Share of the variance over the prior"
_SHARES: dict[str, Any] = {"cmap": "Blues", "vmin": 0.0, "vmax": 1.0}


def _bars(ax: Axes, one: Influence) -> None:
    place = np.arange(len(one.first))
    look: Any = {"height": 0.34, "error_kw": {"lw": 0.8}}
    ax.barh(place - 0.18, one.first, xerr=one.first_pm, color=BLUE, **look)
    ax.barh(place + 0.18, one.total, xerr=one.total_pm, color=SKY, **look)


def _fitting(tall: float) -> int:
    """Return how many rows of a height (in inches) a page holds."""
    return max(int(14 / tall), 1)


def _few(shown: Sequence[Any], there: Sequence[Any], what: str = "outputs") -> str:
    return "" if len(shown) == len(there) else f", {len(shown)} of {len(there)} {what}"


def _rows_of(ax: Axes, parameters: Sequence[str]) -> None:
    ax.set_yticks(range(len(parameters)), parameters)
    ax.set_ylim(len(parameters) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def _strips(ax: Axes, dim: str, x: Values, values: Float[np.ndarray, "parameters n"]) -> Any:
    """Draw a strip of cells for each parameter, each cell about its coordinate."""
    log = is_log(dim, x)
    place = forward(np.asarray(x, float), log)
    middles = 0.5 * (place[1:] + place[:-1])
    edges = np.concatenate([[2 * place[0] - middles[0]], middles, [2 * place[-1] - middles[-1]]])
    set_scale(ax, "x", log, 5)
    ax.set_facecolor(GREY)
    image = ax.pcolormesh(10**edges if log else edges, np.arange(len(values) + 1) - 0.5, values, **_SHARES)
    ax.hlines(np.arange(1, len(values)) - 0.5, *ax.get_xlim(), color="w", lw=2)
    return image


def _key_to_shares(figure: Figure, axes: Any, image: Any, values: Sequence[Values]) -> None:
    bar = figure.colorbar(image, ax=axes, aspect=15 * len(axes))
    bar.set_label("share" + (" (grey: does not vary)" if any(np.isnan(each).any() for each in values) else ""))
