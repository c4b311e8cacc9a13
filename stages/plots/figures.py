"""Figures and what all of them share: style, colours, words and scales."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, TypeAlias

import matplotlib.style
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from simfer.stages.model.outputs import Status
from simfer.stages.plots.layout import ShownFigure, lay_out
from simfer.stages.spans import span

# Okabe and Ito (2008): told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#AAAAAA"
CYCLE = BLUE, ORANGE, GREEN, RED, SKY, PINK, "#555555", "#000000"
# What ends a solve in JAX and what ends a program are in no picture together.
STATUSES = dict(
    zip(Status, (SKY, GREY, RED, BLUE, ORANGE, GREEN, PINK, RED, BLUE, CYCLE[-1], GREEN, PINK), strict=True)
)
STYLE: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"), 0.06),
    "figure.titlesize": 9.5,
    "lines.linewidth": 1.2,
    "text.hinting": "none",  # letters as far apart as in print, and found twice as fast
    "svg.hashsalt": "simfer",  # the same bytes for the same numbers
    "svg.fonttype": "none",  # letters stay letters: they can be searched, and edited for a paper
    "pdf.fonttype": 42,  # TrueType, as journals ask for
}
MOST_POINTS = 5000
MOST_VECTORS = 150  # points of a panel of many: more of them are drawn as pixels, in a picture of lines too
LEVELS = 0.05, 0.25, 0.75, 0.95  # the ends of the 90 % and of the 50 % interval
_SORTED = 2**20  # values that quantiles are taken of at a time
Values = Float[np.ndarray, "..."]


class Held:
    """In a file's place: keeps the figure instead of writing it."""

    figure: ShownFigure


Place: TypeAlias = Path | Held  # where a picture goes


@dataclass(frozen=True)
class Look:
    """How pictures are written; the default is what the stages put beside their results."""

    formats: Sequence[str] = ("png",)
    width: float | None = None  # inches, as a page's column has them; the height follows
    dpi: float = 150
    style: Mapping[str, Any] = field(default_factory=dict)  # of Matplotlib's rcParams, over our own
    title: bool = True  # a paper has its caption
    log: Collection[str] = ()  # what is drawn on logarithmic axes, by name: all else is on linear ones


