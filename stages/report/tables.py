"""The posterior as a table for a paper: intervals by choice, digits that the draws bear, in any of four formats."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from simfer.stages.artifacts.posterior import Posterior, scalars
from simfer.stages.infer.posterior import PERIOD
from simfer.stages.infer.summary import summarize, unrolled
from simfer.stages.report.material import priors_of
from simfer.stages.settings import Problem

Format = Literal["latex", "csv", "json", "markdown"]
Interval = Literal["hdi", "equal-tailed"]
Row = Mapping[str, Any]
_COLUMNS = ("parameter", "unit", "mean", "sd", "median", "low", "high", "r_hat", "ess_bulk", "ess_tail")


def table(problem: Problem, folder: Path, format: Format, interval: Interval, level: float) -> str:
    """Return the posterior's table as text.

    Args:
        problem: The config, for labels.
        folder: That of the posterior.
        format: "latex", "csv", "json" or "markdown".
        interval: The shortest that holds `level` ("hdi"), or the one between equal tails.
        level: The probability that it holds.
    """
    draws = Posterior.load(folder).group("posterior")
    numbers = scalars(draws)
    rows = [row | interval_of(numbers[row["parameter"]], interval, level) for row in summarize(draws)]
    return _FORMATS[format](rows, problem, interval, level)


def interval_of(values: xr.DataArray, interval: Interval, level: float) -> dict[str, float]:
    """Return where an interval of a quantity's draws begins and ends."""
    flat = np.sort(np.asarray(unrolled(values) if PERIOD in values.attrs else values).ravel())
    if interval == "equal-tailed":
        low, high = np.quantile(flat, [0.5 - level / 2, 0.5 + level / 2])
    else:  # the shortest that holds so many draws (Chen & Shao 1999)
        count = min(math.ceil(level * len(flat)), len(flat) - 1)
        at = int(np.argmin(flat[count:] - flat[: len(flat) - count]))
        low, high = flat[at], flat[at + count]
    return {"low": float(low), "high": float(high)}


def _csv(rows: Sequence[Row], problem: Problem, interval: str, level: float) -> str:
    file = StringIO()
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _json(rows: Sequence[Row], problem: Problem, interval: str, level: float) -> str:
    kept = [{name: row[name] for name in _COLUMNS} for row in rows]
    return json.dumps({"interval": interval, "level": level, "posterior": kept}, indent=1, ensure_ascii=False) + "\n"


def _markdown(rows: Sequence[Row], problem: Problem, interval: str, level: float) -> str:
    named = "HDI" if interval == "hdi" else "interval"
    lines = [
        f"| parameter | mean | sd | {100 * level:g} % {named} | R-hat | ESS | unit |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        mean, sd, low, high = rounded(row)
        name = str(row["parameter"]).replace("|", r"\|")
        ess = min(row["ess_bulk"], row["ess_tail"])
        lines.append(f"| {name} | {mean} | {sd} | {low} to {high} | {row['r_hat']:.3f} | {ess:.0f} | {row['unit']} |")
    return "\n".join(lines) + "\n"


def _latex(rows: Sequence[Row], problem: Problem, interval: str, level: float) -> str:
    named = "HDI" if interval == "hdi" else "interval"
    priors = priors_of(problem)
    lines = [r"\begin{tabular}{lrrr}", r"\hline", rf"Parameter & Mean & SD & {100 * level:g}\,\% {named} \\", r"\hline"]
    for row in rows:
        name = str(row["parameter"])
        label = problem.plots.labels.get(name, "")
        if not label and name in priors and priors[name].label:
            label = f"${priors[name].label.strip('$')}$"
        unit = f" [{_escaped(row['unit'])}]" if row["unit"] else ""
        mean, sd, low, high = (f"${value}$" for value in rounded(row))
        lines.append(rf"{label or _escaped(name)}{unit} & {mean} & {sd} & {low} to {high} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def rounded(row: Row) -> tuple[str, str, str, str]:
    """Write mean, sd and interval to two digits of the sd, as a paper does."""
    sd = float(row["sd"])
    decimals = 1 - math.floor(math.log10(sd)) if sd > 0 and math.isfinite(sd) else 4
    if -4 <= decimals <= 6:
        values = [f"{round(float(row[name]), decimals):.{max(decimals, 0)}f}" for name in ("mean", "sd", "low", "high")]
    else:
        size = max(abs(float(row["mean"])), sd)
        digits = max(decimals + math.floor(math.log10(size)), 1)
        values = [f"{float(row[name]):.{digits}e}" for name in ("mean", "sd", "low", "high")]
    return values[0], values[1], values[2], values[3]


_LATEX = {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"} | {each: rf"\{each}" for each in "_%&#${}"}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(each, each) for each in text)


_FORMATS: dict[str, Callable[[Sequence[Row], Problem, str, float], str]] = {
    "latex": _latex,
    "csv": _csv,
    "json": _json,
    "markdown": _markdown,
}
