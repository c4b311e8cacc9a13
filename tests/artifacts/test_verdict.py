"""A verdict says what it comes to, figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

from simfer.stages.artifacts.verdict import VERDICT, Verdict


def verdict(folder: Path, passed: bool) -> Verdict:
    figures = [
        {"figure": "Pareto k-hat", "value": 0.12345, "threshold": 0.7, "passed": True, "larger_is_better": False},
        {"figure": "<ESS>", "value": None, "threshold": 400, "passed": passed, "larger_is_better": True},
    ]
    said = "passed: the true simulator agrees" if passed else "failed: the sampler has not converged"
    (folder / VERDICT).write_text(
        json.dumps({"passed": passed, "verdict": said, "figures": figures, "more": [0] * 9000})
    )
    return Verdict.load(folder)


def test_at_a_prompt(tmp_path: Path) -> None:
    assert repr(verdict(tmp_path, passed=False)).splitlines() == [
        "Verdict: failed: the sampler has not converged",
        "  Pareto k-hat: 0.1235, limit ≤ 0.7",
        "  <ESS>: not computed, limit ≥ 400: FAILED",
    ]
    assert "FAILED" not in repr(verdict(tmp_path, passed=True))


def test_in_a_notebook(tmp_path: Path) -> None:
    good, bad = (verdict(tmp_path, passed)._repr_html_() for passed in (True, False))
    assert "color: #1a7f37" in good and "the true simulator agrees" in good
    assert "color: #cf222e" in bad and "<td>&lt;ESS&gt;</td><td>not computed</td><td>≥ 400</td><td>no</td>" in bad
