"""Usable rows become a training set, each in a fold of its own, and none is lost unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from simfer.stages.artifacts.simulations import SIMULATIONS, Simulations
from simfer.stages.artifacts.training_set import DATASET, TEST, TrainingSet
from simfer.stages.dataset.stage import _folds
from simfer.stages.errors import StageError
from simfer.stages.model.outputs import Status
from simfer.stages.settings import Dataset
from tests import helpers


def simulations(folder: Path, num: int = 200, **sections: Any) -> Path:
    """Simulate straight lines."""
    checked = helpers.problem(helpers.line(simulate={"num_simulations": num}, **sections))
    helpers.run_stage(checked, "simulate-0", {}, folder)
    return folder


def dataset(folder: Path, *sources: Path, **dataset: Any) -> tuple[TrainingSet, dict[str, Any]]:
    """Make a training set of simulations."""
    checked = helpers.problem(helpers.line(dataset=dataset))
    summary = helpers.run_stage(checked, "dataset-0", {"simulations": list(sources)}, folder)
    return TrainingSet.load(folder), summary


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_folds_do_not_move_when_rows_are_added_and_are_balanced(seed: int) -> None:
    settings = Dataset(seed=seed)
    fold = _folds(settings, np.arange(5000))
    assert np.array_equal(fold[:700], _folds(settings, np.arange(700)))
    for start in (0, 123, 3000):  # any stretch of rows, such as one round's
        share = np.bincount(fold[start : start + 200], minlength=6) / 200
        assert share[TEST] == pytest.approx(settings.test_fraction, abs=0.02)
        assert share[1:] == pytest.approx(0.18, abs=0.02)


def test_a_fold_has_nothing_to_do_with_where_a_sobol_row_lies(tmp_path: Path) -> None:
    z, _, fold = dataset(tmp_path / "data", simulations(tmp_path / "rows", 1024))[0].arrays()
    for each in range(6):
        assert np.abs(z[fold == each].mean(axis=0)).max() < 0.25
        assert z[fold == each].std(axis=0) == pytest.approx(1.0, abs=0.2)


def test_folds_depend_on_their_seed() -> None:
    rows = np.arange(100)
    assert not np.array_equal(_folds(Dataset(seed=0), rows), _folds(Dataset(seed=1), rows))


def test_failed_rows_are_left_out_and_counted_and_move_no_other(tmp_path: Path) -> None:
    source = simulations(tmp_path / "rows")
    whole, _ = dataset(tmp_path / "whole", source)
    group = zarr.open_group(source / SIMULATIONS, mode="r+")
    group["status"][5] = int(Status.MAX_STEPS)
    group["y"][9, 3] = np.inf  # a failure that its status does not tell
    holed, summary = dataset(tmp_path / "holed", source)
    assert summary["facts"]["rows"] == 198 and summary["facts"]["left_out"] == 2
    keep = np.delete(np.arange(200), [5, 9])
    for one, other in zip(whole.arrays(), holed.arrays(), strict=True):
        assert np.array_equal(one[keep], other)


def test_the_scaling_is_that_of_the_training_rows_alone(tmp_path: Path) -> None:
    data, _ = dataset(tmp_path / "data", simulations(tmp_path / "rows"))
    _, y, fold = data.arrays()
    assert np.allclose(data.location, y[fold != TEST].mean(axis=0))
    assert np.allclose(data.scale, y[fold != TEST].std(axis=0))


def test_the_scaling_of_many_blocks_is_that_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = simulations(tmp_path / "rows", 500)
    one, _ = dataset(tmp_path / "one", source)
    monkeypatch.setattr("simfer.stages.dataset.writer._BLOCK", 64)
    many, _ = dataset(tmp_path / "many", source)
    assert np.allclose(one.location, many.location, rtol=1e-12) and np.allclose(one.scale, many.scale, rtol=1e-12)
    for a, b in zip(one.arrays(), many.arrays(), strict=True):
        assert np.array_equal(a, b)


def test_a_constant_output_has_no_spread_and_is_counted(tmp_path: Path) -> None:
    # With the intercept known, the line at x = 0 is the same in every row.
    data, summary = dataset(tmp_path / "data", simulations(tmp_path / "rows", parameters={"intercept": 0.1}))
    assert data.scale[0] == 0.0 and (data.scale[1:] > 0).all()
    assert summary["tables"]["outputs"][0]["constant"] == 1


def test_two_sources_follow_one_another(tmp_path: Path) -> None:
    first, second = simulations(tmp_path / "a", 100), simulations(tmp_path / "b", 60, parameters={"slope": 2.0})
    one, _ = dataset(tmp_path / "one", first)
    both, summary = dataset(tmp_path / "both", first, first)
    assert summary["facts"]["rows"] == 200
    for a, b in zip(one.arrays(), both.arrays(), strict=True):
        assert np.array_equal(a, b[:100])
    assert len(Simulations.load(second)) == 60


def test_a_third_round_trains_on_all_rows_but_the_first_rounds_far_from_the_data(tmp_path: Path) -> None:
    sources = [simulations(tmp_path / "a", 400), simulations(tmp_path / "b", 60)]
    checked = helpers.problem(helpers.line(refine={"max_rounds": 2}))
    by_round = {}
    for number in (1, 2):
        helpers.run_stage(checked, f"dataset-{number}", {"simulations": sources}, folder := tmp_path / f"{number}")
        by_round[number] = TrainingSet.load(folder)
    z, _ = by_round[1].points()
    assert len(z) == 460
    distance = ((by_round[1].outputs(0, 460) - helpers.line_data()) ** 2).sum(axis=1)
    closest = np.argsort(distance, kind="stable")[: 100 + 20 * 2]
    assert np.array_equal(by_round[2].points()[0], z[np.union1d(closest, np.arange(400, 460))])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("log", lambda y: np.log(np.maximum(y, 0.5))),
        ("sqrt", lambda y: np.sqrt(np.maximum(y, 0.5))),
        ("asinh", np.arcsinh),
    ],
)
def test_outputs_are_transformed_above_the_floor(tmp_path: Path, transform: str, expected: Any) -> None:
    source = simulations(tmp_path / "rows", 100)
    data, _ = dataset(tmp_path / "data", source, transform={"y": transform}, floor=0.5)
    _, y, _ = Simulations.load(source).rows(0, 100)
    assert np.allclose(data.arrays()[1], expected(y))


def test_it_opens_in_xarray_with_names_and_transforms(tmp_path: Path) -> None:
    dataset(tmp_path / "data", simulations(tmp_path / "rows", 100), transform={"y": "asinh"})
    with xr.open_zarr(tmp_path / "data" / DATASET, chunks=None, consolidated=False) as data:
        assert data["y"].dims == ("row", "x") and data["y"].attrs["transform"] == "asinh"
        assert data["z"].attrs["parameters"] == ["intercept", "slope"]
        assert np.allclose(data["x"], helpers.X)
        assert set(np.unique(data["fold"])) == set(range(6))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    source = simulations(tmp_path / "rows", 15)
    with pytest.raises(StageError, match="at least 20"):
        dataset(tmp_path / "data", source)
    source = simulations(tmp_path / "more", 25)
    with pytest.raises(StageError, match="none may be 0: add rows"):
        dataset(tmp_path / "data2", source, folds=30)
