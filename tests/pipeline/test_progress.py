"""Long work tells how far it is, in a way that suits where it is read."""

from __future__ import annotations

import io

import pytest

from simfer.pipeline.progress import Bars, Lines, Silent, duration, number, reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_reporter_suits_the_stream() -> None:
    assert isinstance(reporter(stream=Terminal()), Bars)
    assert isinstance(reporter(stream=io.StringIO()), Lines)
    assert isinstance(reporter(quiet=True, stream=Terminal()), Silent)


@pytest.mark.parametrize(("seconds", "lines"), [(1000.0, 1), (0.0, 3)])
def test_lines_are_few_and_the_last_one_comes(seconds: float, lines: int) -> None:
    stream = io.StringIO()
    with Lines(stream, seconds).task("simulate", total=2000, unit="rows") as task:
        for _ in range(3):
            task.advance(500, num_failed=3, loss=0.123456)
    said = stream.getvalue().splitlines()
    assert len(said) == lines
    assert said[-1].startswith("  simulate: 1,500 of 2,000 rows, num failed 3, loss 0.1235, ")
    assert "rows/s" in said[-1] and said[-1].endswith("left")


def test_the_last_line_comes_after_an_error_too() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Lines(stream).task("train", total=10) as task:
        task.advance(4, loss=float("nan"))
        raise RuntimeError
    assert "4 of 10" in stream.getvalue() and "loss nan" in stream.getvalue()


def test_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    bars = Bars(stream)
    with bars.task("simulate [x]", total=2000, unit="rows") as task:
        task.advance(1500, failed=3)
        bars.note("a [note]")
    said = stream.getvalue()
    assert "1,500/2,000 rows" in said and "failed 3" in said and "simulate [x]" in said and "a [note]" in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(8192, "8,192"), (0.123456, "0.1235"), (12345.6, "12,346"), (1e-9, "1e-09"), (None, "-"), ("a", "a"), (2.0, "2")],
)
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (12.3, "12 s"), (185, "3:05"), (3727, "1:02:07")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
