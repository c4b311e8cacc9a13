"""Finished runs: every way in which people keep them gives the same rows, and what is wrong with a table is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from simfer.stages.errors import ConfigError
from simfer.stages.model.outputs import Output, Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Problem, RunTable
from simfer.stages.simulate.backends.table import unlike
from simfer.stages.simulate.finished.runs import FinishedRuns
from tests import helpers

TIMES = np.array([0.0, 2.5, 5.0])
RNG = np.random.default_rng(0)
R, K = RNG.uniform(0.1, 0.9, 40), RNG.normal(3.0, 0.5, 40)
YEAST = np.exp(R[:, None] * TIMES) * K[:, None]
PEAK = YEAST.max(axis=1)


def space(**more: Any) -> Space:
    priors = {"r": {"dist": "Uniform", "low": 0.0, "high": 1.0}, "K": {"dist": "Normal", "loc": 3.0, "scale": 1.0}}
    table = helpers.line(parameters={"intercept": None, "slope": None} | priors | more)
    return Space(Problem.model_validate(table).parameters)


def opened(*files: Path, **more: Any) -> FinishedRuns:
    return FinishedRuns(RunTable.model_validate({"files": list(map(str, files))} | more), space())


def lines(separator: str = ",", decimal: str = ".") -> list[str]:
    names = ["r", "K", *(f"yeast[time={t:g}]" for t in TIMES), "peak"]
    if separator == ",":
        names = [f'"{name}"' if "," in name else name for name in names]
    rows = [[R[i], K[i], *YEAST[i], PEAK[i]] for i in range(len(R))]
    cells = [[repr(float(cell)).replace(".", decimal) for cell in row] for row in rows]
    return [separator.join(line) for line in (names, *cells)]


def in_text(path: Path) -> list[Path]:
    path.write_text("\n".join(lines()) + "\n")
    return [path]


def as_excel_has_it_in_german(path: Path) -> list[Path]:
    path.write_bytes("\r\n".join(lines(";", ",")).encode("utf-16"))
    return [path]


def with_tabs_a_mark_and_notes(path: Path) -> list[Path]:
    text = lines("\t")
    path.write_text("\ufeff" + "\n".join([text[0], "# by hand", "", *text[1:]]), encoding="utf-8")
    return [path]


def as_savetxt_writes_it(path: Path) -> list[Path]:
    np.savetxt(path, np.column_stack([R, K, YEAST, PEAK]), header=" ".join(lines(" ")[0].split(" ")), fmt="%.17g")
    return [path]


def long(path: Path) -> list[Path]:
    rows = [f"{i},{R[i]!r},{K[i]!r},{t!r},{YEAST[i, j]!r},{PEAK[i]!r}" for i in range(40) for j, t in
            reversed(list(enumerate(TIMES)))]  # fmt: skip
    path.write_text("\n".join(["run,r,K,time,yeast,peak", *rows]).replace("np.float64(", "").replace(")", ""))
    return [path]


def long_beside_parameters(path: Path) -> list[Path]:
    other = path.with_name("parameters.csv")
    order = RNG.permutation(40)
    other.write_text(
        "run,r,K,peak\n" + "".join(f"a{i},{float(R[i])},{float(K[i])},{float(PEAK[i])}\n" for i in range(40))
    )
    rows = [f"a{i},{float(t)},{float(YEAST[i, j])}" for i in order for j, t in enumerate(TIMES)]
    path.write_text("\n".join(["run,time,yeast", *rows]))
    return [path, other]


def a_file_for_each_run(path: Path) -> list[Path]:
    other = path.with_name("parameters.csv")
    other.write_text("run,r,K,peak\n" + "".join(f"{i},{R[i]},{K[i]},{PEAK[i]}\n" for i in range(40)))
    files = [path.with_name(f"out_{i:04}.csv") for i in range(40)]
    for i, file in enumerate(files):
        file.write_text("time,yeast\n" + "".join(f"{t},{y}\n" for t, y in zip(TIMES, YEAST[i], strict=True)))
    return [*files, other]


def with_units_below_the_names(path: Path) -> list[Path]:
    text = lines(";")
    path.write_text("\n".join([text[0], "[1/h];-;g/l;g/l;g/l;g/l", *text[1:]]))
    return [path]


def in_two_stacked_files(path: Path) -> list[Path]:
    text, other = lines(), path.with_name("more.csv")
    path.write_text("\n".join(text[:15]))
    other.write_text("\n".join([text[0], *text[15:]]))
    return [path, other]


def dataset() -> xr.Dataset:
    units = {"units": "g/l"}
    return xr.Dataset(
        {"r": ("member", R), "K": ("member", K), "yeast": (("member", "time"), YEAST, units), "peak": ("member", PEAK)},
        {"time": ("time", TIMES, {"units": "h"})},
    )


def in_netcdf(path: Path) -> list[Path]:
    dataset().to_netcdf(path.with_suffix(".nc"), engine="h5netcdf")
    return [path.with_suffix(".nc")]


def in_classic_netcdf(path: Path) -> list[Path]:
    dataset().to_netcdf(path.with_suffix(".nc"), engine="scipy")
    return [path.with_suffix(".nc")]


def in_zarr(path: Path) -> list[Path]:
    dataset().to_zarr(path.with_suffix(".zarr"), zarr_format=2)
    return [path.with_suffix(".zarr")]


def in_parquet(path: Path) -> list[Path]:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    columns = {"r": R, "K": K} | {f"yeast[time={t:g}]": YEAST[:, j] for j, t in enumerate(TIMES)} | {"peak": PEAK}
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"), row_group_size=7)
    return [path.with_suffix(".parquet")]


WAYS: list[Callable[[Path], list[Path]]] = [
    in_text,
    as_excel_has_it_in_german,
    with_tabs_a_mark_and_notes,
    as_savetxt_writes_it,
    long,
    long_beside_parameters,
    a_file_for_each_run,
    with_units_below_the_names,
    in_two_stacked_files,
    in_netcdf,
    in_classic_netcdf,
    in_zarr,
    in_parquet,
]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_the_same_runs_are_read_from_every_kind_of_file(write: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    runs = opened(*write(tmp_path / "runs.csv"))
    assert len(runs) == 40 and runs.num_outside == 0
    assert {name: output.dims for name, output in runs.outputs.items()} == {"yeast": ("time",), "peak": ()}
    np.testing.assert_array_equal(runs.outputs["yeast"].coords["time"], TIMES)
    for a, b in ((0, 40), (11, 29)):  # read in parts, rows are the same
        part = runs.read(a, b)
        np.testing.assert_array_equal(part.theta, np.column_stack([R, K])[a:b])
        np.testing.assert_array_equal(part.outputs["yeast"], YEAST[a:b])
        np.testing.assert_array_equal(part.outputs["peak"], PEAK[a:b])
        assert (part.status == Status.OK).all()
    np.testing.assert_allclose(np.asarray(space().theta(runs.read(0, 40).z)), np.column_stack([R, K]), rtol=1e-12)


def test_units_come_from_the_file(tmp_path: Path) -> None:
    runs = opened(*in_netcdf(tmp_path / "runs.csv"))
    assert runs.outputs["yeast"].unit == "g/l" and runs.coordinate_units == {"time": "h"}


def test_units_below_names_are_units(tmp_path: Path) -> None:
    runs = opened(*with_units_below_the_names(tmp_path / "runs.csv"))
    assert runs.units == {"r": "1/h", "K": "", "yeast": "g/l", "peak": "g/l"}
    (tmp_path / "long.csv").write_text(
        "run,r,K,time,yeast\n,1/h,,h,g/l\n0,.1,3,0,1\n0,.1,3,1,2\n1,.2,3,0,1\n1,.2,3,1,3\n"
    )
    assert opened(tmp_path / "long.csv").units == {"r": "1/h", "K": "", "yeast": "g/l", "time": "h"}
    np.savetxt(tmp_path / "hash.txt", np.column_stack([R, K, PEAK]), header="r K peak\n[1/h] [-] [g/l]")
    assert opened(tmp_path / "hash.txt").units == {"r": "1/h", "K": "", "peak": "g/l"}


@pytest.mark.parametrize(
    "text",
    [
        "r;K;y\n1/h;-;g/l\n0,1;3,5;1,2\n0,2;4;1,0\n",
        "r K y\n1/h - g/l\n0,1 3,5 1,2\n0,2 4 1,0\n",
        "r,K,y\n1/h,1,g/l\n0.1,3.5,1.2\n0.2,4,1.0\n",
        "r,K,y\n[1/h],[1],[g/l]\n0.1,3.5,1.2\n0.2,4,1.0\n",
        "# by me\n# r, K, y\n# [1/h], [-], [g / l]\n0.1, 3.5, 1.2\n0.2, 4, 1.0\n",
    ],
)
def test_units_are_told_from_a_run(text: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(text)
    runs = opened(tmp_path / "runs.csv")
    assert {name: unit.replace(" ", "") for name, unit in runs.units.items()} == {"r": "1/h", "K": "", "y": "g/l"}
    assert runs.read(0, 2).outputs["y"].tolist() == [1.2, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        "r;K;y\n0,1;3,5;1,2\n0,2;4;1,0\n",
        "r K y\n0,1 3,5 1,2\n0,2 4 1,0\n",
        "r\tK\ty\n0,1\t3,5\t1,2\n0,2\t4,0\t1\n",
        "# by somebody\n# [r] [K] [y]\n0.1 3.5 1.2\n0.2 4 1.0\n",
        "# results\n# [r],[K],[y]\n0.1,3.5,1.2\n0.2,4,1.0\n",
    ],
)
def test_a_first_run_is_not_taken_for_units(text: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(text)
    columns = {name: f"[{name}]" for name in "rKy"} if "[r]" in text else {}
    runs = opened(tmp_path / "runs.csv", columns=columns)
    assert set(runs.units.values()) == {""} and runs.read(0, 2).outputs["y"].tolist() == [1.2, 1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run,y\na,ERR\nb,1.5\nc,2.5\n", 'line 2: got "ERR" for y'),
        ("run,y\n1,ERR\n2,1.5\n3,2.5\n", 'line 2: got "ERR" for y'),
        ("run,y\n1,#DIV/0!\n2,1.5\n3,2.5\n", "for y, expected a number or an empty cell; if this is a line of units"),
    ],
)
def test_a_first_run_that_failed_is_not_taken_for_units(text: str, said: str, tmp_path: Path) -> None:
    first = "a" if "a," in text else "1"
    runs = "".join(f"{run},0.5,3\n" for run in ("abc" if first == "a" else "123"))
    (tmp_path / "params.csv").write_text("run,r,K\n" + runs)
    (tmp_path / "out.csv").write_text(text)
    with pytest.raises(ConfigError) as raised:
        opened(tmp_path / "params.csv", tmp_path / "out.csv").read(0, 3)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        ("r,K,y\n1/h,,g\n0.1,3,1\n", "r,K,y\n1/day,,g\n0.2,4,2\n", r'r in "1/h" in a.csv, and in "1/day" in b.csv'),
        ("run,r,K,time,y\n,,,s,\n0,.1,3,0,1\n0,.1,3,1,2\n1,.2,3,0,1\n1,.2,3,1,2\n",
         "run,r,K,time,y\n,,,ms,\n2,.1,3,0,1\n2,.1,3,1,2\n3,.2,3,0,1\n3,.2,3,1,2\n",
         r'time in "s" in a.csv, and in "ms" in b.csv'),
    ],
)  # fmt: skip
def test_stacked_files_in_other_units_are_refused(one: str, two: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(one)
    (tmp_path / "b.csv").write_text(two)
    with pytest.raises(ConfigError, match=said):
        opened(tmp_path / "a.csv", tmp_path / "b.csv")
    (tmp_path / "b.csv").write_text(one.replace("1/h", "h^-1"))
    assert len(opened(tmp_path / "a.csv", tmp_path / "b.csv")) in (2, 4)


def series(folder: Path, numbers: list[int]) -> list[Path]:
    """Write a file of a run for each number, which is what its output begins with."""
    files = [folder / f"out_{i}.csv" for i in numbers]
    for i, file in zip(numbers, files, strict=True):
        file.write_text("time,y\n" + "".join(f"{t},{i + 0.1 * t}\n" for t in range(3)))
    return files


@pytest.mark.parametrize("start", [0, 1])
def test_files_of_a_run_each_are_in_the_order_of_their_numbers(start: int, tmp_path: Path) -> None:
    (tmp_path / "params.csv").write_text("r,K\n" + "".join(f"0.{i + 1},3\n" for i in range(4)))
    runs = opened(tmp_path / "params.csv", *series(tmp_path, [start + i for i in (3, 0, 2, 1)]))
    assert runs.read(0, 4).outputs["y"][:, 0].tolist() == [start + i for i in range(4)]


def test_files_of_runs_that_the_parameters_do_not_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.csv").write_text("r,K\n" + "".join(f"0.{i + 1},3\n" for i in range(4)))
    files = [tmp_path / "params.csv", *series(tmp_path, [10, 3, 5, 9])]
    with pytest.raises(ConfigError, match=r"runs 3, 5, 9, 10, and params.csv does not say .* a column `run`"):
        opened(*files)
    files[0].write_text("run,r,K\n" + "".join(f"{i},0.5,3\n" for i in (9, 10, 3, 5)))
    assert opened(*files).read(0, 4).outputs["y"][:, 0].tolist() == [9, 10, 3, 5]


def test_files_with_as_many_lines_as_there_are_runs_are_still_a_run_each(tmp_path: Path) -> None:
    (tmp_path / "params.csv").write_text("run,r,K\n" + "".join(f"{i},0.{i + 1},3\n" for i in range(6)))
    files = [tmp_path / "params.csv", *series(tmp_path, [4, 2])]
    runs = opened(*files)
    assert runs.outputs["y"].dims == ("time",) and runs.read(0, 6).status.tolist() == [3, 3, 0, 3, 0, 3]
    (tmp_path / "peak.csv").write_text("peak\n" + "".join(f"{i}\n" for i in range(6)))  # row by row, beside them
    read = opened(*files, tmp_path / "peak.csv").read(0, 6).outputs
    assert read["y"][[2, 4], 0].tolist() == [2, 4] and read["peak"].tolist() == list(range(6))


def test_numbered_files_of_several_runs_stay_stacked(tmp_path: Path) -> None:
    (tmp_path / "parameters.csv").write_text("run,r,K\n" + "".join(f"{i},{R[i]},{K[i]}\n" for i in range(40)))
    for i in range(4):
        (tmp_path / f"out_{i}.csv").write_text("peak\n" + "".join(f"{y}\n" for y in PEAK[10 * i : 10 * i + 10]))
    files = [tmp_path / "parameters.csv", *(tmp_path / f"out_{i}.csv" for i in range(4))]
    assert np.array_equal(opened(*files).read(0, 40).outputs["peak"], PEAK)


def test_arrays_without_names_are_told_theirs(tmp_path: Path) -> None:
    theta = np.column_stack([K, R])
    np.savez(tmp_path / "params.npz", X=theta)
    np.savez(tmp_path / "features.npz", modes=TIMES[::-1], features=np.log10(YEAST[:, ::-1]))
    columns = {"K": "X[0]", "r": "X[1]", "yeast": "features"}
    files = tmp_path / "params.npz", tmp_path / "features.npz"
    runs = opened(*files, columns=columns, ignore=["X"], coordinates={"time": "modes"}, scale={"yeast": "log10"})
    np.testing.assert_allclose(runs.read(0, 40).outputs["yeast"], YEAST, rtol=1e-12)  # coordinates increase now
    np.testing.assert_array_equal(runs.outputs["yeast"].coords["time"], TIMES)
    np.testing.assert_array_equal(runs.read(0, 40).theta, np.column_stack([R, K]))


def test_hdf5_is_read_by_path(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "runs.h5", "w") as file:
        file["in/growth"], file["in/K"], file["out/yeast"], file["grid/t"] = R, K, YEAST, TIMES
    columns = {"r": "in/growth", "K": "in/K", "yeast": "out/yeast"}
    runs = opened(tmp_path / "runs.h5", columns=columns, coordinates={"time": "grid/t"})
    np.testing.assert_array_equal(runs.read(3, 9).outputs["yeast"], YEAST[3:9])
    assert runs.outputs["yeast"].dims == ("time",)


def test_columns_that_fit_a_pattern_are_one_output(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    names = "r;K;EXP_39;EXP_3;EXP_12"
    file.write_text("\n".join([names, *(";".join(map(repr, map(float, (R[i], K[i], *YEAST[i])))) for i in range(40))]))
    by_number = opened(file, columns={"yeast": "EXP_{experiment}"})
    assert by_number.outputs["yeast"].dims == ("experiment",)
    np.testing.assert_array_equal(by_number.outputs["yeast"].coords["experiment"], [3.0, 12.0, 39.0])
    np.testing.assert_array_equal(by_number.read(0, 4).outputs["yeast"], YEAST[:4, [1, 2, 0]])
    listed = opened(file, columns={"yeast": ["EXP_39", "EXP_12"]}, ignore=["EXP_3"])
    np.testing.assert_array_equal(listed.read(0, 4).outputs["yeast"], YEAST[:4, [0, 2]])


def test_what_is_missing_infinite_or_said_to_have_failed_is_a_failed_row(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    rows = [
        "0.1,3,1.0,ok",
        "0.2,3,,ok",
        "0.3,3,inf,0",
        "0.4,3,1.0,max steps",
        "0.5,3,1.0,gave up",
        "0.6,3,NA,",
        "0.7,3,1.0D+00,0",
    ]
    file.write_text("\n".join(["r,K,y,status", *rows]))
    runs = opened(file)
    bad = Status.NOT_FINITE
    assert runs.read(0, 7).status.tolist() == [0, bad, bad, Status.MAX_STEPS, Status.OTHER, bad, 0]


def test_runs_at_a_bound_are_kept_and_runs_outside_the_priors_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("r,K,y\n0.0,3,1\n0.5,3,2\n1.0,3,3\n1.0001,3,4\n-2,3,5\n0.5,99,6\n")
    runs = opened(file)
    assert len(runs) == 3 and runs.num_outside == 3 and "3 runs lie outside the priors" in runs.words()
    read = runs.read(0, 3)
    assert read.outputs["y"].tolist() == [1, 2, 3] and read.theta[:, 0].tolist() == [0.0, 0.5, 1.0]
    assert np.isfinite(read.z).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("r,k_cap,y\n0.1,3,1\n", "no column for the parameter K"),
        ("r,K,y\n0.1,3,1\n0.2,three,1\n", 'line 3: got "three" for K'),
        ("r,K,y\n0.1,3,1\n0.2,,1\n", "line 3: got no number for the parameter K"),
        ("r,K,y\n0.1,3,1\n0.2,3\n", "line 3: got 2 cells, expected 3"),
        ("0.1,3,1\n0.2,3,1\n", "line 1 holds numbers"),
        ("r,K,y,host\n0.1,3,1,n01\n", 'column "host" holds text'),
        ("r,K\n0.1,3\n", "there are no outputs"),
        ("r,K,y[t=0],y[t=1],z[t=0 x=1],z[t=1 x=2]\n0.1,3,1,1,1,1\n", "no column z[t=0, x=2]"),
        ("r;K;y\n0,1;3;1\n0,2;1.045;2\n", 'line 3: got "1.045" for K, where decimals follow a comma'),
        ("x,y\n0.1,3\n0.2,3\n", "if another file has the parameters of each run, name both"),
        ("r,r,y\n0.1,3,1\n", '"r" is there more than once'),
        ("r,K,y\n", "got no runs"),
        ("r,K,y\n5,3,1\n7,3,1\n", "none of its 2 runs lies within the priors"),
        ("run,r,K,t,y\n1,.1,3,0,1\n1,.1,3,1,1\n2,.2,3,0,1\n", "got 1 lines of run 2, and 2 of the first one"),
        ("run,r,K,t,y\n1,.1,3,0,1\n1,.1,3,1,1\n2,.2,3,0,2\n2,.2,3,1,2\n1,.1,3,0,1\n1,.1,3,1,1", "not stand together"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"^simulate\.table") as raised:
        opened(tmp_path / "runs.csv")
    assert said in str(raised.value), raised.value


def test_a_fixed_parameter_must_agree(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("r,K,y\n0.1,3,1\n0.2,4,1\n")
    with pytest.raises(ConfigError, match=r"line 3: got K = 4, and the config has it fixed at 3"):
        FinishedRuns(RunTable.model_validate(str(tmp_path / "runs.csv")), space(K=3.0))


def test_units_of_parameters_are_held_against_the_priors(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("r,K,y\n0.1,3,1\n0.2,4,1\n")
    table = RunTable.model_validate({"files": str(tmp_path / "runs.csv"), "units": {"r": "1/h", "y": "g"}})
    prior = {"dist": "Uniform", "low": 0.0, "high": 1.0}
    runs = FinishedRuns(table, space(r=prior | {"unit": "h^-1"}))
    assert runs.units == {"r": "1/h", "K": "", "y": "g"}
    with pytest.raises(ConfigError, match=r'got r in "1/h", and its prior is in "1/day"'):
        FinishedRuns(table, space(r=prior | {"unit": "1/day"}))


@pytest.mark.parametrize(("key", "given"), [("units", {"z": "g"}), ("scale", {"r": "log10"})])
def test_a_unit_or_a_scale_of_what_there_is_not_is_refused(key: str, given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("r,K,y\n0.1,3,1\n0.2,4,1\n")
    with pytest.raises(ConfigError, match=rf"^simulate\.table\.{key}\.{next(iter(given))}: there is no such output"):
        opened(tmp_path / "runs.csv", **{key: given})


def test_a_simulator_goes_on_in_the_tables_units(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("r,K,y[time=0],y[time=1]\n0.1,3,1,2\n0.2,4,1,2\n")
    runs = opened(tmp_path / "runs.csv", units={"r": "1/h", "y": "g", "time": "h"})
    y = Output(("time",), {"time": np.array([0.0, 1.0])}, "g")
    assert unlike(runs, {"y": y}, {"r": "1/h", "time": "h"}) == []
    found = unlike(runs, {"y": replace(y, unit="mg")}, {"r": "1/day", "time": "day"})
    assert [each.what.partition(" ")[0] for each in found] == ["r", "time", "y"]


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("r,K,y\n0.1,3,1\n")
    two.write_text("r,K\n0.1,3\n")
    with pytest.raises(ConfigError, match=r"b.csv lacks the column y, which a.csv has"):
        opened(one, two)
    two.write_text("x\n1\n2\n")
    with pytest.raises(ConfigError, match=r"got 1 runs in a.csv and 2 in b.csv"):
        opened(one, two)
    one.write_text("run,r,K\na,0.1,3\nb,0.2,3\n")
    two.write_text("run,x\nb,2\n")
    assert opened(one, two).read(0, 2).status.tolist() == [Status.NOT_FINITE, Status.OK]  # a run without outputs
    two.write_text("run,x\nc,2\n")
    with pytest.raises(ConfigError, match=r"run c has no parameters in a.csv"):
        opened(one, two)


@pytest.mark.parametrize("has_run", [True, False], ids=["by the number in a file's name", "in the order of numbers"])
def test_outputs_in_a_file_for_each_run_belong_to_its_own_parameters(has_run: bool, tmp_path: Path) -> None:
    """`out_10.csv` comes before `out_2.csv` in the order of letters: runs had others' outputs, and nobody was told."""
    count, order = 12, np.random.default_rng(1).permutation(12) if has_run else np.arange(12)
    lines = [f"{i + 1:04},{R[i]},{K[i]}" if has_run else f"{R[i]},{K[i]}" for i in order]
    (tmp_path / "params.csv").write_text("\n".join(["run,r,K" if has_run else "r,K", *lines]))
    for i in range(count):
        (tmp_path / f"out_{i + 1}.csv").write_text(f"peak\n{PEAK[i]}\n")
    table = RunTable.model_validate({"files": [str(tmp_path / "params.csv"), str(tmp_path / "out_*.csv")]})
    runs = FinishedRuns(table, space()).read(0, count)
    assert np.allclose(runs.theta, np.stack([R, K], axis=1)[order])
    assert np.allclose(runs.outputs["peak"], PEAK[order])


def test_a_number_that_no_run_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.csv").write_text("run,r,K\n0,0.5,3\n1,0.6,3\n")
    for i in (1, 2):
        (tmp_path / f"out_{i}.csv").write_text("peak\n1.0\n")
    with pytest.raises(ConfigError, match=r"run 2 has no parameters in params\.csv"):
        opened(tmp_path / "params.csv", tmp_path / "out_1.csv", tmp_path / "out_2.csv")


def test_runs_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "params.csv").write_text("run,r,K\n0001,0.5,3\n0002,0.6,3\n")
    (tmp_path / "peaks.csv").write_text("run,peak\n2,20.0\n1,10.0\n")
    assert opened(tmp_path / "params.csv", tmp_path / "peaks.csv").read(0, 2).outputs["peak"].tolist() == [10.0, 20.0]
