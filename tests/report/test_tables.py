"""The posterior's table for a paper: intervals of known distributions, digits, and what every format says."""

from __future__ import annotations

import csv
import json
from io import StringIO

import numpy as np
import pytest
import xarray as xr
from scipy.stats import expon, norm

from simfer.stages.report.tables import interval_of, rounded, table
from tests import helpers


def draws(quantiles: np.ndarray) -> xr.DataArray:
    return xr.DataArray(quantiles.reshape(2, -1), dims=("chain", "draw"))


EVEN = (np.arange(20000) + 0.5) / 20000


def test_the_shortest_interval_of_an_exponential_begins_at_its_peak() -> None:
    values = draws(expon.ppf(EVEN))
    shortest, tails = (interval_of(values, kind, 0.9) for kind in ("hdi", "equal-tailed"))
    assert (shortest["low"], shortest["high"]) == pytest.approx((0.0, expon.ppf(0.9)), abs=2e-3)
    assert (tails["low"], tails["high"]) == pytest.approx(tuple(expon.ppf([0.05, 0.95])), abs=2e-3)


def test_of_a_normal_both_are_the_same() -> None:
    values = draws(norm.ppf(EVEN))
    for kind in ("hdi", "equal-tailed"):
        assert tuple(interval_of(values, kind, 0.68).values()) == pytest.approx(tuple(norm.interval(0.68)), abs=0.01)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"mean": 0.68512, "sd": 0.00503, "low": 0.6774, "high": 0.6936}, ("0.6851", "0.0050", "0.6774", "0.6936")),
        ({"mean": 668.91, "sd": 8.7, "low": 655.0, "high": 683.2}, ("668.9", "8.7", "655.0", "683.2")),
        ({"mean": 123456.0, "sd": 2345.0, "low": 119000.0, "high": 127000.0}, ("123500", "2300", "119000", "127000")),
        ({"mean": 9.6e-13, "sd": 1.2e-14, "low": 9.4e-13, "high": 9.8e-13},
            ("9.60e-13", "1.20e-14", "9.40e-13", "9.80e-13")),
    ],
)  # fmt: skip
def test_digits_are_those_that_the_sd_bears(row: dict[str, float], said: tuple[str, ...]) -> None:
    assert rounded(row) == said


def test_every_format_says_the_same() -> None:
    problem = helpers.problem(helpers.line(plots={"labels": {"slope": r"$\beta$"}}))
    folder = helpers.line_run().folders["infer"]
    latex, text, plain, marked = (
        table(problem, folder, kind, "hdi", 0.9) for kind in ("latex", "csv", "json", "markdown")
    )
    rows = list(csv.DictReader(StringIO(text)))
    stored = json.loads(plain)
    assert (stored["interval"], stored["level"]) == ("hdi", 0.9)
    assert [row["parameter"] for row in rows] == ["intercept", "slope"]
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in stored["posterior"]]
    means = [rounded(row)[0] for row in stored["posterior"]]
    for each in (latex, marked):
        assert [each.index(mean) for mean in means] == sorted(each.index(mean) for mean in means)
    assert r"$\beta$ &" in latex and r"90\,\% HDI" in latex and "| 90 % HDI |" in marked
