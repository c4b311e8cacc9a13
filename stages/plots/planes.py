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
                partial(draw_image, edges=(*ends_of(field.x), *ends_of(field.y))),
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
                partial(_squares, x=one.x, y=one.y),
                (one.observed, one.expected, (one.observed - one.expected) / np.maximum(one.sd, 1e-300)),
                (f"{with_unit(one.output, one.unit)}, data", "expected", "(data − expected) / sd"),
                one.dims,
            )


def draw_image(ax: Axes, values: Values, look: dict[str, Any], edges: tuple[float, float, float, float]) -> Any:
    """Draw values on a grid."""
    return ax.imshow(values, origin="lower", extent=edges, aspect="auto", **look)


def _squares(ax: Axes, values: Values, look: dict[str, Any], x: Values, y: Values) -> Any:
    side = 115.0 / np.sqrt(len(x))  # points; together they about fill a panel
    return ax.scatter(x, y, c=values, s=side**2, marker="s", linewidths=0, **look)


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


def ends_of(middles: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return where cells about these middles begin and end."""
    half = 0.5 * (middles[-1] - middles[0]) / max(len(middles) - 1, 1)
    return float(middles[0] - half), float(middles[-1] + half)
