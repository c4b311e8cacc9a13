"""Where the panels of a figure lie: as Matplotlib's constrained layout has it, with nothing measured over and over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.spines import Spine
from matplotlib.transforms import offset_copy

from simfer.stages.plots.ticks import ticks_of

_SHOWN = 110  # dots per inch, in a notebook
_POINTS = 72  # in an inch


class Margins(NamedTuple):
    """What stands about a figure's panels, in inches."""

    columns: Float[np.ndarray, "n 2"]  # on the left and on the right of each
    rows: Float[np.ndarray, "m 2"]  # above and below each
    title: float
    legend: float
    pad: float


class ShownFigure(Figure):
    """A figure that a notebook shows by itself: IPython knows others only where pyplot was imported."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        FigureCanvasAgg(self)
        self.aligned: list[list[Axis]] = []
        self.margins: Margins | None = None

    def align(self, axes: Iterable[Axes], which: Literal["x", "y"]) -> None:
        """Have the labels of some panels' axes as far from their panels as that of the farthest."""
        axes = list(axes)
        (self.align_xlabels if which == "x" else self.align_ylabels)(axes)
        self.aligned.append([ax.xaxis if which == "x" else ax.yaxis for ax in axes])

    def untitle(self) -> None:
        """Take the title of a figure that is laid out away, and its room with it."""
        for text in self.texts:
            text.set_visible(False)
        if self.margins:
            self.margins = self.margins._replace(title=0.0)
            _place(self, self.margins)

    def _repr_png_(self) -> bytes:
        with BytesIO() as file:
            self.savefig(file, format="png", dpi=_SHOWN)
            return file.getvalue()


def lay_out(figure: ShownFigure, dpi: float) -> None:
    """Lay a figure out for good, once for all formats; left to itself, Matplotlib does so for each.

    Its panels are one grid, its title is above and its legend below them. What stands along an axis is settled before
    it is measured, for Matplotlib would look for it anew each time that it is asked how large something is.
    """
    figure.set_dpi(dpi)
    if figure.axes and (engine := figure.get_layout_engine()):
        if any(ax.get_label() == "<colorbar>" for ax in figure.axes):
            engine.execute(figure)
        else:
            _settle(figure, engine.get())
    figure.set_layout_engine(None)  # with any, Matplotlib draws all of it beforehand, unseen


def _settle(figure: ShownFigure, pads: Mapping[str, float]) -> None:
    # An axis may have other ticks once it has its length: that is seen after a first time, and changes little.
    renderer, ticks = FigureCanvasAgg(figure).get_renderer(), ticks_of(figure.axes)
    for first in (True, False):
        settled = [each.settle() for each in ticks]
        if first or not all(settled):
            _put_labels(figure, renderer)
            figure.margins = _margins(figure, renderer, pads)
            _place(figure, figure.margins)


def _put_labels(figure: ShownFigure, renderer: RendererBase) -> None:
    """Put each axis' label where the words along its ticks end, by its distance from the panel."""
    away: dict[Axis, float] = {axis: _reach(axis, renderer) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)}
    for group in figure.aligned:
        away |= dict.fromkeys(group, max((away[axis] for axis in group), default=0.0))
    for axis, reach in away.items():
        (x, y), far = axis.label.get_position(), -(reach / figure.dpi + axis.labelpad / _POINTS)
        if axis is axis.axes.xaxis:
            axis.set_label_coords(x, 0.0, offset_copy(axis.axes.transAxes, figure, 0.0, far, "inches"))
        else:
            axis.set_label_coords(0.0, y, offset_copy(axis.axes.transAxes, figure, far, 0.0, "inches"))


def _reach(axis: Axis, renderer: RendererBase) -> float:
    """Return how far, in pixels, an axis' ticks and their words reach out of its panel; 0 where it has no label."""
    if not axis.get_visible() or not axis.get_label_text():
        return 0.0
    panel, across = axis.axes.bbox, axis is axis.axes.xaxis
    words = [text.get_window_extent(renderer) for text in axis.get_ticklabels(which="both") if text.get_visible()]
    return max(_marks(axis), *(panel.y0 - box.y0 if across else panel.x0 - box.x0 for box in words), 0.0)


def _marks(axis: Axis) -> float:
    """Return how long, in pixels, the ticks of an axis are."""
    figure = axis.axes.get_figure(root=True)
    return float(axis.get_tick_padding() * figure.dpi / _POINTS) if figure and axis.get_visible() else 0.0


def _margins(figure: ShownFigure, renderer: RendererBase, pads: Mapping[str, float]) -> Margins:
    """Measure what stands about the panels."""
    grid, across, up = figure.axes[0].get_gridspec(), pads["w_pad"], pads["h_pad"]
    assert grid is not None
    columns, rows = np.full((grid.ncols, 2), across), np.full((grid.nrows, 2), up)
    for ax, (i, j) in _cells(figure).items():
        others = [each for each in ax.get_default_bbox_extra_artists() if not isinstance(each, Spine)]
        if box := ax.get_tightbbox(renderer, bbox_extra_artists=others, for_layout_only=True):
            sides = np.subtract(box.extents, ax.bbox.extents) * (-1, -1, 1, 1)
            left, below, right, above = np.maximum(sides, (_marks(ax.yaxis), _marks(ax.xaxis), 0, 0)) / figure.dpi
            columns[i] = np.maximum(columns[i], (across + left, across + right))
            rows[j] = np.maximum(rows[j], (up + above, up + below))
    title, legend = (_height(each, renderer, figure.dpi, up) for each in (figure.texts, figure.legends))
    return Margins(columns, rows, title, legend, up)


def _height(artists: Iterable[Artist], renderer: RendererBase, dpi: float, pad: float) -> float:
    """Return the height of what stands above or below all panels, with the room about it."""
    shown = [each for each in artists if each.get_in_layout()]
    return max((each.get_window_extent(renderer).height / dpi + 2.0 * pad for each in shown), default=0.0)


def _place(figure: ShownFigure, margins: Margins) -> None:
    """Give each row and column of the grid the margins that its panels need, and share what is left."""
    grid, (width, height) = figure.axes[0].get_gridspec(), figure.get_size_inches()
    assert grid is not None
    for text in figure.texts:
        text.set_y(1.0 - margins.pad / height)
    x, wide = _shared(width, margins.columns, grid.get_width_ratios())
    y, high = _shared(height - margins.title - margins.legend, margins.rows, grid.get_height_ratios())
    if min(*wide, *high) <= 0.0:  # there is no room for what is to stand around the panels
        return
    for ax, (i, j) in _cells(figure).items():
        lower = height - margins.title - y[j] - high[j]
        ax.set_position((x[i] / width, lower / height, wide[i] / width, high[j] / height))


def _cells(figure: Figure) -> dict[Axes, tuple[int, int]]:
    """Return the column and the row of each panel."""
    return {ax: (each.colspan.start, each.rowspan.start) for ax in figure.axes if (each := ax.get_subplotspec())}


def _shared(whole: float, margins: Float[np.ndarray, "n 2"], ratios: Any) -> Float[np.ndarray, "2 n"]:
    """Return where the panels of a row (or, from above, of a column) begin, and how long they are."""
    long = (whole - margins.sum()) * np.asarray(ratios, float) / np.sum(ratios)
    return np.stack([np.cumsum(margins.sum(axis=1) + long) - long - margins[:, 1], long])
