"""Row i of a design is the same whatever is asked for with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simfer.stages.simulate import design

KINDS = ["sobol", "prior", "latin_hypercube"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 5])
def test_a_row_does_not_depend_on_the_rows_asked_for_with_it(kind: str, seed: int) -> None:
    whole = design.rows(kind, 0, 300, 300, 3, seed)
    for start, stop in ((0, 1), (0, 100), (1, 2), (7, 300), (128, 256), (299, 300)):
        assert np.array_equal(design.rows(kind, start, stop, 300, 3, seed), whole[start:stop]), (start, stop)


@pytest.mark.parametrize("kind", ["sobol", "prior"])
def test_growing_keeps_the_first_rows(kind: str) -> None:
    few, many = design.rows(kind, 0, 100, 100, 4, 0), design.rows(kind, 0, 1000, 1000, 4, 0)
    assert np.array_equal(few, many[:100])


@pytest.mark.parametrize("kind", KINDS)
def test_each_component_is_standard_normal(kind: str) -> None:
    z = design.rows(kind, 0, 2048, 2048, 5, 1)
    limit = 0.002 if kind != "prior" else 1.63 / np.sqrt(2048)  # the latter's 1 % point
    for column in z.T:
        assert stats.kstest(column, stats.norm.cdf).statistic < limit
    assert np.isfinite(z).all()
    assert np.abs(np.corrcoef(z.T) - np.eye(5)).max() < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_rows(kind: str) -> None:
    assert not np.allclose(design.rows(kind, 0, 50, 50, 2, 0), design.rows(kind, 0, 50, 50, 2, 1))


def test_a_stretched_design_follows_the_draws_about_their_median() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 2)) @ np.array([[0.05, 0.04], [0.0, 0.01]]) + np.array([2.0, -1.0])
    z = design.stretched(draws, np.zeros(len(draws), int), 0, 1000, 1.5, 3)
    assert np.allclose(np.median(z, axis=0), np.median(draws, axis=0), atol=0.01)
    assert np.allclose(np.cov(z.T), 1.5**2 * np.cov(draws.T), rtol=0.15)
    assert np.array_equal(z[200:300], design.stretched(draws, np.zeros(len(draws), int), 200, 300, 1.5, 3))
    assert len(np.unique(z[:, 0])) == 1000  # no draw twice, while there are enough
    assert not np.allclose(z, design.stretched(draws, np.zeros(len(draws), int), 0, 1000, 1.5, 4))
    assert design.stretched(draws[:10], np.zeros(10, int), 0, 25, 1.5, 3).shape == (25, 2)


def test_separate_places_are_stretched_each_about_itself() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat([0, 1], 500)
    draws = np.where(places == 0, 10.0, -10.0)[:, None] + 0.1 * rng.normal(size=(1000, 2))
    z = design.stretched(draws, places, 0, 1000, 1.5, 3)
    assert (np.abs(np.abs(z) - 10.0) < 1.0).all()
    assert z[z[:, 0] > 0].std(axis=0) == pytest.approx(0.15, rel=0.1)
