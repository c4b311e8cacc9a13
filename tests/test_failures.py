"""Where in parameter space a simulator fails, in words."""

from __future__ import annotations

import numpy as np

from stages.failures import where_it_fails

RNG = np.random.default_rng(0)


def test_the_parameter_and_the_side_are_named() -> None:
    theta = {"a": RNG.normal(size=500), "b": RNG.uniform(size=500)}
    text = where_it_fails(theta, theta["b"] > 0.8)
    assert "where b > 0.8" in text and "100% of the failed rows" in text and "0% of the others" in text
    text = where_it_fails(theta, theta["a"] < -1.0)
    assert "where a < -1.0" in text or "where a < -0.9" in text


def test_failures_that_are_mostly_there_are_counted() -> None:
    theta = {"a": RNG.uniform(size=1000)}
    failed = (theta["a"] > 0.7) | (RNG.uniform(size=1000) < 0.02)
    text = where_it_fails(theta, failed)
    assert "where a > 0.7" in text or "where a > 0.6" in text
    assert "100% of the failed" not in text


def test_when_every_row_failed_it_says_that() -> None:
    assert where_it_fails({"a": np.arange(5.0)}, np.ones(5, bool)) == "Every row failed."


def test_one_failed_row_is_enough_to_say_where() -> None:
    failed = np.zeros(50, bool)
    failed[-1] = True
    assert "where a > 48.5" in where_it_fails({"a": np.arange(50.0)}, failed)
    assert "where a < 0.5" in where_it_fails({"a": np.arange(50.0)}, failed[::-1])
