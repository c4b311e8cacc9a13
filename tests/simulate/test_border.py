"""The border of what can be solved: straight, curved, absent; learned from rows, met from both sides, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simfer.stages.model.space import Space
from simfer.stages.simulate import border as borders
from simfer.stages.simulate import design
from simfer.stages.simulate.border import Border
from tests import helpers


def space(size: int) -> Space:
    parameters = {name: {"dist": "Normal"} for name in "abc"[:size]}
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def learned(size: int, solved: Callable[[np.ndarray], np.ndarray], rows: int = 256) -> Border:
    z = design.rows("sobol", 0, rows, rows, size, 0)
    border = Border.learn(z, solved(z), space(size))
    assert border is not None
    return border


@cache
def border_of(name: str) -> Border:
    """Learn one of the borders below, once for all tests of it."""
    return learned(*BORDERS[name])


BORDERS = {
    "line": (2, lambda z: z[:, 0] > z[:, 1] - 0.7),
    "circle": (2, lambda z: (z**2).sum(axis=1) < 1.5),
    "hole": (2, lambda z: ((z - [1.0, 0.5]) ** 2).sum(axis=1) > 0.8),
    "corner": (2, lambda z: ~((z[:, 0] > 0.3) & (z[:, 1] > 0.2))),
    "plane": (3, lambda z: z.sum(axis=1) < 1.0),
    "saddle": (3, lambda z: z[:, 0] * z[:, 1] + z[:, 2] < 0.8),
}


@pytest.mark.parametrize("name", BORDERS)
def test_a_border_is_found_wherever_it_runs(name: str) -> None:
    """Two in a hundred points of the prior on its wrong side, at most: of a few rows, more cannot be known."""
    size, solved = BORDERS[name]
    z = np.random.default_rng(0).normal(size=(4000, size))
    assert np.mean(border_of(name).holds(z) != solved(z)) < 0.02


def test_rows_far_more_than_are_learned_from_sharpen_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borders, "_MOST", 400)  # the work goes with the cube
    size, solved = BORDERS["circle"]
    z = np.random.default_rng(0).normal(size=(4000, size))
    assert np.mean(learned(size, solved, rows=4096).holds(z) != solved(z)) < 0.004
    assert np.mean(learned(size, solved, rows=400).holds(z) != solved(z)) > 0.004


@pytest.mark.parametrize(("share", "rows"), [(0.02, 256), (0.1, 256), (0.25, 2048)])
def test_failures_that_lie_nowhere_have_no_border(share: float, rows: int) -> None:
    """Of many rows those near a failed one are learned from, and failures are no likelier for that."""
    chance = np.random.default_rng(1).random(rows)
    border = learned(2, lambda z: chance > share, rows)
    z = np.random.default_rng(2).normal(size=(2000, 2))
    assert border.holds(z).mean() > 0.999
    assert border.drawn_in(z).holds(z).mean() > 0.95


@pytest.mark.parametrize("name", ["line", "circle", "hole", "corner"])
def test_few_failures_are_left_before_a_border_that_is_drawn_in(name: str) -> None:
    size, solved = BORDERS[name]
    border, z = learned(size, solved, rows=64), np.random.default_rng(3).normal(size=(4000, size))
    kept = z[border.holds(z)]
    surely = kept[border.drawn_in(kept).holds(kept)]
    assert 0.8 * len(kept) < len(surely) < len(kept)
    assert 4 * (~solved(surely)).sum() < (~solved(kept)).sum()


def test_rows_of_one_kind_have_no_border() -> None:
    z = np.zeros((5, 2))
    assert Border.learn(z, np.ones(5, bool), space(2)) is None
    assert Border.learn(z, np.zeros(5, bool), space(2)) is None


def test_points_that_cannot_be_solved_are_put_on_both_sides_of_the_border() -> None:
    border, rng = border_of("line"), np.random.default_rng(3)
    draws = rng.normal(size=(4000, 2))
    inside = draws[border.holds(draws)][:500]
    z = np.median(inside, axis=0) + 2.0 * (inside - np.median(inside, axis=0))
    moved, out = border.both_sides(inside, z, seed=0), ~border.holds(z)
    assert out.sum() > 20 and np.array_equal(moved[~out], z[~out])
    depth = np.abs(z[:, 0] - z[:, 1] + 0.7)
    nearer = np.abs(moved[:, 0] - moved[:, 1] + 0.7)
    assert np.median(nearer[out]) < 0.3 * np.median(depth[out])
    assert 0.3 < border.holds(moved[out]).mean() < 0.7


def test_a_border_is_kept_on_disk(tmp_path: Path) -> None:
    border = border_of("circle")
    border.save(tmp_path)
    again = Border.load(tmp_path, space(2))
    assert again is not None
    z = np.random.default_rng(4).normal(size=(50, 2))
    assert np.array_equal(again.latent(z), border.latent(z))
    assert Border.load(tmp_path / "elsewhere", space(2)) is None


def test_a_design_keeps_to_the_side_that_can_be_solved() -> None:
    """Of a posterior that leans on failures: nearly all of its rows fail, and none of what is simulated for it."""
    size, solved = BORDERS["line"]
    border, z = border_of("line"), np.random.default_rng(3).normal([-1.5, 1.0], 0.5, (400, 2))
    inside = border.within(z, design.rows("sobol", 0, 256, 256, size, 0))
    moved = border.both_sides(inside[np.arange(len(z)) % len(inside)], z, 0, (0.5, 0.98))
    assert solved(z).mean() < 0.1 and solved(moved).mean() > 0.95
