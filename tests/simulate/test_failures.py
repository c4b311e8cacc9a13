"""What is said of failures: where in parameter space they lie, in words, in tables, and of posterior draws."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.failures import among_failed, counts, cure, drawn, tables, where_it_fails
from tests import helpers

RNG = np.random.default_rng(0)


def space(*names: str) -> Space:
    parameters = {name: {"dist": "Uniform", "low": 0.0, "high": 1.0} for name in names}
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def points(space: Space, num: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    z = RNG.normal(size=(num, space.size))
    return z, dict(zip(space.names, np.asarray(space.theta(z)).T, strict=True))


def test_the_parameter_and_the_side_are_named() -> None:
    z, theta = points(both := space("a", "b"), 500)
    text = where_it_fails(z, theta["b"] > 0.8, both)
    assert "where b > 0.8" in text or "where b > 0.79" in text
    assert "100% of the failed rows" in text and "0% of the others" in text
    assert "where a < 0.1" in where_it_fails(z, theta["a"] < 0.1, both)


def test_failures_that_are_mostly_there_are_counted() -> None:
    z, theta = points(one := space("a"), 1000)
    text = where_it_fails(z, (theta["a"] > 0.7) | (RNG.uniform(size=1000) < 0.02), one)
    assert "where a > 0.7" in text or "where a > 0.69" in text
    assert "100% of the failed" not in text


def test_when_every_row_failed_it_says_that_and_nothing_when_none_did() -> None:
    z, _ = points(one := space("a"), 5)
    assert where_it_fails(z, np.ones(5, bool), one) == "Every row failed."
    assert where_it_fails(z, np.zeros(5, bool), one) == ""


def test_a_row_or_two_are_named_since_they_mark_no_region() -> None:
    z, theta = points(both := space("a", "b"), 50)
    at = f"a = {theta['a'][7]:.4g}, b = {theta['b'][7]:.4g}"
    assert where_it_fails(z, np.arange(50) == 7, both) == f"1 row failed, at {at}."
    assert where_it_fails(z, np.isin(np.arange(50), [7, 9]), both).startswith(f"2 rows failed, at {at}; at a = ")


def test_failures_that_no_parameter_tells_are_said_to_be_such() -> None:
    z, _ = points(both := space("a", "b"), 1000)
    text = where_it_fails(z, np.random.default_rng(3).random(1000) < 0.1, both)
    assert text.startswith("No parameter clearly tells the ")


def test_tables_count_statuses_attempts_and_each_parameter() -> None:
    z, theta = points(both := space("a", "b"), 1000)
    status = np.where(theta["b"] > 0.8, Status.MAX_STEPS, Status.OK)
    status[theta["b"] > 0.9] = Status.NOT_FINITE
    attempt = np.where(theta["b"] > 0.7, 2, 1)
    ended, told = tables(z, status, attempt, both).values()
    assert [row["status"] for row in ended] == ["ok", "max steps", "not finite"]
    for row, s in zip(ended, (Status.OK, Status.MAX_STEPS, Status.NOT_FINITE), strict=True):
        assert row["rows"] == (status == s).sum() and row["share"] == pytest.approx((status == s).mean())
        assert row["after_attempt_1"] == ((status == s) & (attempt == 1)).sum()
        assert row["after_attempt_2"] == ((status == s) & (attempt == 2)).sum()
    assert [row["parameter"] for row in told] == ["b", "a"]
    assert told[0]["separation"] == pytest.approx(1.0) and told[1]["separation"] < 0.2
    assert told[0]["failed_there"] == 1.0 and told[0]["others_there"] == 0.0
    assert counts(status) == f"{row_count(status, 1):,} max steps, {row_count(status, 3):,} not finite"


def row_count(status: np.ndarray, value: int) -> int:
    return int((status == value).sum())


def test_no_table_without_a_failure_and_no_attempts_without_a_second() -> None:
    z, _ = points(one := space("a"), 100)
    none = np.zeros(100, int)
    assert tables(z, none, none + 1, one) == {}
    (ended,) = tables(z, none, 1 + (np.arange(100) < 5), one).values()  # the second attempt has solved all
    assert ended == [{"status": "ok", "rows": 100, "share": 1.0, "after_attempt_1": 95, "after_attempt_2": 5}]
    (ended,) = tables(z, none + Status.MAX_STEPS, none + 1, one).values()
    assert ended == [{"status": "max steps", "rows": 100, "share": 1.0}]


def test_points_among_failed_simulations_are_told_from_others() -> None:
    z = RNG.normal(size=(4000, 2))
    draws = RNG.normal(size=(500, 2))
    radius = np.hypot(*draws.T)  # failures in a ring, which no cut describes
    told = among_failed(draws, z, (np.hypot(*z.T) > 1) & (np.hypot(*z.T) < 2))
    inside = (radius > 1) & (radius < 2)
    assert (told == inside).mean() > 0.95
    assert not among_failed(draws, z, np.zeros(4000, bool)).any()
    assert among_failed(draws, z[:2], np.ones(2, bool)).all()  # fewer rows than neighbours


def test_what_is_drawn_has_the_boundary_where_the_failures_begin() -> None:
    parameters = {name: {"dist": "LogNormal", "loc": 0.0, "scale": 0.5} for name in ("u", "v", "w")}
    three = Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)
    z, theta = points(three, 2000)
    shown = drawn(z, theta["u"] * theta["w"] > 1.5, three)
    assert set(shown.plane) == {"u", "w"} and shown.boundary is not None
    x, y = shown.boundary
    assert np.allclose((x * y)[abs(np.log(x)) < 1], 1.5, rtol=0.1)
    for failed in (np.ones(2000, bool), np.arange(2000) == 5, theta["v"] > 1.2):
        shown = drawn(z, failed, three)
        assert len(shown.plane) == 2 and shown.boundary is None
    assert shown.along[0] == "v" and shown.cuts == pytest.approx([1.2], rel=0.01)


def test_what_helps_fits_the_kind_of_simulator() -> None:
    """A function has no solver to be made stiffer, a stochastic equation no stiff one."""
    by_name = {
        "linear": {"x": [0.0, 1.0]},
        "lotka_volterra": {"times": [0.0, 1.0]},
        "ornstein_uhlenbeck": {"times": [0.0, 1.0]},
    }
    out_of_steps = np.array([Status.OK, Status.MAX_STEPS])
    said = {}
    for name, options in by_name.items():
        settings = Simulate(simulator=name, num_simulations=10, options=options)
        said[name] = cure(settings, out_of_steps)
        assert 'simulate.failures = "impossible"' in said[name]
        assert "impossible" not in cure(settings.model_copy(update={"failures": "impossible"}), out_of_steps)
    assert "Rodas5P" in said["lotka_volterra"] and "max_steps" in said["lotka_volterra"]
    assert "solver" not in said["linear"]
    assert "Rodas5P" not in said["ornstein_uhlenbeck"] and "[simulate.solver]" in said["ornstein_uhlenbeck"]


def test_a_region_that_a_handful_of_rows_mark_is_called_a_hint() -> None:
    z, theta = points(one := space("a"), 40)
    assert "Only 4 rows failed: take this for a hint." in where_it_fails(z, theta["a"] >= np.sort(theta["a"])[-4], one)
    assert "Only 4 rows did not fail" in where_it_fails(z, theta["a"] < np.sort(theta["a"])[-4], one)
    assert "hint" not in where_it_fails(z, theta["a"] > np.median(theta["a"]), one)
