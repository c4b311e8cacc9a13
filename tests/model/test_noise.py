"""Each noise family against SciPy, and data that it could not have made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from pydantic import TypeAdapter
from scipy import integrate, stats

from simfer.stages.errors import ConfigError
from simfer.stages.model import impossible
from simfer.stages.model import noise as noises
from simfer.stages.model.covariance import read_covariance
from simfer.stages.model.information import variance_of_output
from simfer.stages.model.observation import Series
from simfer.stages.settings import NOISE, AnyNoise, Noise
from simfer.stages.settings.noise import arguments

Y = np.array([0.7, 3.0, 12.5])
COUNTS = np.array([1.0, 0.0, 14.0])


def made(**table: Any) -> Noise:
    return TypeAdapter(AnyNoise).validate_python(table)  # type: ignore[no-any-return]


def series(data: np.ndarray) -> Series:
    return Series(data, np.arange(len(data)))


def log_prob(noise: Noise, data: np.ndarray, y: np.ndarray = Y) -> np.ndarray:
    given = {name: jnp.asarray(value) for name, value in arguments(noise).items()}
    return np.asarray(noises.family(noise, series(data))(jnp.asarray(y), **given).log_prob(jnp.asarray(data)))


CASES: dict[str, tuple[dict[str, Any], np.ndarray, Any]] = {
    "none": ({}, Y + [0.0, 0.0, 1e-9], lambda data: np.where(data == Y, 0.0, -np.inf)),  # a datum is the output
    "Normal": ({"scale": 0.4}, np.array([0.5, 3.3, 12.0]), stats.norm(Y, 0.4).logpdf),
    "LogNormal": ({"scale": 0.3}, np.array([0.5, 3.3, 12.0]), stats.lognorm(0.3, scale=Y).logpdf),
    "StudentT": ({"df": 3.5, "scale": 0.4}, np.array([0.5, 9.0, 12.0]), stats.t(3.5, Y, 0.4).logpdf),
    "Poisson": ({}, COUNTS, stats.poisson(Y).logpmf),
    # SciPy's n is the concentration, and p = n / (n + mean).
    "NegativeBinomial2": ({"concentration": 2.5}, COUNTS, stats.nbinom(2.5, 2.5 / (2.5 + Y)).logpmf),
    "Binomial": ({"total_count": 20, "population": 50.0}, COUNTS, stats.binom(20, Y / 50.0).logpmf),
}


@pytest.mark.parametrize("name", CASES)
def test_log_probability_is_scipys(name: str) -> None:
    arguments, data, exact = CASES[name]
    assert np.allclose(log_prob(made(dist=name, **arguments), data), exact(data), rtol=1e-6)


def test_every_family_has_a_case() -> None:
    varied = {name for name in NOISE if name.startswith(("Truncated", "ZeroInflated")) or name.endswith("Outliers")}
    assert set(NOISE) - varied - {"MultivariateNormal"} == set(CASES)  # those: test_noise_variants


def test_the_inverse_concentration_is_the_inverse() -> None:
    one = log_prob(made(dist="NegativeBinomial2", concentration=4.0), COUNTS)
    assert np.allclose(one, log_prob(made(dist="NegativeBinomial2", inverse_concentration=0.25), COUNTS))
    with pytest.raises(ValueError, match="either concentration or inverse_concentration"):
        made(dist="NegativeBinomial2")


def test_the_output_is_the_median_or_the_mean_as_documented() -> None:
    key = jax.random.key(0)
    for name, statistic in (("LogNormal", np.median), ("Normal", np.mean), ("Poisson", np.mean)):
        noise = made(dist=name, **CASES[name][0])
        given = {k: jnp.asarray(v) for k, v in arguments(noise).items()}
        draws = noises.family(noise, series(Y))(jnp.asarray(Y), **given).sample(key, (20000,))
        assert statistic(np.asarray(draws), axis=0) == pytest.approx(Y, rel=0.03), name


def test_a_joint_gaussian_with_a_covariance_from_a_file(tmp_path: Path) -> None:
    covariance = np.array([[0.5, 0.2, 0.0], [0.2, 0.4, -0.1], [0.0, -0.1, 0.3]])
    np.savetxt(tmp_path / "c.csv", covariance, delimiter=",")
    noise = made(dist="MultivariateNormal", covariance=str(tmp_path / "c.csv"))
    data = np.array([0.5, 3.3, 12.0])
    assert log_prob(noise, data) == pytest.approx(stats.multivariate_normal.logpdf(data, Y, covariance))
    assert impossible.mistakes("y", noise, series(data)) == []


COVARIANCE = np.array([[0.5, 0.2, 0.0], [0.2, 0.4, -0.1], [0.0, -0.1, 0.3]])
NEAR = np.array([0.9, 2.7, 12.0])


def offset_noise(folder: Path, scale: float | None) -> Noise:
    np.savetxt(folder / "c.csv", COVARIANCE, delimiter=",")
    return made(dist="MultivariateNormal", covariance=str(folder / "c.csv"), offset_scale=scale)


def test_an_offset_that_data_share_is_integrated_over(tmp_path: Path) -> None:
    def joint(offset: float) -> float:
        density = stats.multivariate_normal.pdf(NEAR, Y + offset, COVARIANCE)
        return float(density * stats.norm.pdf(offset, 0.0, 0.7))

    exact = np.log(integrate.quad(joint, -8.0, 8.0, epsabs=0.0, epsrel=1e-12)[0])
    assert log_prob(offset_noise(tmp_path, 0.7), NEAR) == pytest.approx(exact, rel=1e-10)


def test_a_wide_offset_leaves_what_it_cannot_move(tmp_path: Path) -> None:
    # Flat in the limit: the precision loses the direction of ones, whatever the data's common level.
    noise, precision = offset_noise(tmp_path, 1e4), np.linalg.inv(COVARIANCE)
    common = precision.sum(axis=0)
    projected = precision - np.outer(common, common) / common.sum()
    outputs = Y + np.array([[0.0, 0.0, 0.0], [0.3, -0.2, 0.5], [40.0, 41.0, 39.5]])
    got = np.array([float(log_prob(noise, NEAR, y)) for y in outputs])
    exact = np.array([-0.5 * (NEAR - y) @ projected @ (NEAR - y) for y in outputs])
    assert np.allclose(np.diff(got), np.diff(exact), atol=1e-4)


def test_an_offset_as_the_data_say_it_is(tmp_path: Path) -> None:
    # Given the outputs it is Gaussian: moments by quadrature of prior times likelihood.
    noise = offset_noise(tmp_path, 0.7)
    grid = np.linspace(-8.0, 8.0, 40001)
    weights = stats.norm.pdf(grid, 0.0, 0.7) * stats.multivariate_normal.pdf(NEAR - Y - grid[:, None], cov=COVARIANCE)
    weights /= weights.sum()
    mean, variance = weights @ grid, weights @ grid**2 - (weights @ grid) ** 2
    distribution = noises.family(noise, series(NEAR))(jnp.asarray(Y))
    new = noises.at_observed_offset(noise, distribution, NEAR)
    assert np.allclose(new.mean, Y + mean) and np.allclose(new.covariance_matrix, COVARIANCE + variance)
    without = offset_noise(tmp_path, None)
    plain = noises.family(without, series(NEAR))(jnp.asarray(Y))
    assert noises.at_observed_offset(without, plain, NEAR) is plain
    assert [float(x) for x in noises.observed_offset(without, plain, NEAR)] == [0.0, 0.0]


def test_an_offset_so_wide_that_rounding_would_spoil_the_rest_is_refused(tmp_path: Path) -> None:
    (problem,) = impossible.mistakes("y", offset_noise(tmp_path, 1e9), series(NEAR))
    assert problem.where == "noise: offset_scale" and "got 1e+09, expected at most" in problem.what
    assert impossible.mistakes("y", offset_noise(tmp_path, 1e4), series(NEAR)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,0\n0,1\n", "got 2 x 2 numbers, expected 3 x 3"),
        ("1,2,3\n2,1,x\n3,1,1\n", "cannot be read as numbers"),
        ("1,0.5,0\n0.4,1,0\n0,0,1\n", "symmetric and positive definite"),
        ("1,2,0\n2,1,0\n0,0,1\n", "symmetric and positive definite"),
        ("1,0,0\n0,nan,0\n0,0,1\n", "finite|symmetric and positive definite"),
        ("", "cannot be read|got"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
def test_a_covariance_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.csv: .*({words})"):
        read_covariance(str(tmp_path / "c.csv"), 3)


@pytest.mark.parametrize(
    ("table", "data", "words"),
    [
        ({"dist": "LogNormal", "scale": 0.1}, [1.0, 0.0, -2.0], "got 0, -2; LogNormal noise needs numbers above 0"),
        ({"dist": "Poisson"}, [1.0, 2.5], "got 2.5; Poisson noise needs whole numbers"),
        ({"dist": "NegativeBinomial2", "concentration": 1.0}, [-1.0], "got -1; NegativeBinomial2 noise needs whole"),
        ({"dist": "Binomial", "total_count": 10}, [3.0, 11.0], "got 11, above noise.y.total_count = 10"),
    ],
)
def test_data_that_a_family_cannot_make(table: dict[str, Any], data: list[float], words: str) -> None:
    (problem,) = impossible.mistakes("y", made(**table), series(np.asarray(data)))
    assert problem.where == "observation.file: column y" and words in problem.what


def test_an_output_out_of_range_has_a_finite_gradient() -> None:
    # An emulator may dip below zero: NUTS must be pushed back, not stopped.
    for name in ("LogNormal", "Poisson", "NegativeBinomial2"):
        noise = made(dist=name, **CASES[name][0])
        given = {k: jnp.asarray(v) for k, v in arguments(noise).items()}
        family = noises.family(noise, series(COUNTS))
        value, slope = jax.value_and_grad(lambda y, f=family, g=given: f(y, **g).log_prob(5.0))(jnp.asarray(-0.3))
        assert np.isfinite(value) and np.isfinite(slope), name


@pytest.mark.parametrize("y", [-0.3, 0.0, 50.0, 60.0])
def test_a_binomial_share_out_of_range_has_a_finite_log_probability(y: float) -> None:
    noise = made(dist="Binomial", **CASES["Binomial"][0])
    family = noises.family(noise, series(COUNTS))

    def at(y: Any) -> Any:
        return family(y, total_count=jnp.asarray(20), population=jnp.asarray(50.0)).log_prob(5.0)

    value, slope = jax.value_and_grad(at)(jnp.asarray(y))
    assert np.isfinite(value) and np.isfinite(slope)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in noises.LOGARITHMIC]
)  # whose outputs are medians
def test_data_are_expected_at_what_is_said_of_an_output(name: str) -> None:
    noise = made(dist=name, **CASES[name][0])
    given = {k: jnp.asarray(v) for k, v in arguments(noise).items()}
    expected = noises.family(noise, series(COUNTS))(jnp.asarray(Y), **given).mean
    per_output = noises.data_per_output(noise, series(COUNTS))
    assert per_output is not None and np.allclose(expected, Y * per_output)
    assert np.allclose(noises.in_outputs_unit(noise, series(Y * per_output)).values, Y)


def test_a_datum_of_no_trials_is_nothing_in_the_unit_of_the_outputs() -> None:
    counted = Series(np.array([3.0, 0.0, 4.0]), np.arange(3), {"tested": np.array([10.0, 0.0, 20.0])})
    shown = noises.in_outputs_unit(made(dist="Binomial", total_count="tested", population=50.0), counted)
    assert shown.values.tolist() == [15.0, 10.0] and shown.index.tolist() == [0, 2]
    assert shown.columns["tested"].tolist() == [10.0, 20.0]


def variance(noise: Any, y: np.ndarray = Y) -> np.ndarray:
    return np.asarray(variance_of_output(noise, jnp.asarray(y)))


def test_noise_without_a_variance_is_measured_by_its_information() -> None:
    def information(pdf: Any) -> float:  # of a location, by quadrature
        slope = lambda x: (np.log(pdf(x + 1e-4)) - np.log(pdf(x - 1e-4))) / 2e-4  # noqa: E731
        return float(integrate.quad(lambda x: slope(x) ** 2 * pdf(x), -200, 200, limit=500)[0])

    for df in (1.5, 1.0, 7.0):
        expected = 0.4**2 / information(stats.t(df).pdf)
        assert variance(lambda y, df=df: dist.StudentT(df, y, 0.4)) == pytest.approx(expected, rel=1e-3)
    assert variance(lambda y: dist.Cauchy(y, 0.4)) == pytest.approx(2 * 0.4**2)


def test_the_information_of_ones_own_noise_is_drawn() -> None:
    class Nameless(dist.Normal):
        @property
        def mean(self) -> Any:
            raise NotImplementedError

    assert variance(lambda y: Nameless(jnp.log(y), 0.3)) == pytest.approx(0.3**2 * Y**2, rel=0.15)


def test_where_there_is_a_variance_it_is_taken_in_units_of_the_output() -> None:
    assert variance(lambda y: dist.Poisson(y)) == pytest.approx(Y)
    assert variance(lambda y: dist.Binomial(100, y / 50.0)) == pytest.approx(50.0**2 * Y / 50 * (1 - Y / 50) / 100)
