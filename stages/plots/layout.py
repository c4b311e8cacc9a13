"""Where the panels of a figure lie: as Matplotlib's constrained layout has it, with nothing measured over and over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import Bbox, offset_copy

_SHOWN = 110  # dots per inch, in a notebook
_ROUNDING = 1e-10  # of an axis: how far beyond its end a tick still is at its end


class ShownFigure(Figure):
    """A figure that a notebook shows by itself: IPython knows others only where pyplot was imported."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        FigureCanvasAgg(self)
        self.aligned: list[list[Axis]] = []

    def align(self, axes: Iterable[Axes], which: Literal["x", "y"]) -> None:
        """Have the labels of some panels' axes as far from their panels as that of the farthest."""
        axes = list(axes)
        (self.align_xlabels if which == "x" else self.align_ylabels)(axes)
        self.aligned.append([ax.xaxis if which == "x" else ax.yaxis for ax in axes])

    def untitle(self) -> None:
        """Take the title away, and its room with it."""
        for text in self.texts:
            text.set_visible(False)
            text.set_in_layout(False)

    def _repr_png_(self) -> bytes:
        with BytesIO() as file:
            self.savefig(file, format="png", dpi=_SHOWN)
            return file.getvalue()


@contextmanager
def laid_out(figure: ShownFigure, dpi: float) -> Iterator[None]:
    """Have a figure laid out while it is written, once for all formats; left to itself, Matplotlib does so for each.

    Its panels are one grid, its title is above and its legend below them. What stands along an axis is settled before
    it is measured, for Matplotlib would look for it anew each time that it is asked how large something is.
    """
    figure.set_dpi(dpi)
    engine, ticks = figure.get_layout_engine(), list[_Ticks]()
    if figure.axes and engine:
        if any(ax.get_label() == "<colorbar>" for ax in figure.axes):
            engine.execute(figure)
        else:
            ticks = _ticks_of(figure.axes)
            _lay_out(figure, ticks, engine)
    figure.set_layout_engine(None)  # with any, Matplotlib draws all of it beforehand, unseen
    try:
        yield
    finally:
        figure.set_layout_engine(engine)
        for each in ticks:
            each.release()


def _lay_out(figure: ShownFigure, ticks: Sequence[_Ticks], engine: LayoutEngine) -> None:
    # An axis may have other ticks once it has its length: that is seen after a first time, and changes little.
    for ax in figure.axes:  # the same whether it was laid out before or not
        if each := ax.get_subplotspec():
            ax.set_position(each.get_position(figure))
    renderer = FigureCanvasAgg(figure).get_renderer()  # a letter keeps that of its last drawing
    for first in (True, False):
        changed = [each.settle() for each in ticks]
        if first or any(changed):
            _settle_labels(figure, renderer)
            _place(figure, renderer, engine.get())


class _Ticks:
    """The ticks of an axis, or those that several share: settled, they are those in view, with their words."""

    def __init__(self, axis: Axis, minor: bool) -> None:
        self.axis, self.minor, ticker = axis, minor, axis.minor if minor else axis.major
        self.own: Any = ticker.locator, ticker.formatter
        self.at: list[float] | None = None

    def settle(self) -> bool:
        """Settle them; say whether they are others than before."""
        self.release()
        axis, formatter = self.axis, self.own[1]
        places = np.asarray(axis.get_minorticklocs() if self.minor else axis.get_majorticklocs(), float)
        words = formatter.format_ticks(places)
        ends = np.sort(axis.get_transform().transform(np.asarray(axis.get_view_interval())))
        along, more = axis.get_transform().transform(places), _ROUNDING * (ends[1] - ends[0])
        seen = np.flatnonzero((along >= ends[0] - more) & (along <= ends[1] + more))
        settled = FixedFormatter([words[i] for i in seen])
        settled.set_offset_string(formatter.get_offset())
        before, self.at = self.at, places[seen].tolist()
        self._have(FixedLocator(self.at), settled)
        return self.at != before

    def release(self) -> None:
        """Have them follow their axis again."""
        self._have(*self.own)

    def _have(self, locator: Any, formatter: Any) -> None:
        (self.axis.set_minor_locator if self.minor else self.axis.set_major_locator)(locator)
        (self.axis.set_minor_formatter if self.minor else self.axis.set_major_formatter)(formatter)


