"""Results say at a prompt, and in a notebook, what they come to: from manifests alone."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import config, description
from simfer.pipeline.results import Result
from simfer.pipeline.runner import Outcome
from tests import fakes, helpers

ROW = {"mean": 0.68514, "sd": 0.005034, "q5": 0.6774, "median": 0.685, "q95": 0.6936, "r_hat": 1.004}
ADVICE = "failed: longer training (train.steps) or a wider <network>"


class Markup(HTMLParser):
    """Reads HTML strictly: every tag is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words, self.styles = "", ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "strong", "em", "table", "thead", "tbody", "tr", "th", "td"}  # nothing that loads
        assert {name for name, _ in attrs} <= {"style"}
        self.styles += "".join(value or "" for _, value in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "


def result(folder: Path, passed: bool, num_parameters: int = 3) -> Result:
    steps = {
        step.stage: step for step in helpers.plan(config.load(fakes.write_project(folder))) if step.link.round == 0
    }
    rows = [{"parameter": f"alpha_{i}", **ROW, "unit": "1/<time>"} for i in range(num_parameters)]
    summaries: dict[str, Any] = {stage: {"facts": {"rows": 512}} for stage in steps}
    summaries["infer"] = {"facts": {}, "tables": {"posterior": rows, "none": []}, "warnings": ["R-hat is > 1.01"]}
    summaries["check"] = {"facts": {"passed": passed, "verdict": "passed: it agrees" if passed else ADVICE}}
    outcomes = {}
    for stage, step in steps.items():
        manifest: Any = {"summary": summaries[stage], "seconds": 34.0, "key": {"long": "x" * 10_000}}
        outcomes[stage] = Outcome(step, folder / "store" / stage / step.fingerprint, manifest, cached=stage == "infer")
    return Result(outcomes, list(outcomes.values()))


@pytest.mark.parametrize("num_parameters", [1, 40])
def test_a_result_at_a_prompt(num_parameters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = result(tmp_path, passed=True, num_parameters=num_parameters)
    said = repr(found).splitlines()
    assert said[0] == "Result: PASSED: the true simulator bears this posterior out."
    assert said[1].split() == ["parameter", "mean", "sd", "q5", "q95", "unit"]
    assert said[2].split() == ["alpha_0", "0.6851", "0.005034", "0.6774", "0.6936", "1/<time>"]
    assert ("  and 30 more, in .summaries" in said) == (num_parameters == 40)
    assert said[-6] == "  Folders in store:"
    assert said[-1].strip() == f"check/{found.outcomes['check'].step.fingerprint}"
    assert len(repr(found)) < 1500 and max(map(len, said)) <= 80


def test_a_bad_verdict_says_what_to_do(tmp_path: Path) -> None:
    found = result(tmp_path, passed=False)
    assert repr(found).startswith("Result: FAILED: ")
    assert "  longer training (train.steps) or a wider <network>" in repr(found).splitlines()


def test_results_short_of_a_verdict(tmp_path: Path) -> None:
    outcomes = dict(result(tmp_path, passed=True).outcomes)
    del outcomes["check"]
    assert repr(Result(outcomes)).startswith("Result: NOT CHECKED: ")
    del outcomes["infer"]
    assert repr(Result(outcomes)).startswith("Result: No posterior yet.\n  Folders in ")
    assert repr(Result({})) == "Result: No posterior yet." and Markup(Result({})._repr_html_()).words


def test_a_result_in_a_notebook(tmp_path: Path) -> None:
    good, bad = (Markup(result(tmp_path, passed)._repr_html_()) for passed in (True, False))
    for word in (
        "PASSED",
        "alpha_2",
        "0.685 ",
        "r hat",
        "1/<time>",
        "R-hat is > 1.01",
        str(tmp_path / "store" / "train"),
    ):
        assert word in good.words
    assert "FAILED" in bad.words and "a wider <network>" in bad.words
    assert "color: #1a7f37" in good.styles and "color: #cf222e" in bad.styles


def test_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes = result(tmp_path, passed=True).outcomes
    folder = Path("store") / "train" / outcomes["train"].step.fingerprint
    assert repr(outcomes["train"]) == f"Outcome(train-0, built in 34 s: rows 512; {folder})"
    assert repr(outcomes["infer"]).startswith("Outcome(infer-0, cached: ")
    shown = Markup(outcomes["infer"]._repr_html_()).words
    assert "alpha_0" in shown and "R-hat is > 1.01" in shown and "none" not in shown
    assert "512" in Markup(outcomes["train"]._repr_html_()).words


def test_facts_that_are_no_numbers(tmp_path: Path) -> None:
    summary = {"facts": {"loss": float("nan"), "left": None, "passed": True, "verdict": "x" * 100}}
    assert description.outcome_in_words("check-0", "cached", summary, Path("/a")) == (
        f"Outcome(check-0, cached: loss nan, left -, passed True; {Path('/a')})"
    )
