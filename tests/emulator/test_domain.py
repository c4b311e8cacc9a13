"""A domain holds rows like those that it is made of, in however many dimensions, and nothing that is far from them."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.stages.emulator.domain import Domain

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "count"), [(2, 500), (3, 60), (10, 200), (30, 300), (100, 1000)])
def test_it_holds_fresh_rows_of_its_own_kind(size: int, count: int) -> None:
    domain = Domain.of(RNG.normal(size=(count, size)))
    assert np.mean(np.asarray(domain.holds(RNG.normal(size=(2000, size))))) > 0.95
    assert not domain.holds(np.full(size, np.nan))


@pytest.mark.parametrize(("size", "count"), [(2, 500), (10, 200), (30, 300)])
def test_it_does_not_hold_what_one_parameter_takes_far_away(size: int, count: int) -> None:
    domain = Domain.of(RNG.normal(size=(count, size)))
    posterior = 0.5 * RNG.normal(size=(500, size))
    posterior[:, size // 2] += 9.0
    assert np.mean(np.asarray(domain.holds(posterior))) < 0.05


def test_an_ellipsoid_is_as_slanted_as_its_rows() -> None:
    rows = RNG.normal(size=(260, 20))
    rows[:, -1] = rows[:, :-1].mean(axis=1) + 0.02 * rows[:, -1]  # the last parameter follows all others
    domain = Domain.of(rows)
    assert domain.is_ellipsoid and np.mean(np.asarray(domain.holds(0.5 * rows))) == 1.0
    beside = 0.5 * rows
    beside[:, -1] += 0.3
    assert np.abs(beside[:, -1]).max() < 2.0 * np.abs(rows[:, -1]).max()
    assert not np.asarray(domain.holds(beside)).any()


def test_a_box_that_holds_its_own_kind_is_left_as_it_is() -> None:
    rows = RNG.normal(size=(300, 3))
    domain = Domain.of(rows)
    along = np.asarray(domain.along(rows))
    assert not domain.is_ellipsoid and along.shape == (300, 3)
    assert np.allclose(domain.low, along.min(axis=0)) and np.allclose(domain.high, along.max(axis=0))


def test_rows_that_are_hardly_more_than_dimensions_are_no_domain() -> None:
    domain = Domain.of(RNG.normal(size=(40, 30)))
    assert not np.asarray(domain.holds(RNG.normal(size=(100, 30)))).any()


def test_of_one_parameter_there_is_a_range() -> None:
    assert Domain.of(np.linspace(-1.0, 1.0, 11)[:, None]).holds(np.array([[0.0], [0.99], [1.1]])).tolist() == [1, 1, 0]
