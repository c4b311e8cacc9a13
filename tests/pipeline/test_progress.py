"""Long work tells how far it is, in a way that suits where it is read."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from simfer.pipeline import progress
from simfer.pipeline.progress import Bars, Lines, Silent, duration, number, place, reporter
from simfer.stages.progress import until_the_first


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_reporter_suits_the_stream() -> None:
    assert isinstance(reporter(stream=Terminal()), Bars)
    assert isinstance(reporter(stream=io.StringIO()), Lines)
    assert isinstance(reporter(quiet=True, stream=Terminal()), Silent)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell: ...

    class Shell(ZMQInteractiveShell): ...  # as Colab's

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=Shell))


def test_a_notebook_shows_progress_unless_it_is_told_not_to(notebook: None) -> None:
    assert isinstance(reporter(None), Lines) and isinstance(reporter(True), Silent)


@pytest.mark.parametrize("ipython", [None, SimpleNamespace(get_ipython=lambda: None)])
def test_elsewhere_python_says_nothing_unless_it_is_told_to(ipython: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert isinstance(reporter(None), Silent) and not isinstance(reporter(False), Silent)


def test_a_notebook_s_line_takes_the_place_of_the_one_before(
    notebook: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_REWRITES", 0.0)
    listener = reporter(None)
    with listener.task("simulate", total=40, unit="rows") as task:
        task.advance(10, failed=1)
        listener.note("a note")
        for _ in range(3):
            task.advance(10)
    said, alarm = capsys.readouterr()
    note, last = said.splitlines(keepends=False)[1], said.split("\r")[-1]
    assert alarm == "" and note.rstrip() == "a note" and len(note) >= len("  simulate: 10 of 40 rows, failed 1")
    assert said.count("\n") == 2 and said.count("\r") == 4
    assert last.startswith("  simulate: 40 of 40 rows, failed 1, ") and last.endswith("\n")


class Clock:
    """A time that goes on as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_the_time_left_leaves_out_what_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with Lines(stream, seconds=0.0).task("train", total=100, unit="steps") as task:
        for seconds in (60.0, 1.0, 1.0):
            clock.now += seconds
            task.advance(10)
    first, second, third = stream.getvalue().splitlines()
    assert first == "  train: 10 of 100 steps"  # nothing is known yet of what a step takes
    assert second == "  train: 20 of 100 steps, 10 steps/s, 8.0 s left"
    assert third == "  train: 30 of 100 steps, 10 steps/s, 7.0 s left"


def test_work_done_in_one_piece_has_a_rate_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with Lines(stream).task("train", total=100, unit="steps") as task:
        clock.now += 4.0
        task.advance(100)
    assert stream.getvalue() == "  train: 100 of 100 steps, 25 steps/s\n"


def test_paths_below_the_working_folder_are_written_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place(tmp_path / "store" / "train") == str(Path("store") / "train")
    assert place(tmp_path.parent / "store") == str(tmp_path.parent / "store")


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


@pytest.mark.parametrize(("columns", "shows_rate"), [(80, False), (150, True)])
def test_a_bar_loses_nothing_on_a_narrow_terminal(
    columns: int, shows_rate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    bars = Bars(stream)
    with bars.task("simulate [x]", total=2000, unit="rows") as task:
        for _ in range(3):
            task.advance(500, train=0.00056093, validation=0.0016231)
        bars.note("a [note]")
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "1,500/2,000 rows" in said and "simulate [x]" in said and "a [note]" in said and "…" not in said
    assert "train 0.0005609" in said and "0.001623" in said and re.search(r"\d\d:\d\d left", said)
    assert ("/s" in said) == shows_rate


@pytest.mark.parametrize(
    ("value", "text"),
    [(8192, "8,192"), (0.123456, "0.1235"), (12345.6, "12,346"), (1e-9, "1e-09"), (None, "-"), ("a", "a"), (2.0, "2")],
)
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (12.3, "12 s"), (185, "3:05"), (3727, "1:02:07")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Heard(Silent):
    """Keeps what is said, and tells when it was twice."""

    def __init__(self) -> None:
        self.lines, self.twice = list[str](), Event()

    def note(self, text: str) -> None:
        self.lines.append(text)
        if len(self.lines) == 2:
            self.twice.set()
        raise KeyboardInterrupt  # as where somebody has asked the run to stop, which is not this thread's to do


def test_what_lasts_is_said_until_it_ends() -> None:
    heard = Heard()
    with until_the_first(heard, "compiling", seconds=0.001) as ended:
        assert heard.twice.wait(60.0)
        ended()
    said = len(heard.lines)
    assert all(line.startswith("  compiling: ") and line.endswith(" s so far") for line in heard.lines)
    with until_the_first(heard, "compiling", seconds=1e6) as ended:
        ended()
    assert len(heard.lines) == said
