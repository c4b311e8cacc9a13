"""The explorer of a page, in a browser: what it says of each parameter is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from simfer.stages.report.page import render
from tests import helpers
from tests.report.browser import needs_browser, opened
from tests.report.test_overview import material


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