_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)
_WRITTEN: dict[str, Any] = {  # without a date; a PNG's last twentieth of size is half of its time
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Have pictures drawn within look so."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def current_look() -> Look:
    """Return how pictures are to look now."""
    return _LOOK.get() or Look()


@contextmanager
def styled(look: Look) -> Iterator[None]:
    """Have Matplotlib draw as pictures are to look."""
    # A user's own matplotlibrc must not change the bytes, hence the reset; all of it is undone on leaving.
    with span("draw"), matplotlib.style.context(STYLE | dict(look.style), after_reset=True):
        yield


@contextmanager
def new_figure(file: Place, width: float, height: float, title: str, least: float = 0.0) -> Iterator[ShownFigure]:
    """Make a figure and, at the end, write it to `file`, once for each format, or have it held.

    A narrow one is higher for its width: letters keep their size. None is narrower than `least`, which its words need.
    """
    look = current_look()
    share = 1.0 if look.width is None else max(look.width, least) / width
    with styled(look):
        figure = ShownFigure(figsize=(share * width, max(share, min(share, 1.0) ** 0.5) * height), layout="constrained")
        if look.title:
            figure.suptitle(title, x=0.01, ha="left", weight="bold")
        yield figure
    if isinstance(file, Held):
        file.figure = figure
    else:
        write(figure, file)


def write(figure: ShownFigure, file: Path) -> None:
    """Write a figure, once for each format."""
    look = current_look()
    with styled(look):
        lay_out(figure, look.dpi)
        for kind in look.formats:
            target = file.with_suffix(f".{kind}")
            figure.savefig(target, format=kind, dpi=look.dpi, **_WRITTEN[kind])


@contextmanager
def grid_figure(
    file: Place, count: int, cell: tuple[float, float], title: str, *, most: int, least: float, margin: float
) -> Iterator[tuple[ShownFigure, list[Axes]]]:
    """Lay out so many panels, at most `most` side by side, each `cell` wide and high; the rest of the grid stays empty.

    The figure is `least` wide at least, and `margin` higher than its panels.
    """
    columns = min(count, most)
    rows = -(-count // columns)
    with new_figure(file, max(cell[0] * columns, least), cell[1] * rows + margin, title) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        yield figure, list(axes[:count])
        for ax in axes[count:]:
            ax.remove()


@contextmanager
def corner_figure(
    file: Place,
    cell: float,
    title: str,
    names: list[str],
    labels: list[str],
    values: list[Values],
    outside: float = 0.0,
) -> Iterator[tuple[dict[tuple[int, int], Axes], list[Any]]]:
    """Lay out the lower triangle of panels, all scales and limits set, and a list to put the legend's keys in.

    Limits leave out the share `outside` of the values at either end.
    """
    num, keys = len(labels), list[Any]()
    size = max(4.2, cell * num + 0.6)
    logs = [is_log(name, each) for name, each in zip(names, values, strict=True)]
    limits = [limits_of(each, log, outside) for each, log in zip(values, logs, strict=True)]
    with new_figure(file, size, size if num > 1 else 3.2, title) as figure:
        grid = figure.add_gridspec(num, num)
        axes = {(i, j): figure.add_subplot(grid[i, j]) for i in range(num) for j in range(i + 1)}
        for (i, j), ax in axes.items():
            set_scale(ax, "x", logs[j], 3 if num > 1 else 6)
            ax.set(xlim=limits[j], xlabel=broken(labels[j], cell) if i == num - 1 else "")
            ax.tick_params(axis="x", labelrotation=45 if num > 1 else 0, labelbottom=i == num - 1)
            if i == j:
                hide_y(ax)
            else:
                set_scale(ax, "y", logs[i], 3)
                ax.set(ylim=limits[i], ylabel="" if j else broken(labels[i], cell))
                ax.tick_params(axis="y", labelleft=j == 0)
        yield axes, keys
        # Each looks at all others of its row or column, and only the outermost have labels.
        figure.align([axes[num - 1, j] for j in range(num)], "x")
        figure.align([axes[i, 0] for i in range(1, num)], "y")
        where: Any = {"loc": "upper right", "bbox_to_anchor": (0.995, 0.94)}  # the free half of a corner plot
        legend = figure.legend(handles=keys, **(where if num > 1 else {"loc": "outside lower center", "ncols": 2}))
        legend.set_in_layout(num == 1)


def drawable(words: str) -> str:
    """Return words that can be drawn: dollars that are no valid mathematics are escaped."""
    if "$" not in words:
        return words
    try:
        MathTextParser("path").parse(words)
    except ValueError:
        return words.replace("$", r"\$")
    return words


def labels_of(names: list[str], labels: Mapping[str, str] | None) -> list[str]:
    """Return the labels that quantities are given, their names where they are given none."""
    return [drawable((labels or {}).get(name) or name) for name in names]


def with_unit(name: str, unit: str) -> str:
    """Return a name with its unit."""
    return drawable(f"{name} [{unit}]" if unit else name)


def broken(label: str, width: float) -> str:
    """Return a label in lines that fit into so many inches at the size of ours: names do not run into one another."""
    most = max(int(13 * width), 8)
    if len(label) <= most:
        return label
    name, opening, unit = label.partition(" [")
    lines = [name] if "$" in name else _lines(name, most)
    return "\n".join([*lines, *wrap(opening.strip() + unit, most)] if opening else lines)


def _lines(name: str, most: int) -> list[str]:
    """Break a name after its underscores and blanks, and within a word only where that is too long by itself."""
    lines = [""]
    for word in re.split(r"(?<=[_ ])", name):
        if len(lines[-1]) + len(word.rstrip()) > most:
            lines.append("")
        lines[-1] += word
    return [part for line in lines if line.strip() for part in wrap(line, most, break_on_hyphens=False)]


def out_of(shown: Sequence[str], there: Mapping[str, Any], what: str) -> str:
    """Say how many of all are shown; "" where all are."""
    return "" if len(shown) == len(there) else f", {len(shown)} of {len(there)} {what}"


def first_few(values: Mapping[str, Values], most: int, what: str) -> tuple[list[str], list[Values], str]:
    """Return the names and values of the first `most` quantities, and words that say how many of all those are."""
    names = list(values)[:most]
    return names, [np.asarray(values[name], float).ravel() for name in names], out_of(names, values, what)


def thinned(items: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many items, evenly chosen."""
    return items if len(items) <= most else items[np.linspace(0, len(items) - 1, most).astype(int)]


def point_area(count: int, ink: float = 600.0) -> float:
    """Return the area of each of so many points, in square points: few are seen as well; `ink` is of all."""
    return float(np.clip(ink / max(count, 1), 3.0, 18.0))


def finite(*columns: Values) -> list[Values]:
    """Return the rows of columns in which all are finite."""
    keep = np.logical_and.reduce([np.isfinite(column) for column in columns])
    return [column[keep] for column in columns]


def forward(values: Values, log: bool) -> Values:
    """Return the logarithms where an axis has them, NaN for what has none."""
    return np.log10(np.where(values > 0, values, np.nan)) if log else values


def is_log(name: str, values: Values) -> bool:
    """Whether what is called so is drawn in logarithms: where that is asked for, and its values go over some decades.

    Of `c1.prey[0]` it may be asked for by any part of the name. Over less than a factor of 30 a logarithmic axis has
    hardly a tick, and looks as a linear one does.
    """
    (values,) = finite(values)
    asked = {name, *re.split(r"[.\[]", name)} & set(current_look().log)
    return bool(asked) and bool(values.size) and bool(values.min() > 0) and bool(values.max() > 30 * values.min())


def span_of(values: Values, outside: float = 0.0) -> tuple[float, float]:
    """Return the two ends of finite values, some way apart, without the share `outside` of many at either end."""
    outside = outside if values.size > 1000 else 0.0
    low, high = np.quantile(values, [outside, 1 - outside]).tolist() if values.size else (0.0, 1.0)
    pad = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else 0.5 * abs(low) or 0.5
    return low - pad, high + pad


def limits_of(values: Values, log: bool, outside: float = 0.0) -> tuple[float, float]:
    """Return the limits of an axis that shows values."""
    (values,) = finite(forward(values, log))
    low, high = span_of(values, outside)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    return (10**low, 10**high) if log else (low, high)


def set_scale(ax: Axes, which: Literal["x", "y"], log: bool, ticks: int) -> None:
    """Give an axis its scale, and at most so many ticks."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if log:
        getattr(ax, f"set_{which}scale")("log", nonpositive="mask")
        axis.set_major_locator(LogLocator(numticks=ticks + 1))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))


def hide_y(ax: Axes) -> None:
    """Take the vertical axis away, for a height that has no meaning."""
    ax.yaxis.set_visible(False)
    ax.spines["left"].set_visible(False)


def quantiles_of(values: Float[np.ndarray, "draws n"], levels: Sequence[float]) -> Float[np.ndarray, "levels n"]:
    """Return quantiles over the finite draws, NaN where there are none."""
    size = max(_SORTED // max(len(values), 1), 1)
    starts = range(0, max(values.shape[1], 1), size)
    parts = [_quantiles_of(values[:, at : at + size], levels) for at in starts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _quantiles_of(values: Float[np.ndarray, "draws n"], levels: Sequence[float]) -> Float[np.ndarray, "levels n"]:
    values = np.where(np.isfinite(values), values, np.nan)
    none = np.isnan(values).all(0)
    return np.where(none, np.nan, np.nanquantile(np.where(none, 0.0, values), levels, axis=0))
