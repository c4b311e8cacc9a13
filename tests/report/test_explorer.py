"""The explorer of a page, in a browser: what it says of each parameter is so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.model.outputs import Layout, Output
from simfer.stages.report.page import render
from simfer.stages.report.series import narrowed
from tests import helpers
from tests.report.browser import needs_browser, opened
from tests.report.test_overview import material


def test_an_emulator_of_a_few_series_says_there_what_the_whole_one_does() -> None:
    emulator = helpers.line_run(until="train").emulator
    layout = Layout({"y": Output(("row", "column"), {"row": np.arange(3.0), "column": np.arange(3.0)})})
    components = {"y": jnp.asarray(np.random.default_rng(0).normal(size=(9, 9)))}
    whole = replace(emulator, header=replace(emulator.header, layout=layout), bases=components)
    few = narrowed(whole, {"y": [np.array([0, 2]), np.arange(3)]})
    assert few.layout.outputs["y"].coords["row"].tolist() == [0.0, 2.0] and few.layout.size == 6
    z = jnp.array([0.3, -1.2])
    all_of_it, some = whole.everything_at(z), few.everything_at(z)
    for name in ("y", "y_error"):
        np.testing.assert_allclose(some[name], all_of_it[name][jnp.array([0, 2])], rtol=1e-12)


@needs_browser()
def test_a_parameter_s_influence_is_what_a_straight_line_has(tmp_path: Path) -> None:
    (tmp_path / "line.html").write_text(render(material("line")), encoding="utf-8")
    document, console = opened(tmp_path / "line.html")
    assert console == ""
    told = dict(
        re.findall(r"<span>(\w+)</span>.*?its posterior\'s 90 % moves y by ([\d.]+) % of the data\'s range", document)
    )
    draws = helpers.line_run().posterior["posterior"]
    by_unit = {"intercept": 1.0, "slope": float(np.sqrt(np.mean(helpers.X**2)))}
    for name, moved in by_unit.items():
        low, high = np.quantile(draws[name].values, [0.05, 0.95])
        share = (high - low) * moved / np.ptp(helpers.line_data())
        assert float(told[name]) == pytest.approx(100 * share, rel=0.05)
