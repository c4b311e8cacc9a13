"""A population ends at the posterior by whatever moves it, and asks no more of the density than it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.infer.samplers.moves import Moves, compile_moves
from simfer.stages.infer.samplers.places import find_places
from simfer.stages.infer.samplers.population import Population, populate


def counted(log_ratio: Callable[[Any], Any]) -> tuple[Population, dict[str, int]]:
    """Return a population of two components at a posterior, and how often it was moved in either way."""
    moves, times = compile_moves(log_ratio, forward=False, together=100), {"leaps": 0, "values": 0}

    def leap(*arguments: Any) -> Any:
        times["leaps"] += len(arguments[0].z) * arguments[-1]
        return moves.leap(*arguments)

    def value(z: np.ndarray) -> np.ndarray:
        times["values"] += len(z)
        return moves.log_ratio(z)

    return populate(Moves(leap, value), 2, 4, 1000, seed=0), times


def test_of_a_gaussian_most_moves_need_no_gradient() -> None:
    precision = np.array([[40.0, 30.0], [30.0, 60.0]])
    found, times = counted(lambda z: -0.5 * (z - 0.7) @ precision @ (z - 0.7))
    covariance = np.linalg.inv(precision + np.eye(2))
    mean, z = covariance @ precision @ np.full(2, 0.7), found.z.reshape(-1, 2)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs(z.mean(axis=0) - mean).max() < 0.1 * sd.min()
    assert np.cov(z.T) / np.outer(sd, sd) == pytest.approx(covariance / np.outer(sd, sd), abs=0.1)
    spread = np.linalg.inv(precision) + np.eye(2)
    exact = -0.5 * np.full(2, 0.7) @ np.linalg.inv(spread) @ np.full(2, 0.7)
    exact -= 0.5 * np.linalg.slogdet(spread)[1] + 0.5 * np.linalg.slogdet(precision)[1]
    assert found.log_evidence.mean() == pytest.approx(exact, abs=0.1)
    assert times["leaps"] < 0.5 * times["values"] and found.num_gradients == times["leaps"] + times["values"]


def test_along_a_curved_ridge_leaps_move_the_points() -> None:
    _, times = counted(lambda z: -0.5 * ((z[1] - 0.5 * z[0] ** 2) / 0.02) ** 2)
    assert times["leaps"] > 3 * times["values"]


def test_where_there_is_no_gradient_the_density_decides() -> None:
    @jax.custom_jvp
    def square(z: Any) -> Any:
        return z**2

    @square.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return square(*primals), jnp.where(primals[0] > 0.0, 2.0 * primals[0], jnp.nan) * tangents[0]

    found, _ = counted(lambda z: -0.5 * square(z[0] / 0.5))
    first = found.z[..., 0]
    assert (first > 0.0).mean() == pytest.approx(0.5, abs=0.05)
    assert first.std() == pytest.approx(1.0 / np.sqrt(5.0), rel=0.06)


@pytest.mark.parametrize("apart", [0.0, 9.0, 12.0])
def test_places_are_told_apart_by_few_lines(apart: float) -> None:
    rng, asked = np.random.default_rng(0), []
    side = np.where(rng.random(2000) < 0.25, apart, 0.0)
    z = rng.standard_normal((2000, 3))
    z[:, 0] += side

    def heights(z: np.ndarray) -> np.ndarray:
        asked.append(len(z))
        hills = [np.log(w) - 0.5 * (z[:, 0] - x) ** 2 for w, x in ((0.75, 0.0), (0.25, apart))]
        return np.asarray(np.logaddexp(*hills) - 0.5 * (z[:, 1:] ** 2).sum(axis=1))

    place = find_places(heights, z, seed=0)
    assert place.max() == (apart > 0.0) and (place == (side > 0.0)).mean() > 0.99
    assert sum(asked) < 25_000
