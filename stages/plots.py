"""Draw what each stage made: publication-quality pictures as PNG files, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.mathtext import MathTextParser
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stages.artifacts import Layout
from stages.simulators.base import Status

# Okabe and Ito (2008): told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#AAAAAA"
CYCLE = BLUE, ORANGE, GREEN, RED, SKY, PINK, "#555555", "#000000"
STATUSES = dict(zip(Status, (SKY, GREY, RED, BLUE, ORANGE, GREEN, PINK), strict=True))
STYLE: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"), 0.06),
    "figure.titlesize": 9.5,
    "lines.linewidth": 1.2,
}
MOST_POINTS = 5000
LEVELS = 0.05, 0.25, 0.75, 0.95  # the ends of the 90 % and of the 50 % interval
Values = Float[np.ndarray, "..."]


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
    curve: Float[np.ndarray, "draws m"]
    simulated: Float[np.ndarray, "draws m"] | None = None  # a random simulator's outputs, their scatter in them


@dataclass(frozen=True)
class Field:
    """One output over two dimensions, as simulated and as emulated; `y` runs upwards."""

    output: str
    unit: str
    dims: tuple[str, str]
    y: Float[np.ndarray, " ny"]
    x: Float[np.ndarray, " nx"]
    simulated: Float[np.ndarray, "ny nx"]
    emulated: Float[np.ndarray, "ny nx"]


@dataclass(frozen=True)
class Map:
    """One output's data over two dimensions, each datum beside the mean and sd of what the posterior predicts."""

    output: str
    unit: str
    dims: tuple[str, str]
    y: Float[np.ndarray, " n"]
    x: Float[np.ndarray, " n"]
    observed: Float[np.ndarray, " n"]
    expected: Float[np.ndarray, " n"]
    sd: Float[np.ndarray, " n"]


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


