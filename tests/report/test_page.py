"""The page of a run: what stands in it, and that it asks nobody for anything."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from simfer.pipeline.report import _material
from simfer.stages.report import answer
from simfer.stages.report.elements import table
from simfer.stages.report.gallery import Gallery
from simfer.stages.report.material import Failure, Material, Step
from simfer.stages.report.page import render
from tests import helpers

FIGURES = [
    {"figure": "largest R-hat", "value": 1.3, "limit": "≤ 1.01", "passed": False},
    {"figure": "draws outside <the domain>", "value": 0.0, "limit": "≤ 0.05", "passed": True},
]


@cache
def page() -> str:
    assert helpers.smoke_run().returncode in (0, 4)
    return (helpers.smoke_store() / "reports" / "smoke.html").read_text("utf-8")


class Tags(HTMLParser):
    """Holds that what is opened is closed, and gathers names."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.pictures = list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.pictures += [str(given["aria-label"])] if tag == "svg" and given.get("role") == "img" else []
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def test_a_page_is_whole_and_small() -> None:
    tags = Tags()
    tags.feed(page())
    assert not tags.open and len(set(tags.ids)) == len(tags.ids)
    assert len(page().encode()) < 3e6
    assert len(tags.pictures) == 7 and all(len(alt) > 40 for alt in tags.pictures)
    assert "could not be drawn" not in page()


def test_a_page_asks_for_nothing() -> None:
    without_references = re.sub(r"<pre>.*?</pre>", "", page(), flags=re.DOTALL)
    loading = re.findall(r"(?:src|href)=\"(?!#|data:image/)[^\"]*|url\((?!#)[^)]*|@import", without_references)
    assert loading == []
    assert "default-src 'none'" in page()


def test_a_page_says_what_a_reader_asks() -> None:
    sections = re.findall(r'<section id="(\w+)"', page())
    assert sections[:3] == ["verdict", "posterior", "pictures"]
    assert {"errors", "rounds", "failures", "source", "reproduce"} <= set(sections)
    for words in (
        "Tested in round 0",
        "1/(predator time)",
        "num_simulations = 512",
        "own numerical error",
        "@software{simfer",
        "jaxlib",
    ):
        assert words in page(), words


def material(*steps: Step, failure: Failure | None = None) -> Material:
    problem = helpers.problem(helpers.line())
    return Material("line", "# a line\n", [], {}, {}, problem, list(steps), "0.1.0", failure=failure)


def step(stage: str, folder: Path, **summary: object) -> Step:
    return Step(f"{stage}-0", stage, 0, folder, "f00d", summary, {"jax": "1"}, "cpu x 2", "2026-01-01T00:00:00", 1.0)


def test_a_bad_verdict_says_what_to_do_first(tmp_path: Path) -> None:
    facts = {"passed": False, "verdict": "failed: raise infer.num_warmup", "simulations": 64}
    said = answer.verdict(material(step("check", tmp_path, facts=facts, tables={"verdict": FIGURES})))
    assert said.index("Failed") < said.index("1 of 2 figures") < said.index("raise infer.num_warmup")
    assert said.index("largest R-hat") < said.index("draws outside &lt;the domain&gt;")


def test_a_failed_run_says_so_at_the_top(tmp_path: Path) -> None:
    failure = Failure("A stage could not go on", "94 % of the simulations failed: raise simulate.max_failed")
    done = step("simulate", tmp_path, facts={"rows": 64, "failed": 60})
    text = render(material(done, failure=failure))
    top = text[text.index("<main>") : text.index("<h2>")]
    assert "The run could not go on" in top and "raise simulate.max_failed" in top and "simulate-0" in top
    assert "could not be drawn" in text  # nothing is there of what was done: words, and no traceback


def test_of_a_failure_what_helps_stands_apart() -> None:
    failure = Failure("A stage could not go on", "94 % failed, where rate > 2. What helps: other priors")
    said = answer.verdict(material(failure=failure))
    assert "where rate &gt; 2.</p>" in said and "<strong>What to do:</strong> other priors" in said


def test_a_table_of_many_columns_names_each_cell_for_a_narrow_screen() -> None:
    row = {"parameter": "n_0", "mean": 1.0, "sd": 12345.6, "q5": 1.0, "r_hat": 1.0}
    assert 'class="many"' in table([row]) and "data-head='5 %'" in table([row])
    assert ">12,350</td>" in table([row]) and ">n_0</td>" in table([row])
    assert "many" not in table([{"figure": 1, "value": 2.0}])
    assert ">n_0</th>" in table([{"n_0": 1.0}], whole=True)


@pytest.mark.parametrize("what", ["Traceback (most recent call last):\n  File ...\nValueError: no such thing", "no"])
def test_of_a_traceback_the_last_line_comes_first(what: str) -> None:
    said = answer.verdict(material(failure=Failure("Your own code raised", what)))
    assert said.index(what.splitlines()[-1]) < (said.index("Traceback") if "Trace" in what else len(said))


def test_what_the_store_has_is_gathered() -> None:
    helpers.smoke_run()
    from simfer.pipeline import config
    from simfer.pipeline.plan import Plan
    from simfer.pipeline.store import Store

    problem = config.load(helpers.SMOKE)
    plan = Plan(problem, Store(helpers.smoke_store()))
    made = _material(plan, list(plan.walk()), helpers.SMOKE, [], None)
    assert [each["stage"] for each in made["steps"]] == ["simulate", "dataset", "train", "infer", "check"]
    assert set(made["data"]) == {Path(problem.observation.file).name}


def test_a_label_becomes_mathematics_with_its_unit() -> None:
    problem = helpers.problem(helpers.line(parameters={"slope": {"dist": "Normal", "loc": 0.0, "scale": 1.0,
                                                                 "label": "\\beta", "unit": "kg"}}))  # fmt: skip
    assert Gallery({}, problem).labels["slope"] == "$\\beta$ [kg]"


def test_the_page_of_a_run_that_took_its_stages_figures_is_that_of_figures_made_anew() -> None:
    from simfer.pipeline import config
    from simfer.pipeline.report import text_of
    from simfer.pipeline.store import Store

    taken = page()
    anew = text_of(config.load(helpers.SMOKE), Store(helpers.smoke_store()), helpers.SMOKE, [])
    pictures = [re.findall(r'<svg class="picture".*?</svg>', each, re.DOTALL) for each in (taken, anew)]
    assert len(pictures[0]) == 7 and pictures[0] == pictures[1]
