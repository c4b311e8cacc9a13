"""How networks were trained, and how well they do on simulations that they have not seen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simfer.stages.model.outputs import Layout
from simfer.stages.plots.figures import (
    BLUE,
    MOST_POINTS,
    RED,
    SKY,
    Place,
    Values,
    drawable,
    finite,
    limits_of,
    new_figure,
    out_of,
    point_area,
    quantiles_of,
    set_scale,
    thinned,
    with_unit,
)


def losses(
    file: Place,
    steps: Shaped[np.ndarray, " k"],
    train: Float[np.ndarray, "k members"],
    validation: Float[np.ndarray, "k members"],
    best: Shaped[np.ndarray, " members"],
) -> None:
    """Draw every member's training and validation loss, their medians, and where the best weights were."""
    members = train.shape[1]
    with new_figure(file, 4.6, 3.2, f"Training of {members} ensemble member{'s' * (members != 1)}") as figure:
        ax = figure.add_subplot(xlabel="optimizer step", ylabel="loss")
        for values, colour, name in ((train, BLUE, "training"), (validation, RED, "validation, robust")):
            values = np.where(np.isfinite(values), values, np.nan)
            ax.plot(steps, values, color=colour, lw=0.5, alpha=0.45)
            ax.plot(steps, quantiles_of(values.T, [0.5])[0], color=colour, lw=1.8, label=f"{name}, median of members")
        # A logarithmic axis has no step 0: what lies there is drawn at the first step that it has.
        first = min(steps[steps > 0], default=1)
        at = np.abs(steps[:, None] - best).argmin(0), np.arange(members)
        look: Any = {"ls": "", "ms": 4.5, "mfc": "white", "mec": "k", "mew": 0.9, "clip_on": False, "zorder": 5}
        ax.plot(np.maximum(best, first), validation[at], "o", label="best weights of a member", **look)
        ax.set(xscale="log", xlim=(first, max(steps.max(initial=0), 1.01 * first)))
        (seen,) = finite(np.concatenate([train, validation]).ravel())
        positive = (seen >= 0).all() and (seen > 0).any()  # a negative log-density has no logarithm
        ax.set_yscale("log") if positive else ax.set_yscale("symlog", linthresh=1.0)
        ax.legend(loc="upper right")


def held_out(
    file: Place,
    layout: Layout,
    truth: Float[np.ndarray, "n D"],
    emulated: Float[np.ndarray, "n D"],
    sd: Float[np.ndarray, "n D"],
    logs: Collection[str] = (),
) -> None:
    """Draw held-out simulations against the emulator (at most 4 outputs), and its errors in its own sd.

    `logs` are the outputs of which the emulator learned the logarithm: they are drawn in what it learned.
    """
    names = list(layout.slices)[:4]
    title = f"Emulator on {len(truth):,} held-out simulations{out_of(names, layout.slices, 'outputs')}"
    with new_figure(file, max(4.0, 2.4 * len(names)), 5.2, title) as figure:
        axes = figure.subplots(2, len(names), squeeze=False)
        for name, (top, bottom) in zip(names, axes.T, strict=True):
            part, unit = layout.slices[name], layout.outputs[name].unit
            _one_to_one(top, truth[:, part].ravel(), emulated[:, part].ravel(), name in logs)
            top.set(title=drawable(name), xlabel=with_unit("simulated", unit), ylabel=with_unit("emulated", unit))
            _standardised(bottom, emulated[:, part] - truth[:, part], sd[:, part])
        axes[1, 0].set_ylabel("density")
        keys = [Line2D([], [], color="k", lw=1, label="no error (top), standard normal (bottom)")]
        figure.legend(
            handles=[Patch(color=SKY, label="held-out simulations"), *keys], loc="outside lower center", ncols=2
        )


def _one_to_one(ax: Axes, truth: Values, emulated: Values, log: bool) -> None:
    truth, emulated = finite(truth, emulated)
    both = np.concatenate([truth, emulated])
    log = log and bool(both.size) and bool(both.min() > 0)
    limits = limits_of(both, log)
    set_scale(ax, "x", log, 4)
    set_scale(ax, "y", log, 4)
    ax.set(xlim=limits, ylim=limits)
    at = thinned(np.arange(truth.size), MOST_POINTS)
    ax.plot(limits, limits, color="k", lw=0.7)
    ax.scatter(truth[at], emulated[at], s=point_area(len(at), 1200), color=SKY, alpha=0.5, linewidths=0, zorder=3)


def _standardised(ax: Axes, error: Values, sd: Values) -> None:
    error, sd = finite(error[sd > 0], sd[sd > 0])
    z, bins = error / sd, np.linspace(-5, 5, 51)
    ax.set(xlim=(-5, 5), xlabel="(emulated − simulated) / sd")
    if not z.size:
        ax.text(0, 0.5, "constant output:\nno error to show", ha="center")
        ax.set_yticks([])
        return
    ax.stairs(np.histogram(np.clip(z, -4.99, 4.99), bins, density=True)[0], bins, fill=True, color=SKY)
    ax.plot(bins, np.exp(-0.5 * bins**2) / np.sqrt(2 * np.pi), color="k", lw=1)
    ax.set_title(f"{100 * (np.abs(z) < 2).mean():.1f} % within 2 sd (normal: 95.4 %)", fontsize=7)