def design(
    file: Path,
    theta: Mapping[str, Float[np.ndarray, " rows"]],
    status: Int[np.ndarray, " rows"],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw where the simulator ran (at most 6 parameters) and where, and how, it failed."""
    names, values, words = _first(theta, 6, "parameters")
    rows = {s: np.flatnonzero(status == s) for s in STATUSES if s == Status.OK or (status == s).any()}
    failed = (status > Status.OK).mean() if len(status) else 0.0
    title = f"{len(status):,} simulations, {100 * failed:.1f} % failed{words}"
    with _corner_figure(file, 1.45, title, _labels(names, labels), values) as (axes, keys):
        for (i, j), ax in axes.items():
            if i == j:
                _histograms(ax, values[i], rows, counts=len(names) == 1)
                continue
            for s, at in rows.items():
                at = _thin(at, MOST_POINTS // len(rows))
                area, alpha = (3, 0.5) if s == Status.OK else (5, 0.8)
                ax.scatter(values[j][at], values[i][at], s=area, alpha=alpha, color=STATUSES[s], linewidths=0)
        for s, at in rows.items():
            keys.append(Patch(color=STATUSES[s], label=f"{s.name.lower().replace('_', ' ')}: {len(at):,}"))
        if len(names) > 1:
            keys.append(Line2D([], [], ls="", label="diagonal: each to its own peak"))


def failures(
    file: Path,
    status: Int[np.ndarray, " rows"],
    plane: Mapping[str, Values],
    along: tuple[str, Values],
    cuts: Sequence[float] = (),
    boundary: tuple[Values, Values] | None = None,
) -> None:
    """Draw how rows ended in the plane of one or two parameters, and the share that failed along what tells best."""
    rows = {s: np.flatnonzero(status == s) for s in STATUSES if (status == s).any()}
    failed = status != Status.OK
    title = f"{failed.sum():,} of {len(status):,} simulations failed ({100 * failed.mean():.1f} %)"
    with _figure(file, 7.4, 3.9, title) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        names, values, _ = _first(plane, 2, "parameters")
        _scale(left, "x", _is_log(values[0]), 5)
        left.set(xlim=_limits(values[0], _is_log(values[0])), xlabel=_text(names[0]))
        (_statuses if len(names) > 1 else _stacked)(left, names, values, rows)
        for cut in cuts if boundary is None else ():
            left.axvline(cut, color="k", lw=1, ls="--")
        if boundary is not None:
            left.plot(*boundary, color="k", lw=1, ls="--")
        _failure_rate(right, *along, failed, cuts)
        keys: list[Any] = [Patch(color=STATUSES[s], label=f"{_named(s)}: {len(at):,}") for s, at in rows.items()]
        if cuts:
            keys.append(Line2D([], [], color="k", lw=1, ls="--", label="best cut"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


def losses(
    file: Path,
    steps: Shaped[np.ndarray, " k"],
    train: Float[np.ndarray, "k members"],
    validation: Float[np.ndarray, "k members"],
    best: Shaped[np.ndarray, " members"],
) -> None:
    """Draw every member's training and validation loss, their medians, and where the best weights were."""
    members = train.shape[1]
    with _figure(file, 4.6, 3.2, f"Training of {members} ensemble member{'s' * (members != 1)}") as figure:
        ax = figure.add_subplot(xlabel="optimizer step", ylabel="loss")
        for values, colour, name in ((train, BLUE, "training"), (validation, RED, "validation")):
            values = np.where(np.isfinite(values), values, np.nan)
            ax.plot(steps, values, color=colour, lw=0.5, alpha=0.45)
            ax.plot(steps, _quantiles(values.T, [0.5])[0], color=colour, lw=1.8, label=f"{name}, median of members")
        # A logarithmic axis has no step 0: what lies there is drawn at the first step that it has.
        first = min(steps[steps > 0], default=1)
        at = np.abs(steps[:, None] - best).argmin(0), np.arange(members)
        look: Any = {"ls": "", "ms": 4.5, "mfc": "white", "mec": "k", "mew": 0.9, "clip_on": False, "zorder": 5}
        ax.plot(np.maximum(best, first), validation[at], "o", label="best weights of a member", **look)
        ax.set(xscale="log", xlim=(first, max(steps.max(initial=0), 1.01 * first)))
        (seen,) = _finite(np.concatenate([train, validation]).ravel())
        positive = (seen >= 0).all() and (seen > 0).any()  # a negative log-density has no logarithm
        ax.set_yscale("log") if positive else ax.set_yscale("symlog", linthresh=1.0)
        ax.legend()


def held_out(
    file: Path,
    layout: Layout,
    truth: Float[np.ndarray, "n D"],
    emulated: Float[np.ndarray, "n D"],
    sd: Float[np.ndarray, "n D"],
) -> None:
    """Draw held-out simulations against the emulator (at most 4 outputs), and its errors in its own sd."""
    names = list(layout.slices)[:4]
    title = f"Emulator on {len(truth):,} held-out simulations{_of(names, layout.slices, 'outputs')}"
    with _figure(file, max(4.0, 2.4 * len(names)), 5.2, title) as figure:
        axes = figure.subplots(2, len(names), squeeze=False)
        for name, (top, bottom) in zip(names, axes.T, strict=True):
            part, unit = layout.slices[name], layout.outputs[name].unit
            _one_to_one(top, truth[:, part].ravel(), emulated[:, part].ravel())
            top.set(title=_text(name), xlabel=_with_unit("simulated", unit), ylabel=_with_unit("emulated", unit))
            _standardised(bottom, emulated[:, part] - truth[:, part], sd[:, part])
        axes[1, 0].set_ylabel("density")
        keys = [Line2D([], [], color="k", lw=1, label="no error (top), standard normal (bottom)")]
        figure.legend(
            handles=[Patch(color=SKY, label="held-out simulations"), *keys], loc="outside lower center", ncols=2
        )


def fields(file: Path, shown: Sequence[Field], of: int) -> None:
    """Draw outputs over two dimensions (at most 4): simulated, emulated, and the difference on a scale of its own."""
    title = f"Of {of:,} held-out simulations, for each output the one with the median error"
    with _figure(file, 7.2, 2.2 * len(shown[:4]) + 0.5, title) as figure:
        for row, field in zip(_rows_of_three(figure, shown[:4]), shown, strict=False):
            _three(
                row,
                partial(_image, edges=(*_edges(field.x), *_edges(field.y))),
                (field.simulated, field.emulated, field.emulated - field.simulated),
                (f"{_with_unit(field.output, field.unit)}, simulated", "emulated", "emulated − simulated"),
                field.dims,
            )


def maps(file: Path, shown: Sequence[Map]) -> None:
    """Draw data over two dimensions (at most 4 outputs): observed, expected, and the gap in predicted sd."""
    with _figure(file, 7.2, 2.2 * len(shown[:4]) + 0.5, "Data and what the posterior expects") as figure:
        for row, one in zip(_rows_of_three(figure, shown[:4]), shown, strict=False):
            _three(
                row,
                partial(_squares, x=one.x, y=one.y),
                (one.observed, one.expected, (one.observed - one.expected) / np.maximum(one.sd, 1e-300)),
                (f"{_with_unit(one.output, one.unit)}, data", "expected", "(data − expected) / sd"),
                one.dims,
            )


def _image(ax: Axes, values: Values, look: dict[str, Any], edges: tuple[float, float, float, float]) -> Any:
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
    low, high = _span(_finite(np.concatenate([values[0].ravel(), values[1].ravel()]))[0])
    most = float(np.abs(_finite(values[2].ravel())[0]).max(initial=0.0)) or 1.0
    same: dict[str, Any] = {"vmin": low, "vmax": high}
    about_zero = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    images = [draw(ax, each, look) for ax, each, look in zip(row, values, (same, same, about_zero), strict=True)]
    for ax, text in zip(row, words, strict=True):
        ax.set(title=text, xlabel=_text(dims[1]))
    row[0].set_ylabel(_text(dims[0]))
    row[0].figure.colorbar(images[1], ax=list(row[:2]))
    row[0].figure.colorbar(images[2], ax=row[2])


def trace(
    file: Path, draws: Mapping[str, Float[np.ndarray, "chains draws"]], divergent: Bool[np.ndarray, "chains draws"]
) -> None:
    """Draw each quantity (at most 20), chain by chain: its density, its trace, and where draws diverged."""
    chains, length = divergent.shape
    names = list(draws)[:20]
    title = f"{chains} chain{'s' * (chains != 1)} of {length:,} draws, {divergent.sum():,} divergent"
    with _figure(file, 7.0, 1.1 * len(names) + 1.1, title + _of(names, draws, "quantities")) as figure:
        axes = figure.subplots(len(names), 2, squeeze=False, width_ratios=(1, 2))
        for name, (left, right) in zip(names, axes, strict=True):
            _trace_row(left, right, np.asarray(draws[name], float), divergent)
            left.set_xlabel(_text(name))
            right.set_ylabel(_text(name))
            right.tick_params(labelbottom=name == names[-1])
        axes[0, 0].set_title("density of each chain")
        axes[0, 1].set_title("trace of each chain")
        axes[-1, 1].set_xlabel("draw")
        figure.align_ylabels(axes[:, 1])
        keys = [Line2D([], [], color=CYCLE[k], label=f"chain {k + 1}") for k in range(min(chains, len(CYCLE)))]
        if divergent.any():
            keys.append(Line2D([], [], color="k", ls="", marker="|", label="divergent"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))


def pair(
    file: Path,
    draws: Mapping[str, Float[np.ndarray, "chains draws"]],
    divergent: Bool[np.ndarray, "chains draws"] | None = None,
    labels: Mapping[str, str] | None = None,
    reference: Mapping[str, Float[np.ndarray, " n"]] | None = None,
) -> None:
    """Draw every marginal and every pair (at most 10 quantities): the regions that hold 50 % and 90 % of the draws."""
    names, values, words = _first(draws, 10, "quantities")
    others = [np.asarray(reference[name]).ravel() if reference and name in reference else None for name in names]
    marked = np.empty(0, int) if divergent is None else _thin(np.flatnonzero(divergent), 1000)
    title = f"Posterior, {values[0].size:,} draws{words}"
    seen = [v if o is None else np.append(v, o) for v, o in zip(values, others, strict=True)]
    with _corner_figure(file, 1.35, title, _labels(names, labels), seen, 0.001) as (axes, keys):
        for (i, j), ax in axes.items():
            if i == j:
                _marginal(ax, values[i], others[i], values[i][marked])
                continue
            _regions(ax, values[j], values[i])
            if (x := others[j]) is not None and (y := others[i]) is not None:
                _regions(ax, x, y, outlines=True)
            ax.plot(values[j][marked], values[i][marked], "x", color=RED, ms=3, mew=0.8)
        keys.append(Patch(color=SKY, label="90 % of the draws"))
        if len(names) > 1:
            keys.append(Patch(color=BLUE, label="50 % of the draws"))
        if any(other is not None for other in others):
            keys.append(Line2D([], [], color="k", lw=0.9, ls="--", label="reference"))
        if marked.size:
            keys.append(
                Line2D([], [], color=RED, marker="x" if len(names) > 1 else "|", ls="", label="divergent draws")
            )
        keys.append(Line2D([], [], ls="", label="numbers: median (90 % interval)"))


def predictive(file: Path, panels: Sequence[Panel]) -> None:
    """Draw the data on the intervals in which the posterior expects data."""
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = -(-len(panels) // columns)
    with _figure(file, max(4.4, 3.1 * columns), 2.5 * rows + 0.7, "Posterior predictive check") as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=False):
            _predict(ax, panel)
        keys = {k: v for ax in axes for v, k in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in axes[len(panels) :]:
            ax.remove()
        figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=2 if columns == 1 else len(keys))


def verdict(file: Path, figures: Sequence[Mapping[str, Any]]) -> None:
    """Draw how much of its limit each figure of the verdict uses up; beyond 1 it fails.

    That is value / threshold, or threshold / value where larger is better, so that a longer bar is always worse.
    """
    shares = np.asarray([_share(f["value"], f["threshold"], f["larger_is_better"]) for f in figures])
    known = np.log10(np.clip(shares, 1e-2, 1e2))
    low, high = 10 ** np.floor(known.min(initial=-0.5)), 10 ** np.ceil(known.max(initial=0.4))
    colours = [GREEN if f["passed"] else RED for f in figures]
    title = f"Verdict: {colours.count(GREEN)} of {len(figures)} figures within their limits"
    with _figure(file, 6.2, 0.26 * len(figures) + 1.05, title) as figure:
        ax = figure.add_subplot(xscale="log", xlim=(low, high), ylim=(len(figures) - 0.4, -0.6))
        ax.barh(range(len(figures)), np.clip(shares, 1.04 * low, high) - low, left=low, height=0.62, color=colours)
        ax.axvline(1, color="k", lw=1)
        ax.set_xlabel("share of the limit used up (1 is the limit)")
        ax.set_yticks(range(len(figures)), [_text(str(f["figure"]).replace("_", " ")) for f in figures])
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


def calibration(
    file: Path,
    curves: Mapping[str, Values],
    grid: Values,
    low: Values,
    high: Values,
    over: str,
) -> None:
    """Draw each quantity's ECDF of ranks less the diagonal, with the band in which all of it should stay."""
    title = f"Calibration over the {over}: ranks of the truth, ECDF - uniform"
    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    with _figure(file, 2.4 * columns, 2.1 * rows + 0.3, title) as figure:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        even = (np.arange(len(grid)) + 1) / (len(grid) + 1)
        for ax, (name, values) in zip(axes, curves.items(), strict=False):
            curve = np.searchsorted(np.sort(values), grid + 1e-9, side="right") / len(values)
            stays = bool(((curve >= low - 1e-9) & (curve <= high + 1e-9)).all())
            ax.fill_between(grid, low - even, high - even, color="0.88", step="post", lw=0)
            ax.step(grid, curve - even, where="post", color="#009E73" if stays else "#D55E00")
            ax.axhline(0.0, color="0.5", lw=0.6)
            ax.set_title(_text(name), fontsize=8)
            ax.set_xlabel("rank / number of draws", fontsize=7)
            ax.tick_params(labelbottom=True)
        for ax in axes[len(curves) :]:
            ax.set_visible(False)


def influences(file: Path, shown: Sequence[Influence], parameters: Sequence[str], level: float) -> None:
    """Draw first-order and total indices of whole outputs (as many as a page holds), with their intervals."""
    tall = 0.3 * len(parameters) + 0.75
    some = shown[: 3 * _fitting(tall)]
    columns = min(len(some), 3)
    rows = -(-len(some) // columns)
    with _figure(file, max(4.4, 1.2 + 2.4 * columns), rows * tall + 0.75, _SHARE + _few(some, shown)) as figure:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, one in zip(axes, some, strict=False):
            _bars(ax, one)
            _rows_of(ax, parameters)
            ax.set(xlim=(0, 1.02), title=_text(one.output))
            ax.tick_params(labelbottom=True)
        for ax in axes[len(some) :]:
            ax.remove()
        keys: list[Any] = [Patch(color=BLUE, label="first order: alone")]
        keys.append(Patch(color=SKY, label="total: with interactions"))
        keys.append(Line2D([], [], color="k", lw=0.8, label=f"{100 * level:g} % interval"))
        figure.legend(handles=keys, loc="outside lower center", ncols=3)


def influences_along(file: Path, shown: Sequence[Influence], parameters: Sequence[str]) -> None:
    """Draw the indices of outputs over one dimension (as many as a page holds): parameters by coordinate."""
    tall = 0.24 * len(parameters) + 0.95
    some = shown[: _fitting(tall)]
    with _figure(file, 7.2, len(some) * tall + 0.4, _SHARE + _few(some, shown)) as figure:
        axes = figure.subplots(len(some), 2, squeeze=False, sharey=True)
        for row, one in zip(axes, some, strict=True):
            ((dim, x),) = one.dims.items()
            for ax, values, word in zip(row, (one.first_each, one.total_each), ("first order", "total"), strict=True):
                image = _strips(ax, x, values)
                _rows_of(ax, parameters)
                ax.set(xlabel=_text(dim), title=_text(f"{one.output}: {word}"))
        _key_to_shares(figure, axes, image, [one.total_each for one in some])


def influences_over(file: Path, shown: Sequence[Influence], parameters: Sequence[str]) -> None:
    """Draw the total indices of outputs over two dimensions (as many as a page holds), a map for each parameter."""
    some, names = shown[: _fitting(2.1)], parameters[:6]
    title = "Total s" + _SHARE.removeprefix("S") + _few(some, shown) + _few(names, parameters, "parameters")
    with _figure(file, max(4.4, 1.3 + 1.9 * len(names)), 2.1 * len(some) + 0.4, title) as figure:
        axes = figure.subplots(len(some), len(names), squeeze=False, sharex="row", sharey="row")
        for row, one in zip(axes, some, strict=True):
            (down, y), (across, x) = one.dims.items()
            for ax, name, values in zip(row, names, one.total_each, strict=False):
                image = _image(ax, values, _SHARES, (*_edges(x), *_edges(y)))
                ax.set(title=_text(f"{one.output}: ") + name, xlabel=_text(across), facecolor=GREY)
            row[0].set_ylabel(_text(down))
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


def _strips(ax: Axes, x: Values, values: Float[np.ndarray, "parameters n"]) -> Any:
    """Draw a strip of cells for each parameter, each cell about its coordinate."""
    log = _is_log(x, inner=1.0)
    place = _forward(np.asarray(x, float), log)
    middles = 0.5 * (place[1:] + place[:-1])
    edges = np.concatenate([[2 * place[0] - middles[0]], middles, [2 * place[-1] - middles[-1]]])
    _scale(ax, "x", log, 5)
    ax.set_facecolor(GREY)
    image = ax.pcolormesh(10**edges if log else edges, np.arange(len(values) + 1) - 0.5, values, **_SHARES)
    ax.hlines(np.arange(1, len(values)) - 0.5, *ax.get_xlim(), color="w", lw=2)
    return image


def _key_to_shares(figure: Figure, axes: Any, image: Any, values: Sequence[Values]) -> None:
    bar = figure.colorbar(image, ax=axes, aspect=15 * len(axes))
    bar.set_label("share" + (" (grey: does not vary)" if any(np.isnan(each).any() for each in values) else ""))


@contextmanager
def _figure(file: Path, width: float, height: float, title: str) -> Iterator[Figure]:
    # A user's own matplotlibrc must not change the bytes, hence the reset; all of it is undone on leaving.
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
        yield figure
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})


