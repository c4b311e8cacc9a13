"""Data files: read to the right places, and refused in words that say where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simfer.stages.errors import ConfigError
from simfer.stages.model.observation import read
from simfer.stages.model.outputs import Layout, Output

TIMES = np.array([0.0, 0.1, 0.2, 0.3])
SERIES = Layout({"prey": Output(("time",), {"time": TIMES}), "predator": Output(("time",), {"time": TIMES})})
FIELD = Layout({"heat": Output(("time", "x"), {"time": np.array([0.0, 1.0]), "x": np.array([5.0, 6.0, 7.0])})})
SCALAR = Layout({"mass": Output(), "size": Output()})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


def refusal(file: Path, text: str, layout: Layout = SERIES) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read(str(file), layout)
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


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf"])
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


def test_two_data_at_one_place(file: Path) -> None:
    assert "two rows have the same coordinates" in refusal(file, "time,prey\n0.1,1\n0.1,2\n")


def test_all_that_is_wrong_is_said_at_once(file: Path) -> None:
    assert len(refusal(file, "time,prey\n0,x\n0.1,y\n0.2\n").splitlines()) == 3
    assert len(refusal(file, "time,prey,wolf,predator\n0.15,1,2,\n").splitlines()) == 3


def test_a_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read(str(file), SERIES)
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read(str(file.parent / "none.csv"), SERIES)
