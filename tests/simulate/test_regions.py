"""The region that failures are said to lie in is the one that they were put into."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.stages.model.space import Space
from simfer.stages.simulate.regions import Region, best_region, by_parameter
from tests import helpers

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(2000, 3))


def space(**parameters: object) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


SPACE = space(
    a={"dist": "Uniform", "low": 0.0, "high": 10.0},
    b={"dist": "LogNormal", "loc": 0.0, "scale": 1.0},
    fixed=3.0,
    c={"dist": "Normal"},
)
A, B, C = np.asarray(SPACE.theta(Z)).T


def found(failed: np.ndarray, z: np.ndarray = Z) -> Region:
    region = best_region(z, failed, SPACE)
    assert region is not None
    return region


@pytest.mark.parametrize(
    ("failed", "words", "cuts"),
    [
        (A > 8, "a > {}", [8]),
        (B < 0.3, "b < {}", [0.3]),
        ((A > 4) & (A < 5), "{} < a < {}", [4, 5]),
        ((B < 0.3) | (B > 3), "b < {} or b > {}", [0.3, 3]),  # two regions, of which one cut sees one
    ],
)
def test_a_range_of_one_parameter_is_found_and_told(failed: np.ndarray, words: str, cuts: list[float]) -> None:
    region = found(failed)
    assert region.separation == pytest.approx(1.0)
    assert np.array_equal(region.holds(Z, SPACE), failed)
    assert region.cuts(SPACE) == pytest.approx(cuts, rel=0.02)
    assert region.words(SPACE) == words.format(*(f"{cut:.4g}" for cut in region.cuts(SPACE)))


def test_a_product_of_two_parameters_is_found() -> None:
    # b exp(c) > 5 is z_b + z_c > log 5, a line at 45 degrees.
    failed = B * np.exp(C) > 5
    region = found(failed)
    assert set(region.weights) == {"b", "c"}
    assert region.weights["b"] == pytest.approx(region.weights["c"], abs=0.08)
    assert region.cuts(SPACE)[0] == pytest.approx(np.log(5) / np.sqrt(2), abs=0.05)
    assert (region.holds(Z, SPACE) == failed).mean() > 0.99
    assert "b is high" in region.words(SPACE) and "c is high" in region.words(SPACE)
    singles = by_parameter(Z, failed, SPACE)
    assert {*list(singles)[:2]} == {"b", "c"} and max(r.separation for r in singles.values()) < 0.8


def test_a_ratio_has_one_parameter_high_and_the_other_low() -> None:
    words = found(B / np.exp(C) > 5).words(SPACE)
    assert "b is high" in words and "c is low" in words


def test_two_parameters_are_not_named_where_one_will_do() -> None:
    failed = (A > 8) & (RNG.random(len(A)) < 0.7)
    assert list(found(failed).weights) == ["a"]


@pytest.mark.parametrize("num", [3, 30, 300])
def test_failures_at_random_are_given_no_region(num: int) -> None:
    some = 0
    for seed in range(20):
        failed = np.zeros(len(Z), bool)
        failed[np.random.default_rng(seed).permutation(len(Z))[:num]] = True
        some += best_region(Z, failed, SPACE) is not None
    assert some <= 3  # one in twenty is the level of each parameter's test


def test_a_cut_never_parts_equal_values() -> None:
    z = np.repeat([[-1.0], [0.0], [1.0]], 50, axis=0)
    failed = np.arange(150) >= 80  # twenty of the rows at 0, all at 1
    region = next(iter(by_parameter(z, failed, space(c={"dist": "Normal"})).values()))
    assert region.low == pytest.approx(0.5) and region.separation == pytest.approx(50 / 70)


@pytest.mark.parametrize("failed", [np.ones(2000, bool), np.zeros(2000, bool), np.arange(2000) < 2])
def test_too_little_to_tell_from_gives_no_region(failed: np.ndarray) -> None:
    assert best_region(Z, failed, SPACE) is None
