"""Outputs and data over two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simfer.stages.plots.figures import Place, Values, drawable, finite, new_figure, span_of, with_unit


@dataclass(frozen=True)
class _Plane:
    """Where in two dimensions one output lies; `y` runs upwards."""

    output: str
    unit: str
    dims: tuple[str, str]
    y: Values
    x: Values


@dataclass(frozen=True)
class Field(_Plane):
    """One output on a grid, as simulated and as emulated."""

    simulated: Float[np.ndarray, "ny nx"]
    emulated: Float[np.ndarray, "ny nx"]


@dataclass(frozen=True)
class Map(_Plane):
    """One output's data at points, each datum beside the mean and sd of what the posterior predicts."""

    observed: Float[np.ndarray, " n"]
    expected: Float[np.ndarray, " n"]
    sd: Float[np.ndarray, " n"]


def fields(file: Place, shown: Sequence[Field], of: int) -> None:
    """Draw outputs over two dimensions (at most 4): simulated, emulated, and the difference on a scale of its own."""
    title = f"Of {of:,} held-out simulations, for each output the one with the median error"
    with new_figure(file, 7.2, 2.2 * len(shown[:4]) + 0.5, title) as figure:
        for row, field in zip(_rows_of_three(figure, shown[:4]), shown, strict=False):
            _three(
                row,
                partial(draw_image, x=field.x, y=field.y),
                (field.simulated, field.emulated, field.emulated - field.simulated),
                (f"{with_unit(field.output, field.unit)}, simulated", "emulated", "emulated − simulated"),
                field.dims,
            )


def maps(file: Place, shown: Sequence[Map]) -> None:
    """Draw data over two dimensions (at most 4 outputs): observed, expected, and the gap in predicted sd."""
    with new_figure(file, 7.2, 2.2 * len(shown[:4]) + 0.5, "Data and what the posterior expects") as figure:
        for row, one in zip(_rows_of_three(figure, shown[:4]), shown, strict=False):
            _three(
                row,
                partial(_cells, x=one.x, y=one.y),
                (one.observed, one.expected, (one.observed - one.expected) / np.maximum(one.sd, 1e-300)),
                (f"{with_unit(one.output, one.unit)}, data", "expected", "(data − expected) / sd"),
                one.dims,
            )


def draw_image(ax: Axes, values: Float[np.ndarray, "ny nx"], look: dict[str, Any], x: Values, y: Values) -> Any:
    """Draw values on a grid, even or not: each cell reaches half way to its neighbours."""
    across, up = np.argsort(x), np.argsort(y)
    edges = edges_of(np.asarray(x, float)[across]), edges_of(np.asarray(y, float)[up])
    # As pixels within a drawing of lines: a field's cells one by one would make a file of megabytes.
    return ax.pcolormesh(*edges, values[np.ix_(up, across)], rasterized=True, **look)


def _cells(ax: Axes, values: Float[np.ndarray, " n"], look: dict[str, Any], x: Values, y: Values) -> Any:
    """Draw values at some places of a grid; what is between them stays empty. Several at one place are averaged."""
    (across, column), (up, row) = (np.unique(each, return_inverse=True) for each in (x, y))
    total, count = np.zeros((len(up), len(across))), np.zeros((len(up), len(across)))
    np.add.at(total, (row, column), values)
    np.add.at(count, (row, column), 1.0)
    return draw_image(ax, np.ma.masked_where(count == 0, total / np.maximum(count, 1.0)), look, across, up)


def _rows_of_three(figure: Figure, shown: Sequence[Any]) -> Any:
    return figure.subplots(len(shown), 3, squeeze=False, sharex="row", sharey="row")


def _three(
    row: Sequence[Axes],
    draw: Callable[[Axes, Values, dict[str, Any]], Any],
    values: tuple[Values, Values, Values],
    words: tuple[str, str, str],
    dims: tuple[str, str],
) -> None:
    """Draw two maps on one scale, and their difference on one about zero."""
    low, high = span_of(finite(np.concatenate([values[0].ravel(), values[1].ravel()]))[0])
    most = float(np.abs(finite(values[2].ravel())[0]).max(initial=0.0)) or 1.0
    same: dict[str, Any] = {"vmin": low, "vmax": high}
    about_zero = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    images = [draw(ax, each, look) for ax, each, look in zip(row, values, (same, same, about_zero), strict=True)]
    for ax, text in zip(row, words, strict=True):
        ax.set(title=text, xlabel=drawable(dims[1]))
    row[0].set_ylabel(drawable(dims[0]))
    row[0].figure.colorbar(images[1], ax=list(row[:2]))
    row[0].figure.colorbar(images[2], ax=row[2])


def edges_of(middles: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    """Return where the cells about these middles begin and end: half way between neighbours."""
    if len(middles) == 1:
        half = 0.5 * abs(middles[0]) or 0.5
        return np.array([middles[0] - half, middles[0] + half])
    between = 0.5 * (middles[1:] + middles[:-1])
    return np.concatenate([[2 * middles[0] - between[0]], between, [2 * middles[-1] - between[-1]]])