@contextmanager
def _corner_figure(
    file: Path, cell: float, title: str, labels: list[str], values: list[Values], outside: float = 0.0
) -> Iterator[tuple[dict[tuple[int, int], Axes], list[Any]]]:
    """Lay out the lower triangle of panels, all scales and limits set, and a list to put the legend's keys in.

    Limits leave out the share `outside` of the values at either end.
    """
    num, keys = len(labels), list[Any]()
    size = max(4.2, cell * num + 0.6)
    logs = [_is_log(each) for each in values]
    limits = [_limits(each, log, outside) for each, log in zip(values, logs, strict=True)]
    with _figure(file, size, size if num > 1 else 3.2, title) as figure:
        grid = figure.add_gridspec(num, num)
        axes = {(i, j): figure.add_subplot(grid[i, j]) for i in range(num) for j in range(i + 1)}
        for (i, j), ax in axes.items():
            _scale(ax, "x", logs[j], 3 if num > 1 else 6)
            ax.set(xlim=limits[j], xlabel=labels[j] if i == num - 1 else "")
            ax.tick_params(axis="x", labelrotation=45 if num > 1 else 0, labelbottom=i == num - 1)
            if i == j:
                _hide_y(ax)
            else:
                _scale(ax, "y", logs[i], 3)
                ax.set(ylim=limits[i], ylabel="" if j else labels[i])
                ax.tick_params(axis="y", labelleft=j == 0)
        yield axes, keys
        figure.align_labels()
        where: Any = {"loc": "upper right", "bbox_to_anchor": (0.995, 0.94)}  # the free half of a corner plot
        figure.legend(handles=keys, **(where if num > 1 else {"loc": "outside lower center", "ncols": 2}))


