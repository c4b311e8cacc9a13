"""The tests of simulated data among those of a flow: their level, and what they see."""

from __future__ import annotations

import numpy as np
import pytest

from simfer.stages.check.density import Exchanged, alike_p, energy_p
from simfer.stages.check.effect import effect_p
from simfer.stages.check.members import members_apart, misplaced, more_than_members
from simfer.stages.check.own_draw import own_draw_p

_DRAWS, _EACH = 200, 16


def exchanged(simulated: np.ndarray, rng: np.random.Generator) -> Exchanged:
    """Return what standard normal data of a flow would be beside simulated ones; the score is their sum."""
    data = rng.normal(size=(_DRAWS, _EACH, simulated.shape[1]))
    data[:, 0] = simulated
    scores = data.sum(axis=2, keepdims=True) / np.sqrt(data.shape[2])
    return Exchanged(data, -0.5 * (data**2).sum(axis=2), scores, data, 0.5, 0.5)


def simulate(name: str, rng: np.random.Generator) -> np.ndarray:
    z = rng.normal(size=(_DRAWS, 4))
    return {
        "right": z,
        "shifted": z + 0.3,
        "narrow": 0.75 * z,
        "skewed": (rng.gamma(4.0, size=z.shape) - 4.0) / 2.0,
        "shared switch": (rng.choice([-0.9, 0.9], size=(_DRAWS, 1)) + 0.3 * z),
        "shared size": z * np.exp(0.5 * rng.normal(size=(_DRAWS, 1))),
        "paired": np.concatenate([z[:, :2], np.sign(z[:, :2]) * np.abs(z[:, 2:])], axis=1),
    }[name]


def test_chance_fails_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(0)
    p = np.array([alike_p(exchanged(simulate("right", rng), rng)) for _ in range(60)])
    assert np.count_nonzero(p < 0.05) <= 8  # 3 are expected at most; 8 or more once in 100


@pytest.mark.parametrize("name", ["shifted", "narrow", "skewed", "shared switch", "shared size", "paired"])
def test_another_law_is_seen(name: str) -> None:
    rng = np.random.default_rng(1)
    assert alike_p(exchanged(simulate(name, rng), rng)) < 0.005


def test_the_energy_test_sees_what_no_single_coordinate_does() -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(200, 4, 2))
    assert energy_p(data) > 0.01
    data[:, 0, 1] = np.abs(data[:, 0, 1]) * np.sign(data[:, 0, 0])
    assert energy_p(data) < 0.005


def found(
    rng: np.random.Generator, width: float = 1.0, rough: float = 0.0, slope: float = 1.0, count: int = 256
) -> float:
    """Look for the draws that made data y = theta + noise, by a density of another width, or with errors at random."""
    theta, noise = rng.normal(size=(count, 128, 1)), rng.normal(size=(count, 1, 1))
    data = theta[:, :1] + noise
    logs = -0.5 * ((data - slope * theta)[..., 0] / width) ** 2
    return own_draw_p(logs + rough * rng.normal(size=logs.shape), theta, data[:, 0])


def test_data_find_their_own_draw_by_the_right_density_alone() -> None:
    rng = np.random.default_rng(5)
    right = np.array([found(rng) for _ in range(60)])
    assert np.count_nonzero(right < 0.05) <= 8
    assert found(rng, width=0.7) < 0.005  # posteriors too narrow
    assert found(rng, width=1.4) < 0.005  # and too wide
    assert found(rng, rough=1.0) < 0.005  # two parameters weighed against each other by chance
    assert found(rng, slope=0.0) < 0.005  # a parameter that the density does not see


def test_a_large_check_is_no_harsher_on_an_error_and_surer_of_it() -> None:
    """Widths within 5 % pass however many draws there are, by whose own p they would fail; a third never passes."""
    rng, many = np.random.default_rng(8), 4096
    small, large = found(rng, width=0.95, count=256), found(rng, width=0.95, count=many)
    assert effect_p(small, 256) == pytest.approx(small) and small > 0.005
    assert large < 0.005 < effect_p(large, many)
    assert effect_p(found(rng, width=0.7, count=many), many) < 0.005
    assert effect_p(1.0, many) > 0.1 and effect_p(0.0, many) == 0.0 and np.isnan(effect_p(float("nan"), many))


@pytest.mark.parametrize(("slope", "is_right"), [(1.0, True), (0.0, False)])
def test_that_the_scatter_goes_with_a_parameter_is_seen(slope: float, is_right: bool) -> None:
    # The parameter moves no mean: a density that does not know it is right about every output's mean and pooled sd.
    rng = np.random.default_rng(7)
    log_sd = 0.5 * rng.normal(size=(256, 128, 1))
    data = np.exp(log_sd[:, :1]) * rng.normal(size=(256, 1, 5))
    logs = (-0.5 * (data / np.exp(slope * log_sd)) ** 2 - slope * log_sd).sum(axis=2)
    assert (own_draw_p(logs, 2.0 * log_sd, data[:, 0]) >= 0.005) == is_right


