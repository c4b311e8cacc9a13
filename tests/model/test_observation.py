"""Data files: read to the right places, and refused in words that say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.stages.errors import ConfigError
from simfer.stages.model.observation import Data
from simfer.stages.model.observation import read as read_observation
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.settings import Observation

TIMES = np.array([0.0, 0.1, 0.2, 0.3])
SERIES = Layout({"prey": Output(("time",), {"time": TIMES}), "predator": Output(("time",), {"time": TIMES})})
FIELD = Layout({"heat": Output(("time", "x"), {"time": np.array([0.0, 1.0]), "x": np.array([5.0, 6.0, 7.0])})})
SCALAR = Layout({"mass": Output(), "size": Output()})


def read(file: str, layout: Layout = SERIES, needed: dict[str, list[str]] | None = None, **more: Any) -> Data:
    """Read a file as a config that says no more than `more` would have it."""
    checked = Observation.model_validate({"file": file} | more, context={"folder": "/"})
    return read_observation(checked, layout, needed or {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


def refusal(file: Path, text: str, layout: Layout = SERIES, **more: Any) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read(str(file), layout, **more)
    assert all(problem.where.startswith("observation.file") for problem in refused.value.mistakes)
    return str(refused.value)


def test_data_lie_where_their_coordinates_say_in_any_order(file: Path) -> None:
    file.write_text("predator,time,prey\n5,0.3,6\n7,0.1,8\n")
    data = read(str(file), SERIES)
    assert data.series["prey"].values.tolist() == [6.0, 8.0] and data.series["prey"].index.tolist() == [3, 1]
    # Outputs follow one another as in the file; the flat vector is the layout's.
    assert list(data.series) == ["predator", "prey"]
    assert data.index(SERIES).tolist() == [7, 5, 3, 1]
    assert data.values.tolist() == [5.0, 7.0, 6.0, 8.0]
    assert data.slices == {"predator": slice(0, 2), "prey": slice(2, 4)}


def test_an_empty_cell_is_a_missing_datum(file: Path) -> None:
    file.write_text("time,prey,predator\n0,1,2\n0.1,,3\n0.2, ,4\n0.3,5,\n")
    data = read(str(file), SERIES)
    assert data.series["prey"].index.tolist() == [0, 3]
    assert data.series["predator"].index.tolist() == [0, 1, 2]


def test_times_match_to_rounding(file: Path) -> None:
    file.write_text(f"time,prey\n{0.1 + 0.2!r},1\n")  # 0.30000000000000004
    assert read(str(file), SERIES).series["prey"].index.tolist() == [3]


def test_two_coordinates(file: Path) -> None:
    file.write_text("time,x,heat\n1,5,10\n0,7,20\n1,7,30\n")
    assert read(str(file), FIELD).series["heat"].index.tolist() == [3, 2, 5]
    assert 'needs a column of its coordinate "x"' in refusal(file, "time,heat\n1,10\n", FIELD)
    assert "got x = 5.5" in refusal(file, "time,x,heat\n1,5.5,10\n", FIELD)


def test_an_output_without_dimensions(file: Path) -> None:
    file.write_text("mass,size\n3.5,2\n")
    data = read(str(file), SCALAR)
    assert data.series["mass"].values.tolist() == [3.5] and data.index(SCALAR).tolist() == [0, 1]
    file.write_text("mass\n3.5\n3.7\n")  # measured twice
    assert read(str(file), SCALAR).index(SCALAR).tolist() == [0, 0]


def test_comments_blank_lines_and_a_byte_order_mark(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf# from the archive\ntime,prey\n\n# a note\n0.1,4\n")
    assert read(str(file), SERIES).series["prey"].values.tolist() == [4.0]


@pytest.mark.parametrize("text", ["", "\n\n", "time,prey\n", "# nothing\n"])
def test_a_file_without_data(file: Path, text: str) -> None:
    assert "data.csv: no data; expected a line of column names" in refusal(file, text)


def test_a_cell_that_is_no_number_is_named_with_its_line_and_column(file: Path) -> None:
    text = refusal(file, "# a comment\ntime,prey\n0,1\n0.1,many\n")
    assert text == 'observation.file: data.csv: line 4, column prey: got "many", expected a number or an empty cell'


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e400"])
def test_a_cell_that_is_no_finite_number(file: Path, cell: str) -> None:
    assert f'line 2, column prey: got "{cell}", expected a finite number' in refusal(file, f"time,prey\n0,{cell}\n")
    assert f'line 2, column time: got "{cell}", expected a finite number' in refusal(file, f"time,prey\n{cell},1\n")


def test_a_coordinate_that_is_missing(file: Path) -> None:
    assert 'the coordinate "time" is missing (empty) beside a datum' in refusal(file, "time,prey\n0,1\n,2\n")


def test_a_ragged_line(file: Path) -> None:
    assert "line 3: got 3 cells, expected 2 (time, prey)" in refusal(file, "time,prey\n0,1\n0.1,2,3\n")
    assert "line 3: got 1 cells, expected 2" in refusal(file, "time,prey\n0,1\n0.1\n")


def test_column_names(file: Path) -> None:
    assert "each to be there once" in refusal(file, "time,prey,prey\n0,1,2\n")
    assert "none empty" in refusal(file, "time,,prey\n0,1,2\n")
    text = refusal(file, "time,prey,wolf\n0,1,2\n")
    assert 'got column "wolf", which the simulator does not produce (outputs prey, predator; coordinates time)' in text
    assert "got no column of an output" in refusal(file, "time\n0\n")
    assert "every cell is empty" in refusal(file, "time,prey,predator\n0,1,\n0.1,2,\n")


def test_a_time_that_the_simulator_does_not_give(file: Path) -> None:
    text = refusal(file, "time,prey\n0,1\n0.14,2\n9,3\n")
    assert "column prey: got time = 0.14, 9" in text and "nearest: 0.1, 0.3" in text


def test_two_data_at_one_place_are_both_data(file: Path) -> None:
    file.write_text("time,prey\n0.1,1\n0.1,2\n0.2,3\n")
    data = read(str(file))
    assert data.series["prey"].values.tolist() == [1.0, 2.0, 3.0] and data.series["prey"].index.tolist() == [1, 1, 2]


def test_all_that_is_wrong_is_said_at_once(file: Path) -> None:
    assert len(refusal(file, "time,prey\n0,x\n0.1,y\n0.2,z\n").splitlines()) == 1  # a sentence for each kind
    assert len(refusal(file, "time,prey,wolf,predator\n0.15,1,2,\n").splitlines()) == 3


def test_a_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read(str(file), SERIES)
    with pytest.raises(ConfigError, match="cannot be read as CSV: Is a directory"):
        read_observation(Observation.model_construct(file=str(file.parent)), SERIES)


YEAST = Layout({"yeast": Output(("time",), {"time": np.arange(0.0, 4.0)})})
GIVEN = [9.6, 29.0, 71.1]


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("time;yeast\n0;9.6\n1;29.0\n2;71.1\n", {}),
        ("time;yeast\n0;9,6\n1;29,0\n2;71,1\n", {}),
        ("time;yeast\n0;9,600\n1;29,000\n2;71,100\n", {"decimal": ","}),
        ("time\tyeast\n0\t9.6\n1\t29.0\n2\t71.1\n", {}),
        ("time  yeast\n0 9.6\n1   29.0\n 2 71.1\n", {}),
        ('"time","yeast"\r\n"0","9.6"\r\n"1","29.0"\r\n"2","71.1"\r\n', {}),
        ("time, yeast,\n0, 9.6,\n1, 29.0,\n2, 71.1,\n", {}),
        (",time,yeast\n0,0,9.6\n1,1,29.0\n2,2,71.1\n", {}),
        ("time,yeast\n0,9.6\n1,29.0\n2,71.1\n3,NA\n", {"missing": ["NA"]}),
        ("time,yeast\n0,9.6\n1,29.0\n2,71.1\n3,-999\n", {"missing": ["-999.0"]}),
        ("Time,OD\n0,9.6\n1,29.0\n2,71.1\n", {"columns": {"time": "Time", "yeast": "OD"}}),
        ("time,yeast,who\n0,9.6,me\n1,29.0,me\n2,71.1,you\n", {"ignore": ["who"]}),
        ("date,yeast\n2020-03-20,9.6\n2020-03-21,29.0\n2020-03-22T00:00,71.1\n",
         {"columns": {"time": "date"}, "dates": {"origin": "2020-03-20"}}),
        ("date,yeast\n20.3.2020,9.6\n21.03.2020,29.0\n22.03.2020 00:00,71.1\n",
         {"columns": {"time": "date"}, "dates": {"origin": "2020-03-20"}}),
        ("what,time,value\nyeast,0,9.6\nyeast,1,29.0\npH,1,7\nyeast,2,71.1\n",
         {"long": {"name": "what", "value": "value"}, "ignore": ["pH"]}),
    ],
)  # fmt: skip
def test_a_file_as_people_have_it(file: Path, text: str, more: dict[str, Any]) -> None:
    encodings = ["utf-8", "utf-8-sig", "utf-16"] if not more else ["utf-8"]
    for encoding in encodings:
        file.write_bytes(text.encode(encoding))
        series = read(str(file), YEAST, **more).series["yeast"]
        assert series.values.tolist() == GIVEN and series.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("time;yeast\n0;9,600\n1;29,000\n", 'observation.decimal = "," for decimals'),
        ("time,yeast\n0,9,6\n1,29,0\n", "got 3 cells, expected 2 (time, yeast) (and 1 more lines like it); are these"),
        ("time,yeast\n0,NA\n1,29.0\n", 'observation.missing = ["NA"]'),
        ("time,yeast\n0,-nan\n1,29.0\n", 'observation.missing = ["-nan"]'),
        ("time,yeast\n0,9.6\n1,29.0\n2,-999\n", 'observation.missing = ["-999"] if that is a missing datum, or []'),
        ("time,yeast\n0,1_000\n", "plain digits"),
        ("time,yeast\n0,\uff11\uff12\n", "plain digits"),
        ("time,yeast\n0,9.6\ntime,yeast\n1,29.0\n", "line 3 repeats the header"),
        ("Time,yeast\n0,9.6\n", 'Did you mean "time"? If it is no data, say observation.ignore = ["Time"]'),
        ("time,yeast\n2020-03-20,9.6\n", "observation.dates = { origin = 2020-03-20"),
        ("time,yeast\n20.03.2020,9.6\n", "observation.dates = { origin = 2020-03-01"),
        ("time,yeast\n03/20/2020,9.6\n", "write a date as 2020-03-01"),
        ("time;yeast\n0;9,6\n1;1.045\n", 'line 3: got "1.045", where decimals follow a comma'),
        ("time,yeast,yeast_sd,who\n0,9.6,1,me\n", 'observation.ignore = ["yeast_sd", "who"]'),
    ],
)
def test_what_cannot_be_known_is_asked_in_one_line(file: Path, text: str, what: str) -> None:
    said = refusal(file, text, YEAST)
    assert what in said and len(said.splitlines()) <= 2  # a column that is not the time is missed, too


def test_a_day_that_does_not_exist_is_shown_as_it_is_written(file: Path) -> None:
    dates = {"origin": "2020-01-01"}
    assert 'got "31.02.2020"' in refusal(file, "time,yeast\n31.02.2020,9.6\n", YEAST, dates=dates)


def test_a_thousand_wrong_cells_are_one_line(file: Path) -> None:
    said = refusal(file, "time,yeast\n" + "0,x\n" * 1000, YEAST)
    assert said.count("\n") == 0 and "and 996 more" in said


def test_a_minus_999_is_a_number_where_that_is_said_or_others_are_like_it(file: Path) -> None:
    file.write_text("time,yeast\n0,9.6\n1,-999\n")
    assert read(str(file), YEAST, missing=[]).series["yeast"].values.tolist() == [9.6, -999.0]
    file.write_text("time,yeast\n0,-1100\n1,-999\n2,-950\n")
    assert len(read(str(file), YEAST).series["yeast"].values) == 3


def test_times_match_as_exactly_as_the_file_shows_them(file: Path) -> None:
    layout = Layout({"a": Output(("time",), {"time": np.array([-30.0, 1 / 3, 187.9599, 200.0])})})
    file.write_text("time,a\n187.96,1\n0.33,2\n-30.00,3\n")
    assert read(str(file), layout).series["a"].index.tolist() == [2, 1, 0]
    said = refusal(file, "time,a\n187.9598,1\n187,2\n", layout)
    assert "got time = 187.9598, 187, " in said and "(nearest: 187.9599, 187.9599)" in said


def test_many_data_on_many_coordinates_take_no_matrix(file: Path) -> None:
    times = np.arange(100_000.0)
    rows = "".join(f"{int(t)},1\n" for t in times[::-1])
    file.write_text("time,a\n" + rows)
    series = read(str(file), Layout({"a": Output(("time",), {"time": times})})).series["a"]
    assert series.index.tolist() == list(range(99_999, -1, -1))


def test_censored_cells_and_a_column_of_flags(file: Path) -> None:
    file.write_text("time,yeast\n0,<0.5\n1,29.0\n2,> 100\n3,0.7\n")
    series = read(str(file), YEAST).series["yeast"]
    assert series.values.tolist() == [0.5, 29.0, 100.0, 0.7] and series.side is not None
    assert series.side.tolist() == [-1, 0, 1, 0]
    assert series.limits is not None and series.limits.lower.tolist() == [0.5] * 4
    assert series.limits.upper.tolist() == [100.0] * 4
    file.write_text("time,yeast,cens\n0,0.5,1\n1,29.0,0\n2,100,-1\n3,0.7,\n")
    assert read(str(file), YEAST, censored={"yeast": "cens"}).series["yeast"].side.tolist() == [-1, 0, 1, 0]  # type: ignore[union-attr]
    assert "expected 1 (below" in refusal(file, "time,yeast,cens\n0,1,maybe\n", YEAST, censored={"yeast": "cens"})


def test_several_files_and_their_replicates(file: Path) -> None:
    file.write_text("time,yeast\n0,9.6\n")
    (file.parent / "b.csv").write_text("time;yeast\n0;9,7\n1;29,5\n")
    series = read(str(file), YEAST, second={"file": str(file.parent / "b.csv")}).series["yeast"]
    assert series.values.tolist() == [9.6, 9.7, 29.5] and series.index.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match=r'fil: unknown key. Did you mean "file"'):
        read(str(file), YEAST, fil="b.csv")


def test_columns_that_the_noise_names_lie_beside_their_data(file: Path) -> None:
    file.write_text("time,yeast,sd\n0,9.6,1\n1,,2\n2,71.1,3\n")
    series = read(str(file), YEAST, {"yeast": ["sd"]}).series["yeast"]
    assert series.columns["sd"].tolist() == [1.0, 3.0]
    assert "column sd, which its noise needs, is empty" in refusal(
        file, "time,yeast,sd\n0,9.6,\n", YEAST, needed={"yeast": ["sd"]}
    )
    assert 'names "sdd": no column of the file' in refusal(
        file, "time,yeast\n0,9.6\n", YEAST, needed={"yeast": ["sdd"]}
    )