def _edges(middles: Float[np.ndarray, " n"]) -> tuple[float, float]:
    half = 0.5 * (middles[-1] - middles[0]) / max(len(middles) - 1, 1)
    return float(middles[0] - half), float(middles[-1] + half)


def _text(words: str) -> str:
    """Return words that can be drawn: dollars that are no valid mathematics are escaped."""
    try:
        MathTextParser("path").parse(words)
    except ValueError:
        return words.replace("$", r"\$")
    return words


def _labels(names: list[str], labels: Mapping[str, str] | None) -> list[str]:
    return [_text((labels or {}).get(name) or name) for name in names]


def _with_unit(name: str, unit: str) -> str:
    return _text(f"{name} [{unit}]" if unit else name)


def _of(shown: Sequence[str], there: Mapping[str, Any], what: str) -> str:
    return "" if len(shown) == len(there) else f", {len(shown)} of {len(there)} {what}"


def _first(values: Mapping[str, Values], most: int, what: str) -> tuple[list[str], list[Values], str]:
    names = list(values)[:most]
    return names, [np.asarray(values[name], float).ravel() for name in names], _of(names, values, what)


def _thin(items: np.ndarray, most: int) -> np.ndarray:
    return items if len(items) <= most else items[np.linspace(0, len(items) - 1, most).astype(int)]