def test_members_are_apart_by_place_by_width_and_by_shape() -> None:
    draws = np.random.default_rng(6).normal(size=(4000, 2))

    def apart(*logs: np.ndarray) -> list[float]:
        return [round(value, 2) for value in members_apart(np.stack(logs, axis=1), draws)]

    x = draws[:, 0]
    assert apart(x, x) == [0.0, 0.0, 0.0]
    shift, change, mass = apart(0.2 * x, -0.2 * x)  # by 0.2 sd each, and 0.2 phi(0) of the mass: twice the mean square
    assert shift == pytest.approx(0.28, abs=0.02) and change < 0.05 and mass == pytest.approx(0.11, abs=0.01)
    ripples = np.cos(12.0 * x)  # finer than any mean or width
    shift, change, mass = apart(0.5 * ripples, -0.5 * ripples)
    assert shift < 0.03 and change < 0.03 and mass > 0.14


def test_mass_out_of_place_is_what_the_ensemble_errs_by_and_not_what_its_members_differ_by() -> None:
    """Means of rows in five parts, each member without one: what is told is the total variation from the truth."""
    rng, draws = np.random.default_rng(9), np.random.default_rng(10).normal(size=(1000, 1))
    told, true, shifts = [], [], []
    for rows in rng.normal(size=(60, 5, 20)):
        means = np.array([np.delete(rows, part, axis=0).mean() for part in range(5)])
        logs = (
            -0.5 * (draws + rows.mean() - means) ** 2
        )  # the draws are of all together, whose mean is that of the rows
        told.append(misplaced(logs, draws, 5))
        true.append(abs(rows.mean()) / np.sqrt(2.0 * np.pi))
        shifts.append(more_than_members(5) * members_apart(logs, draws).shift)
    rms = lambda values: np.sqrt(np.mean(np.square(values)))  # noqa: E731
    assert rms(told) == pytest.approx(rms(true), rel=0.25)
    assert rms(shifts) == pytest.approx(rms(true) * np.sqrt(2.0 * np.pi), rel=0.25)  # that of a mean, in sd


def test_mass_out_of_place_by_less_than_a_tenth_of_an_sd_is_not_counted() -> None:
    draws = np.random.default_rng(11).normal(size=(2000, 2))

    def told(ripples: np.ndarray, named: np.ndarray = draws) -> float:
        return misplaced(np.stack([0.5 * ripples, -0.5 * ripples], axis=1), named, 5)

    assert told(np.cos(60.0 * draws[:, 0])) < 0.5 * told(np.cos(6.0 * draws[:, 0]))
    ridge = draws @ np.array([[1.0, 1.0], [0.01, -0.01]])  # of an sd of a hundredth, across: seen all the same
    assert told(draws[:, 1] ** 2 - 1.0, ridge) > 0.15
    modes = np.where(draws[:, :1] > 0.0, 5.0, -5.0) + 0.02 * draws[:, 1:]  # and narrow modes far apart
    assert told(draws[:, 1] ** 2 - 1.0, modes) > 0.15


def test_mass_out_of_place_is_that_of_the_worst_plane_of_two_parameters() -> None:
    draws = np.random.default_rng(12).normal(size=(1200, 30))

    def told(log: np.ndarray, p: int) -> float:
        return misplaced(np.stack([log, -log], axis=1), draws[:, :p], 2)

    alone, bent, threefold = (
        0.2 * draws[:, 0],
        0.3 * draws[:, 0] * draws[:, 1],
        0.3 * np.sign(draws[:, :3].prod(axis=1)),
    )
    by_itself = told(alone, 1)
    assert by_itself > 0.05
    assert told(alone, 5) == pytest.approx(by_itself, rel=0.2)  # the same with others beside it
    assert told(alone, 30) == pytest.approx(by_itself, rel=0.4)  # and with so many that fewer draws are asked
    assert told(bent, 5) == pytest.approx(told(bent, 2)) and told(bent, 2) > 4 * told(bent, 1)
    assert told(threefold, 3) < 0.4 * told(0.3 * np.sign(draws[:, 0]), 3)  # no plane shows it


def test_what_is_no_number_passes_nothing() -> None:
    rng = np.random.default_rng(4)
    found = exchanged(simulate("right", rng), rng)
    found.log_density[3, 2] = np.nan
    assert np.isnan(alike_p(found))
    assert np.isnan(misplaced(np.full((100, 3), np.nan), rng.normal(size=(100, 1)), 5))
    assert np.isnan(misplaced(np.zeros((100, 1)), rng.normal(size=(100, 1)), 5))