def _ticks_of(axes: Iterable[Axes]) -> list[_Ticks]:
    """Return what ticks there are, those that panels share once."""
    found = dict[int, _Ticks]()
    for axis in (axis for ax in axes for axis in (ax.xaxis, ax.yaxis) if ax.get_visible() and axis.get_visible()):
        for minor, ticker in ((False, axis.major), (True, axis.minor)):
            if not isinstance(ticker.locator, NullLocator):
                found.setdefault(id(ticker), _Ticks(axis, minor))
    return list(found.values())


def _settle_labels(figure: ShownFigure, renderer: RendererBase) -> None:
    """Put each axis' label where the words along its ticks end, by its distance from the panel."""
    away: dict[Axis, float] = {axis: _reach(axis, renderer) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)}
    for group in figure.aligned:
        away |= dict.fromkeys(group, max((away[axis] for axis in group), default=0.0))
    for axis, reach in away.items():
        x, y = axis.label.get_position()
        far = -(72 * reach / figure.dpi + axis.labelpad)
        if axis is axis.axes.xaxis:
            axis.set_label_coords(x, 0.0, offset_copy(axis.axes.transAxes, figure, 0.0, far, "points"))
        else:
            axis.set_label_coords(0.0, y, offset_copy(axis.axes.transAxes, figure, far, 0.0, "points"))


def _reach(axis: Axis, renderer: RendererBase) -> float:
    """Return how far, in pixels, an axis' ticks and their words reach out of its panel; 0 where it has no label."""
    if not axis.get_visible() or not axis.get_label_text():
        return 0.0
    ax, across = axis.axes, axis is axis.axes.xaxis
    words = [text.get_window_extent(renderer) for text in axis.get_ticklabels(which="both") if text.get_visible()]
    box = Bbox.union([ax.spines["bottom" if across else "left"].get_window_extent(), *words])
    return float(ax.bbox.y0 - box.y0 if across else ax.bbox.x0 - box.x0)


def _place(figure: ShownFigure, renderer: RendererBase, pads: Mapping[str, float]) -> None:
    """Give each row and column of the grid the margins that its panels need, and share what is left."""
    grid: Any = figure.axes[0].get_gridspec()
    width, height = figure.bbox.size
    across, up = figure.dpi * pads["w_pad"], figure.dpi * pads["h_pad"]
    columns, rows = np.full((grid.ncols, 2), across), np.full((grid.nrows, 2), up)
    cells = {ax: (each.colspan.start, each.rowspan.start) for ax in figure.axes if (each := ax.get_subplotspec())}
    for ax, (column, row) in cells.items():
        if all_of_it := ax.get_tightbbox(renderer, for_layout_only=True):
            left, below, right, above = np.subtract(all_of_it.extents, ax.bbox.extents) * (-1, -1, 1, 1)
            columns[column] = np.maximum(columns[column], (across + left, across + right))
            rows[row] = np.maximum(rows[row], (up + above, up + below))
    top, bottom = _height(figure.texts, renderer, up), _height(figure.legends, renderer, up)
    for text in figure.texts:
        text.set_y(1.0 - up / height)
    x, wide = _shared(width, columns, grid.get_width_ratios())
    y, high = _shared(height - top - bottom, rows, grid.get_height_ratios())
    if min(*wide, *high) <= 0.0:  # there is no room for what is to stand around the panels
        return
    for ax, (i, j) in cells.items():
        lower = height - top - y[j] - high[j]
        ax.set_position((x[i] / width, lower / height, wide[i] / width, high[j] / height))


def _shared(whole: float, margins: Float[np.ndarray, "n 2"], ratios: Any) -> Float[np.ndarray, "2 n"]:
    """Return where the panels of a row (or, from above, of a column) begin, and how long they are."""
    long = (whole - margins.sum()) * np.asarray(ratios, float) / np.sum(ratios)
    return np.stack([np.cumsum(margins.sum(axis=1) + long) - long - margins[:, 1], long])


def _height(artists: Iterable[Artist], renderer: RendererBase, pad: float) -> float:
    """Return the height of what stands above or below all panels, with the room about it."""
    shown = [each for each in artists if each.get_in_layout()]
    return max((each.get_window_extent(renderer).height + 2.0 * pad for each in shown), default=0.0)