def _finite(*columns: Values) -> list[Values]:
    keep = np.logical_and.reduce([np.isfinite(column) for column in columns])
    return [column[keep] for column in columns]


def _forward(values: Values, log: bool) -> Values:
    return np.log10(np.where(values > 0, values, np.nan)) if log else values


def _is_log(values: Values, inner: float = 0.9) -> bool:
    """Whether values are positive and span over two decades, judged by their `inner` part, not by a tail."""
    (values,) = _finite(values)
    if not values.size or values.min() <= 0:
        return False
    low, high = np.quantile(values, [(1 - inner) / 2, (1 + inner) / 2])
    return bool(high > low * 100**inner)


def _span(values: Values, outside: float = 0.0) -> tuple[float, float]:
    outside = outside if values.size > 1000 else 0.0
    low, high = np.quantile(values, [outside, 1 - outside]).tolist() if values.size else (0.0, 1.0)
    pad = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else 0.5 * abs(low) or 0.5
    return low - pad, high + pad


def _limits(values: Values, log: bool, outside: float = 0.0) -> tuple[float, float]:
    (values,) = _finite(_forward(values, log))
    low, high = _span(values, outside)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    return (10**low, 10**high) if log else (low, high)


def _scale(ax: Axes, which: Literal["x", "y"], log: bool, ticks: int) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    if log:
        getattr(ax, f"set_{which}scale")("log", nonpositive="mask")
        axis.set_major_locator(LogLocator(numticks=ticks + 1))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))


