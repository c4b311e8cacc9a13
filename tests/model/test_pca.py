"""Principal components keep what they say, never see the rows that they are judged by, and are undone exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from simfer.pipeline.chain import mistakes
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.emulator.emulator import Emulator, predict
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import ConfigError
from simfer.stages.model import pca as basis
from tests import helpers
from tests.dataset.test_stage import dataset, simulations

RNG = np.random.default_rng(0)
FOLD = 1 + np.arange(60) % 5
ROWS = RNG.normal(size=(60, 6)) * 3.0 ** -np.arange(6.0) @ RNG.normal(size=(6, 40)) + 1e-3 * RNG.normal(size=(60, 40))
ROWS -= ROWS.mean(axis=0)
SLICES = {"a": slice(0, 3), "b": slice(3, 43)}


@pytest.mark.parametrize("rows", [ROWS, ROWS[:, :8]], ids=["more values than rows", "fewer"])
def test_components_are_those_of_scikit_learn(rows: np.ndarray) -> None:
    found, other = basis.fit(rows, FOLD, 5, 4), PCA(4, svd_solver="full").fit(rows)
    assert found.bases.shape == (6, 4, rows.shape[1])
    assert np.allclose(np.abs(np.sum(found.bases[0] * other.components_, axis=1)), 1.0)
    assert np.allclose(found.bases[0] @ found.bases[0].T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(("share", "count"), [(0.5, 1), (0.99, 3), (0.99999, 5)])
def test_a_share_is_what_is_kept(share: float, count: int) -> None:
    kept = basis.fit(ROWS, FOLD, 5, share).bases[0]
    variance = PCA(svd_solver="full").fit(ROWS).explained_variance_ratio_.cumsum()
    assert len(kept) == int(np.searchsorted(variance, share)) + 1 == count


def test_a_folds_basis_never_sees_the_fold_and_the_share_dropped_is_of_unseen_rows() -> None:
    found = basis.fit(ROWS, FOLD, 5, 4)
    lost = 0.0
    for fold in range(1, 6):
        alone = np.linalg.svd(ROWS[fold != FOLD], full_matrices=False)[2][:4]
        own = ROWS[fold == FOLD]
        lost += ((own - own @ alone.T @ alone) ** 2).sum()
        assert np.allclose(basis.project(own, found.bases[fold]), own @ alone.T @ alone, atol=1e-10)
    assert found.dropped == pytest.approx(lost / (ROWS**2).sum())
    seen = ((ROWS - basis.project(ROWS, found.bases[0])) ** 2).sum() / (ROWS**2).sum()
    assert found.dropped > seen


def test_no_more_components_than_rows_can_have() -> None:
    few, fold = ROWS[:6], np.array([1, 1, 2, 2, 3, 3])
    found = basis.fit(few, fold, 3, 50)
    assert found.bases.shape == (4, 6, 40)
    assert np.allclose(basis.project(few, found.bases[0]), few)
    assert np.all(found.bases[1][4:] == 0.0)  # four rows are left without a fold
    assert np.allclose(found.bases[1][:4] @ found.bases[1][:4].T, np.eye(4), atol=1e-9)
    nothing = basis.fit(np.zeros((6, 3)), fold, 3, 0.99)  # an output that never changes
    assert nothing.bases.shape[1] == 1 and nothing.dropped == 0.0


def test_some_places_are_computed_as_all_are() -> None:
    bases, short = {"b": jnp.asarray(basis.fit(ROWS, FOLD, 5, 4).bases[0])}, jnp.asarray(RNG.normal(size=(5, 7)))
    whole, index = basis.expand(short, SLICES, bases), np.array([42, 0, 3, 17, 2])
    assert whole.shape == (5, 43)
    assert np.allclose(whole[:, :3], short[:, :3]) and np.allclose(whole[:, 3:], short[:, 3:] @ bases["b"])
    assert np.allclose(short @ basis.columns(index, SLICES, bases), whole[:, index])


def test_rows_are_moved_to_show_what_a_basis_without_them_drops() -> None:
    found, location = basis.fit(ROWS, FOLD, 5, 4), RNG.normal(size=43)
    y = location + np.concatenate([RNG.normal(size=(60, 3)), ROWS], axis=1)
    moved = basis.without_own_fold(y, FOLD, location, SLICES, {"b": found.bases})
    assert np.array_equal(moved[:, :3], y[:, :3])
    for fold in range(1, 6):
        own = fold == FOLD
        left = (moved - location)[own, 3:] - basis.project(ROWS[own], found.bases[0])
        assert np.allclose(left, ROWS[own] - basis.project(ROWS[own], found.bases[fold]))


def test_a_basis_is_fitted_to_training_rows_alone_and_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = simulations(tmp_path / "rows", 200)
    one, summary = dataset(tmp_path / "one", source, pca={"y": 2}, transform={"y": "asinh"})
    _, y, fold = one.arrays()
    seen = y[fold != TEST] - y[fold != TEST].mean(axis=0)
    found = basis.fit(seen, fold[fold != TEST], 5, 2)
    assert np.allclose(one.bases()["y"], found.bases)
    assert np.allclose(one.targets(), (y - y[fold != TEST].mean(axis=0)) @ found.bases[0].T)
    row = summary["tables"]["outputs"][0]
    assert row["components"] == 2 and row["variance_dropped_on_unseen_rows"] == pytest.approx(found.dropped)
    monkeypatch.setattr("simfer.stages.dataset.writer._BLOCK", 64)
    many, _ = dataset(tmp_path / "many", source, pca={"y": 2}, transform={"y": "asinh"})
    assert np.allclose(one.bases()["y"], many.bases()["y"]) and np.allclose(one.targets(), many.targets())
    assert one.to_xarray()["y_basis"].dims == ("without_fold", "y_component", "x")


def test_without_components_a_training_set_is_as_it_was(tmp_path: Path) -> None:
    plain, _ = dataset(tmp_path / "plain", simulations(tmp_path / "rows", 100))
    assert not plain.components and plain.bases() == {}
    assert np.array_equal(plain.targets(), plain.arrays()[1] - plain.location)


@pytest.mark.slow
def test_a_straight_line_in_two_components_has_the_exact_posterior() -> None:
    # Lines span two dimensions, so nothing is dropped, and the posterior of this problem is known.
    result, (mean, covariance) = helpers.line_run("dataset.pca.y=2"), helpers.exact_line()
    drawn = np.stack([result.posterior["posterior"][name].values.ravel() for name in helpers.PRIOR], axis=1)
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(axis=0) - mean) < 0.15 * sd).all()
    assert np.allclose(drawn.std(axis=0), sd, rtol=0.1)
    assert result.verdict.passed
    row = result.summaries["check"]["tables"]["emulator error at the posterior, in data sigma"][0]
    assert row["pca_drops_99"] < 1e-6


def test_an_emulator_with_components_is_kept_whole() -> None:
    result = helpers.line_run("dataset.pca.y=2", until="train")
    emulator: Emulator = result.emulator
    assert emulator.header.components == {"y": 2} and emulator.scale.shape == (2,)
    out = emulator({"intercept": 0.7, "slope": -0.9})["y"]
    assert np.allclose(out, 0.7 - 0.9 * helpers.X, atol=0.05)
    z, index = np.asarray(emulator.training_z)[:10], np.array([7, 0, 3])
    members = jax.vmap(emulator.at(index))(jnp.asarray(z))
    assert np.allclose(members, predict(emulator, z)[:, :, index])
    assert np.allclose(predict(emulator, z, index), members)
    again = load_emulator(result.folders["train"])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(emulator), jax.tree.leaves(again), strict=True))
    assert set(again.bases) == {"y"} and not helpers.line_run(until="train").emulator.header.components


def test_what_components_drop_is_in_the_emulators_error() -> None:
    # One component cannot hold lines of any intercept and slope.
    result = helpers.line_run("dataset.pca.y=1", until="train")
    emulator, data = result.emulator, TrainingSet.load(result.folders["dataset"])
    z, y, fold = data.arrays()
    unseen = y[fold == TEST]
    left = unseen - predict(emulator, z[fold == TEST]).mean(axis=1)
    claimed = np.sqrt(np.asarray(emulator.base_variance))
    assert np.sqrt((left**2).mean()) == pytest.approx(np.sqrt((claimed**2).mean()), rel=0.3)
    assert claimed.max() > 0.2 * unseen.std()


@pytest.mark.slow
def test_a_check_says_what_components_drop_and_fails_for_it() -> None:
    result = helpers.line_run("dataset.pca.y=1")
    assert not result.verdict.passed
    row = result.summaries["check"]["tables"]["emulator error at the posterior, in data sigma"][0]
    assert row["pca_drops_99"] == pytest.approx(row["percentile_99"], rel=0.3)
    assert result.summaries["infer"]["tables"]["emulator error in the likelihood"][0]["share_of_variance"] > 0.05


@pytest.mark.parametrize("wanted", [0, -3, 1.0, 0.0, 1.5, True, "many"])
def test_a_number_that_is_neither_a_count_nor_a_share_is_refused(wanted: Any) -> None:
    with pytest.raises(ConfigError, match=r"dataset.pca.y: got .*, expected a number of components"):
        helpers.problem(helpers.line(dataset={"pca": {"y": wanted}}))


def test_outputs_without_components_to_have_are_refused() -> None:
    found = mistakes(helpers.problem(helpers.line(dataset={"pca": {"y": 9, "w": 2}})))
    assert [each.where for each in found] == ["dataset.pca.w", "dataset.pca.y"]
    assert "expected fewer than the output has values: 9" in str(found[1])


def test_a_config_that_names_no_components_keeps_its_fingerprints() -> None:
    plain, named, other = (
        {step.stage: step for step in helpers.plan(helpers.problem(helpers.line(dataset={"pca": pca})))}
        for pca in ({}, {"y": 2}, {"y": 3})
    )
    assert "pca" not in plain["dataset"].key["config"]["dataset"]
    assert len({steps["dataset"].fingerprint for steps in (plain, named, other)}) == 3
    assert plain["simulate"].fingerprint == named["simulate"].fingerprint
