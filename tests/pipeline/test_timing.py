"""Where the time went: every moment is one part's, the innermost one's, and they add up."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from simfer.pipeline import screen
from simfer.pipeline.timing import PARTS, Interval, Timed, parts_of, timed
from simfer.stages.progress import Silent
from simfer.stages.spans import span


def test_what_lies_within_another_counts_by_itself_and_all_adds_up() -> None:
    seen = [Interval("train", 1.0, 8.0), Interval("compile", 2.0, 5.0), Interval("trace", 1.5, 2.5)]
    seen += [Interval("compile", 4.0, 5.5), Interval("draw", 9.0, 12.0)]  # by two threads at a time; and beyond the end
    found = parts_of(seen, 0.0, 10.0)
    assert found == {"trace": 0.5, "compile": 3.5, "train": 3.0, "draw": 1.0, "rest": 2.0}
    assert sum(found.values()) == 10.0 and set(found) <= set(PARTS)


def test_nothing_seen_is_the_rest() -> None:
    assert parts_of([], 3.0, 5.0) == {"rest": 2.0}


def test_jax_tells_of_its_share_and_a_stage_of_its_own() -> None:
    with timed() as timing, Timed(Silent()).task("infer", 1, "draws"):
        jax.jit(lambda x: np.float64(len(timing.intervals)) + 3.0 * x)(np.arange(7.0))
        with span("write"):
            pass
    told = [each.part for each in timing.intervals]
    assert {"trace", "compile", "write"} <= set(told) and told[-1] == "sample"  # which ended last
    assert timing.num_programs == told.count("compile") > 0
    before = len(timing.intervals)
    jax.jit(lambda x: 5.0 * x)(np.arange(7.0))
    assert len(timing.intervals) == before  # nobody listens any more


@pytest.mark.parametrize(
    ("task", "part"), [("simulate", "solve"), ("scatter", "train"), ("flow: spline", "train"), ("tune", "rest")]
)
def test_a_piece_of_work_is_of_the_part_that_its_name_says(task: str, part: str) -> None:
    with timed() as timing, Timed(Silent()).task(task, 1):
        pass
    assert [each.part for each in timing.intervals] == [part]


def test_a_span_that_nobody_watches_costs_nothing_and_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), timed() as timing, span("draw"):
        1 / 0  # noqa: B018
    assert [each.part for each in timing.intervals] == ["draw"]
    with span("draw"):
        pass
    assert len(timing.intervals) == 1


def test_the_table_says_of_older_artifacts_that_nothing_is_known() -> None:
    def row(name: str, manifest: dict[str, Any]) -> Any:
        step = SimpleNamespace(link=SimpleNamespace(name=name))
        return step, SimpleNamespace(sound=True, manifest=manifest)

    shown, trained = StringIO(), {"seconds": 2.5, "timing": {"train": 1.5, "rest": 1.0}, "programs": 7}
    screen.timing([row("simulate-0", {"seconds": 4.0}), row("train-0", trained)], Console(file=shown, width=100))
    lines = [line.split() for line in shown.getvalue().splitlines()]
    assert lines[1] == ["step", "train", "rest", "all", "programs"]
    assert lines[2:] == [["simulate-0", "-", "-", "4.00", "-"], ["train-0", "1.50", "1.00", "2.50", "7"]]
    screen.timing([], Console(file=shown, width=100))
    assert "nothing has been run yet" in shown.getvalue()