def _hide_y(ax: Axes) -> None:
    ax.yaxis.set_visible(False)
    ax.spines["left"].set_visible(False)


def _quantiles(values: Float[np.ndarray, "draws n"], levels: Sequence[float]) -> Float[np.ndarray, "levels n"]:
    """Return quantiles over the finite draws, NaN where there are none."""
    values = np.where(np.isfinite(values), values, np.nan)
    none = np.isnan(values).all(0)
    return np.where(none, np.nan, np.nanquantile(np.where(none, 0.0, values), levels, axis=0))


def _support(values: Values, power: float) -> tuple[float, float, float]:
    """Return the range to draw a density on, and the width of the Gaussian (Silverman 1986, eq. 3.31) to smooth it by.

    The range ends with the values where they crowd at its end, as at a prior's edge, and leaves room to fade elsewhere.
    """
    spread = min(values.std(), np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34)
    width = float(spread * values.size**-power)
    low, high = _span(values, 0.001)
    fades = [np.mean(abs(values - end) < width) < 0.4 * width / (high - low) for end in (low, high)]
    return low - 3 * width * fades[0], high + 3 * width * fades[1], width


def _kernel(size: int, low: float, high: float, width: float) -> Float[np.ndarray, "size size"]:
    # Mirrored in both ends, so that a density that stops sharply is not drawn as if it faded out.
    i, j = np.ogrid[:size, :size]
    cells = max(1.0, width * size / (high - low))
    return np.asarray(sum(np.exp(-0.5 * (d / cells) ** 2) for d in (i - j, i + j + 1, i + j + 1 - 2 * size)))


def _density(values: Values, log: bool) -> tuple[Values, Values]:
    """Return where and how dense values lie (for each decade, if `log`), smoothed."""
    (values,) = _finite(_forward(values, log))
    if not values.size:
        return np.ones(1), np.zeros(1)
    low, high, width = _support(values, 1 / 5)
    counts, edges = np.histogram(values, 200, (low, high))
    density = _kernel(200, low, high, width) @ counts
    middle = 0.5 * (edges[1:] + edges[:-1])
    return 10**middle if log else middle, density / (density.mean() * (high - low))


def _density_2d(x: Values, y: Values) -> tuple[Values, Values, Values, list[float]]:
    """Return a grid, the smoothed density on it, and the densities that enclose 90 and 50 % of the draws.

    The grid follows the draws' covariance, so that a narrow diagonal ridge is as well resolved as a round blob.
    """
    xy = np.stack([x, y])
    centre, scale = xy.mean(1, keepdims=True), xy.std(1, keepdims=True)
    scale[scale == 0] = 1.0
    root = scale * np.linalg.cholesky(np.cov((xy - centre) / scale, bias=True) + 1e-6 * np.eye(2))
    u, v = np.linalg.solve(root, xy - centre)
    supports = [_support(each, 1 / 6) for each in (u, v)]
    counts, *edges = np.histogram2d(u, v, 70, [support[:2] for support in supports])
    left, right = (_kernel(70, *support) for support in supports)
    density = left @ counts @ right.T
    ordered = np.sort(density.ravel())[::-1]
    levels = ordered[np.searchsorted(ordered.cumsum() / ordered.sum(), [0.9, 0.5])].tolist()
    middles = np.meshgrid(*(0.5 * (edge[1:] + edge[:-1]) for edge in edges), indexing="ij")
    grid = np.tensordot(root, middles, 1) + centre[..., None]
    return grid[0], grid[1], density, levels


def _histograms(ax: Axes, values: Values, rows: Mapping[Status, np.ndarray], counts: bool) -> None:
    low, high = _span(_finite(values)[0])
    bins = np.geomspace(low, high, 31) if ax.get_xscale() == "log" else np.linspace(low, high, 31)
    heights = [np.histogram(_finite(values[at])[0], bins)[0] for at in rows.values()]
    below = np.zeros(30)
    for height, s in zip(heights, rows, strict=True):
        if counts:
            ax.stairs(below + height, bins, baseline=below, fill=True, color=STATUSES[s])
            below = below + height
        else:  # failures are often too few to be seen among the rest
            ax.stairs(height / max(height.max(), 1), bins, fill=s == Status.OK, color=STATUSES[s], lw=1)
    ax.set(ylim=(0, 1.08 * max(below.max(), 1)), ylabel="simulations")
    ax.yaxis.set_visible(counts)
    ax.spines["left"].set_visible(counts)


