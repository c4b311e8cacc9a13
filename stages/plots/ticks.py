"""What stands along the axes of a figure, settled before it is measured and written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

_ROUNDING = 1e-10  # of an axis: how far beyond its end a tick still is at its end
_MOST = 9  # ticks of Matplotlib's own choice: it leaves out some only where there is no room for so many


class Ticks:
    """The ticks of an axis, or those that several share: settled, they are those in view, with their words.

    Ticks without words are one line of marks, for each tick of Matplotlib's own is five things to make and to draw.
    """

    def __init__(self, axis: Axis, minor: bool) -> None:
        ticker = axis.minor if minor else axis.major
        self.axis, self.minor = axis, minor
        self.own: Any = ticker.locator, ticker.formatter
        self.marks: Line2D | None = None
        self.room, self.places = -1, np.empty(0)

    def settle(self) -> bool:
        """Settle them; say whether they are those of before, as they are where the axis has room for as many."""
        room, self.room = self.room, min(self.axis.get_tick_space(), _MOST)
        if self.room == room:
            return True
        self._have(*self.own)
        before, (places, words) = self.places, self._in_view()
        self.places = places
        settled = FixedFormatter(words)
        settled.set_offset_string(self.own[1].get_offset())
        if self.marks:
            self._have(NullLocator(), NullFormatter())
            self.marks.set_data(*_at(self.axis, places))
        else:
            self._have(FixedLocator(places.tolist()), settled)
        return np.array_equal(places, before)

    def mark(self) -> None:
        """Have a line of marks in their place."""
        axis, model = self.axis, self.axis.get_major_ticks(1)[0].tick1line
        self.marks = Line2D([], [])
        self.marks.update_from(model)
        axis.axes.add_artist(self.marks)
        self.marks.set(clip_on=False, in_layout=False, zorder=axis.get_zorder())

    def _in_view(self) -> tuple[Float[np.ndarray, " n"], list[str]]:
        axis = self.axis
        places = np.asarray(axis.get_minorticklocs() if self.minor else axis.get_majorticklocs(), float)
        words = self.own[1].format_ticks(places)
        ends = np.sort(axis.get_transform().transform(np.asarray(axis.get_view_interval())))
        along, more = axis.get_transform().transform(places), _ROUNDING * (ends[1] - ends[0])
        seen = np.flatnonzero((along >= ends[0] - more) & (along <= ends[1] + more))
        return places[seen], [words[i] for i in seen]

    def _have(self, locator: Any, formatter: Any) -> None:
        (self.axis.set_minor_locator if self.minor else self.axis.set_major_locator)(locator)
        (self.axis.set_minor_formatter if self.minor else self.axis.set_major_formatter)(formatter)


def ticks_of(axes: Iterable[Axes]) -> list[Ticks]:
    """Return what ticks there are, those that panels share once."""
    found, shared = dict[int, Ticks](), set[int]()
    for axis in (axis for ax in axes for axis in (ax.xaxis, ax.yaxis) if ax.get_visible() and axis.get_visible()):
        for minor, ticker in ((False, axis.major), (True, axis.minor)):
            if id(ticker) in found:
                shared.add(id(ticker))
            elif not isinstance(ticker.locator, NullLocator):
                found[id(ticker)] = Ticks(axis, minor)
    for place, each in found.items():
        if place not in shared and not each.minor and not _has_words(each.axis):
            each.mark()
    return list(found.values())


def _has_words(axis: Axis) -> bool:
    return bool(axis.get_tick_params().get("labelbottom" if axis is axis.axes.xaxis else "labelleft", True))


def _at(axis: Axis, places: Float[np.ndarray, " n"]) -> tuple[Any, Any]:
    nothing = np.zeros(len(places))
    return (places, nothing) if axis is axis.axes.xaxis else (nothing, places)
