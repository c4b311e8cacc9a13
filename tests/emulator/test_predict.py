"""`simfer predict`: a file of points in, a file of outputs with errors out, or a clear word of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

from simfer.pipeline.cli import app
from simfer.stages.emulator import predict
from simfer.stages.emulator.emulator import Emulator
from tests import helpers

NAMES = ["intercept", "slope"]


def simfer(config: Path, *arguments: str | Path) -> Result:
    store = helpers.scratch() / "line"
    return CliRunner().invoke(app, ["predict", str(config), "--store", str(store), *map(str, arguments)])


@pytest.fixture
def points(tmp_path: Path) -> Path:
    theta = np.random.default_rng(0).normal([0.5, -1.0], [0.3, 0.15], (700, 2))
    theta[5] = (40.0, -1.0)
    file = tmp_path / "points.csv"
    lines = [f"{slope!r}, {intercept!r}" for intercept, slope in theta.tolist()]
    # Another order, a comment, blank lines, no last newline.
    file.write_text("\ufeff# mine\nslope,intercept\n" + "\n\n".join(lines))
    return file


def emulator() -> Emulator:
    return helpers.line_run(until="train").emulator  # type: ignore[no-any-return]


def test_csv_and_netcdf_hold_what_the_emulator_says(
    config: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "_MOST", 256)  # three blocks
    result = simfer(config, "--parameters", points, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["facts"]
    assert facts["file"] == str(tmp_path / "points_predicted.csv")
    assert (facts["points"], facts["outside_the_training_domain"], facts["without_finite_prediction"]) == (700, 1, 0)
    written = np.genfromtxt(facts["file"], delimiter=",", names=True, deletechars="")
    theta = np.genfromtxt(points, delimiter=",", skip_header=2)
    expected = emulator().to_xarray({"slope": theta[:, 0], "intercept": theta[:, 1]})
    assert written.dtype.names[:3] == ("intercept", "slope", "y[x=0]")
    assert np.array_equal(written["slope"], theta[:, 0])  # to the last digit, as a key to join by
    assert np.allclose(written["y[x=1.5]"], expected["y"].sel(x=1.5), rtol=1e-8)
    assert np.allclose(written["y_error[x=4]"], expected["y_error"].sel(x=4.0), rtol=1e-8)
    assert np.array_equal(written["inside"], expected["inside"])

    assert simfer(config, "--parameters", points, "--output", tmp_path / "out.nc").exit_code == 0
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as data:
        assert set(data.coords) == {"intercept", "slope", "x"} and data["y"].dims == ("point", "x")
        xr.testing.assert_allclose(data[["y", "y_error"]], expected[["y", "y_error"]], rtol=1e-9)
        assert data["inside"].values.astype(bool).tolist() == expected["inside"].values.tolist()
    assert {path.name for path in tmp_path.iterdir()} == {"points.csv", "points_predicted.csv", "out.nc"}


def test_it_says_what_lies_outside(config: Path, points: Path) -> None:
    result = simfer(config, "--parameters", points)
    said = " ".join(result.stdout.split())
    assert "1 of 700 points lie outside of the domain" in said and "points_predicted.csv" in said
    assert "points/s" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intercept,slop\n1,2\n", 'line 1: got the column "slop". Did you mean "slope"?'),
        ("intercept\n1\n", "line 1: no column for slope"),
        ("intercept,slope,slope\n1,2,3\n", 'the column "slope" is there more than once'),
        ("1,2\n3,4\n", "line 1: got 1, 2, expected the parameters' names"),
        ("intercept;slope\n1;2\n", "with commas between: intercept,slope"),
        ("intercept,slope\n1,2\n3,two\n", 'line 3: got "two" for slope, expected a finite number'),
        ("intercept,slope\n1,2\n\n3,\n", "line 4: got an empty cell for slope"),
        ("intercept,slope\n1,2\n3,nan\n", 'line 3: got "nan" for slope'),
        ("intercept,slope\n1,2\n3\n", "line 3: got 1 cells, expected 2"),
        ("intercept,slope\n", "has no points below the parameters' names"),
        ("", "line 1: got nothing, expected"),
    ],
)
def test_a_bad_file_is_refused_in_words(config: Path, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    result = simfer(config, "--parameters", file)
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]  # nothing of it is left


def test_files_that_cannot_be_right_are_refused_at_once(config: Path, points: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    cases: list[tuple[list[str | Path], str]] = [
        (["--parameters", points, "--output", tmp_path / "out.txt"], "ends in .csv or .nc"),
        (["--parameters", points, "--output", tmp_path / "none" / "out.csv"], "there is no folder"),
        (["--parameters", tmp_path / "none.csv"], "there is no such file"),
        (["--parameters", points, "--output", points], "which is --parameters too"),
        (["--parameters", points, "--output", folder], "which is a folder"),
    ]
    for arguments, said in cases:
        result = simfer(config, *arguments)
        assert result.exit_code == 2 and said in result.stderr, result.output
    result = simfer(config, "--parameters", points, "--output", Path("/proc/out.csv"))
    assert result.exit_code == 3 and "could not be written" in result.stderr  # which no one can see beforehand