def _named(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _statuses(ax: Axes, names: list[str], values: list[Values], rows: Mapping[Status, np.ndarray]) -> None:
    """Draw rows as points, failed ones on top of at most some thousand others."""
    log = _is_log(values[1])
    _scale(ax, "y", log, 5)
    ax.set(ylim=_limits(values[1], log), ylabel=_text(names[1]))
    for s, at in rows.items():
        few, ok = _thin(at, MOST_POINTS // len(rows)), s == Status.OK
        size = float(np.clip(6000 / max(len(few), 1), 4, 24))
        ax.scatter(values[0][few], values[1][few], s=size, alpha=0.55 if ok else 0.9, color=STATUSES[s], linewidths=0)


def _stacked(ax: Axes, names: list[str], values: list[Values], rows: Mapping[Status, np.ndarray]) -> None:
    _histograms(ax, values[0], rows, counts=True)


def _failure_rate(
    ax: Axes, name: str, values: Values, failed: Bool[np.ndarray, " rows"], cuts: Sequence[float]
) -> None:
    """Draw the share of failed rows in bins of equally many, with 90 % intervals (Wilson 1927)."""
    log = _is_log(values)
    _scale(ax, "x", log, 5)
    parts = np.array_split(np.argsort(values), int(np.clip(np.sqrt(len(values)) / 1.5, 1, 16)))
    count = np.array([len(part) for part in parts])
    middle = np.array([np.median(values[part]) for part in parts])
    ends = np.array([(values[part].min(), values[part].max()) for part in parts]).T
    rate = np.array([failed[part].mean() for part in parts])
    z2 = 1.645**2
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(z2 * (rate * (1 - rate) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    low, high = np.minimum(centre - half, rate), np.maximum(centre + half, rate)
    ax.hlines(100 * rate, *ends, color=BLUE, lw=1)
    ax.errorbar(middle, 100 * rate, 100 * np.stack([rate - low, high - rate]), fmt="o", ms=3, color=BLUE, lw=0.8)
    for cut in cuts:
        ax.axvline(cut, color="k", lw=1, ls="--")
    ax.set(xlim=_limits(values, log), ylim=(-3, 103), xlabel=_text(name), ylabel="failed [%], with 90 % intervals")


def _one_to_one(ax: Axes, truth: Values, emulated: Values) -> None:
    truth, emulated = _finite(truth, emulated)
    both = np.concatenate([truth, emulated])
    log = _is_log(both)
    limits = _limits(both, log)
    _scale(ax, "x", log, 4)
    _scale(ax, "y", log, 4)
    ax.set(xlim=limits, ylim=limits)
    at = _thin(np.arange(truth.size), MOST_POINTS)
    ax.scatter(truth[at], emulated[at], s=4, color=SKY, alpha=0.5, linewidths=0)
    ax.plot(limits, limits, color="k", lw=0.7)


def _standardised(ax: Axes, error: Values, sd: Values) -> None:
    error, sd = _finite(error[sd > 0], sd[sd > 0])
    z, bins = error / sd, np.linspace(-5, 5, 51)
    ax.set(xlim=(-5, 5), xlabel="(emulated − simulated) / sd")
    if not z.size:
        ax.text(0, 0.5, "constant output:\nno error to show", ha="center")
        ax.set_yticks([])
        return
    ax.hist(np.clip(z, -4.99, 4.99), bins.tolist(), density=True, color=SKY)
    ax.plot(bins, np.exp(-0.5 * bins**2) / np.sqrt(2 * np.pi), color="k", lw=1)
    ax.set_title(f"{100 * (np.abs(z) < 2).mean():.1f} % within 2 sd (normal: 95.4 %)", fontsize=7)


def _trace_row(left: Axes, right: Axes, chains: Values, divergent: Bool[np.ndarray, "chains draws"]) -> None:
    log, at = _is_log(chains), _thin(np.arange(chains.shape[1]), 2000)
    _scale(left, "x", log, 4)
    _scale(right, "y", log, 3)
    for number, chain in enumerate(chains):
        colour = CYCLE[number % len(CYCLE)]
        left.plot(*_density(chain, log), color=colour, lw=0.9)
        right.plot(at, chain[at], color=colour, lw=0.4, alpha=0.8)
    _hide_y(left)
    left.set_ylim(bottom=0)
    right.margins(y=0.15)
    right.set_xlim(0, max(chains.shape[1], 2))
    for ax, marks in ((left, chains[divergent]), (right, np.nonzero(divergent)[1])):
        ax.plot(marks, np.full(len(marks), 0.04), "|", color="k", ms=5, mew=0.6, transform=ax.get_xaxis_transform())


def _marginal(ax: Axes, values: Values, other: Values | None, marked: Values) -> None:
    log = ax.get_xscale() == "log"
    x, density = _density(values, log)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    ax.fill_between(x, density, color=SKY, alpha=0.35, lw=0)
    ax.fill_between(x, density, where=((x >= low) & (x <= high)).tolist(), color=SKY, lw=0)
    ax.plot(x, density, color=BLUE)
    ax.vlines(middle, 0, np.interp(middle, x, density), color=BLUE, lw=0.8)
    if other is not None:
        ax.plot(*_density(other, log), color="k", lw=0.9, ls="--")
    ax.plot(marked, np.full(len(marked), 0.03), "|", color=RED, ms=4, mew=0.6, transform=ax.get_xaxis_transform())
    ax.set_ylim(bottom=0)
    ax.set_title(_interval(low, middle, high, log), fontsize=7)


def _interval(low: float, middle: float, high: float, log: bool) -> str:
    """Write a median and its interval, to two digits of the interval's width."""
    decimals = 1 - int(np.floor(np.log10(high - low))) if high > low else 3
    plain = not log and -5 < decimals < 6
    numbers = [f"{round(v, decimals) + 0.0:.{max(decimals, 0)}f}" if plain else f"{v:.3g}" for v in (middle, low, high)]
    return "{} ({}, {})".format(*numbers).replace("-", "−")


def _regions(ax: Axes, x: Values, y: Values, outlines: bool = False) -> None:
    logs = ax.get_xscale() == "log", ax.get_yscale() == "log"
    x, y = _finite(*(_forward(v, log) for v, log in zip((x, y), logs, strict=True)))
    if not x.size:
        return
    x, y, density, levels = _density_2d(x, y)
    x, y = (10**v if log else v for v, log in zip((x, y), logs, strict=True))
    if outlines:
        ax.contour(x, y, density, levels, colors="k", linewidths=0.9, linestyles="--")
    else:
        ax.contourf(x, y, density, [*levels, 1.01 * density.max()], colors=[SKY, BLUE])


def _predict(ax: Axes, panel: Panel) -> None:
    bands = _quantiles(panel.replicated, LEVELS)
    inside = ((bands[0] <= panel.observed) & (panel.observed <= bands[3])).sum()
    _scale(ax, "y", _is_log(np.append(panel.observed, bands), inner=1.0), 5)
    (_series if panel.dim and len(np.unique(panel.x)) > 1 else _side_by_side)(ax, panel, bands)
    ax.set_title(_text(f"{panel.output}: {inside} of {len(panel.observed)} data inside 90 %"))
    ax.set_ylabel(_with_unit(panel.output, panel.unit))


def _series(ax: Axes, panel: Panel, bands: Float[np.ndarray, "4 n"]) -> None:
    x, at = np.unique(panel.x, return_inverse=True)  # data that share a coordinate share a band
    pooled = [_quantiles(panel.replicated[:, at == k].reshape(-1, 1), LEVELS)[:, 0] for k in range(len(x))]
    bands = np.stack(pooled, axis=1) if len(x) < len(panel.x) else bands
    if _is_log(x, inner=1.0):
        _scale(ax, "x", True, 5)
    ax.fill_between(x, bands[0], bands[3], color=SKY, alpha=0.45, lw=0, label="90 % of predicted data")
    ax.fill_between(x, bands[1], bands[2], color=SKY, lw=0, label="50 % of predicted data")
    ax.plot(panel.curve_x, _quantiles(panel.curve, [0.5])[0], color=BLUE, label="median output")
    if panel.simulated is not None:
        ends = _quantiles(panel.simulated, (LEVELS[0], LEVELS[-1]))
        ax.plot(panel.curve_x, ends.T, color=BLUE, ls="--", lw=0.8, label=["90 % of simulated outputs", None])
    ax.plot(panel.x, panel.observed, "o", ms=3.2, mfc="k", mec="white", mew=0.4, label="data")
    ax.set_xlabel(_with_unit(panel.dim, panel.dim_unit))


def _side_by_side(ax: Axes, panel: Panel, bands: Float[np.ndarray, "4 n"]) -> None:
    num = len(panel.observed)
    x, width = np.arange(1, num + 1), float(np.clip(90 / num, 1, 9))
    ax.vlines(x, bands[0], bands[3], color=SKY, alpha=0.45, lw=width, label="90 % of predicted data")
    ax.vlines(x, bands[1], bands[2], color=SKY, lw=width, label="50 % of predicted data")
    if panel.curve.shape[1] == num:
        median = _quantiles(panel.curve, [0.5])[0]
        ax.plot(x, median, "_", color=BLUE, ms=width + 2, label="median output")
    ax.plot(x, panel.observed, "o", ms=3.2, mfc="k", mec="white", mew=0.4, label="data")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.set(xlim=(0.3, num + 0.7), xlabel="number of the datum")


def _share(value: float, threshold: float, larger_is_better: bool) -> float:
    used, limit = (threshold, value) if larger_is_better else (value, threshold)
    if not np.isfinite(value) or limit <= 0:
        return np.inf
    return max(used / limit, 0.0)
