"""Truncated, zero-inflated and outlier-ridden families: log probability, draws and information beside SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import integrate, stats

from simfer.stages.model import impossible
from simfer.stages.model import noise as noises
from simfer.stages.model.information import variance_of_output
from simfer.stages.model.observation import Series
from simfer.stages.model.tails import censored_log_prob
from simfer.stages.settings import NOISE, AnyNoise, Noise
from simfer.stages.settings.noise import arguments

Y = np.array([0.7, 3.0, 12.5])


class Case(NamedTuple):
    arguments: dict[str, Any]
    base: Callable[[float], Any]  # SciPy's, at an output
    low: float = -np.inf
    high: float = np.inf
    gate: float = 0.0
    wide: Callable[[float], Any] | None = None

    def pdf(self, x: np.ndarray, y: float) -> np.ndarray:
        """Return the density, or the probability of counts."""
        base = self.base(y)
        density = base.pmf if hasattr(base, "pmf") and self.is_counts else base.pdf
        if self.wide is not None:
            return np.asarray(0.9 * base.pdf(x) + 0.1 * self.wide(y).pdf(x))
        below = base.cdf(self.low - 1) if self.is_counts else base.cdf(self.low)
        inside = (x >= self.low) & (x <= self.high)
        plain = np.where(inside, density(x) / (base.cdf(self.high) - below), 0.0)
        return np.asarray((1.0 - self.gate) * plain + self.gate * (x == 0))

    @property
    def is_counts(self) -> bool:
        return self.base(1.0).dist.name in ("poisson", "nbinom", "binom")

    def mean(self, function: Callable[[np.ndarray], np.ndarray], y: float) -> float:
        """Return the mean of a function of data."""
        if self.is_counts:
            x = np.arange(200.0)
            return float((self.pdf(x, y) * function(x)).sum())
        start, stop = max(self.low, 1e-9 if self.base(y).dist.name == "lognorm" else -60.0), min(self.high, 400.0)
        x, step = np.linspace(start, stop, 400_001, retstep=True)
        return float(integrate.trapezoid(self.pdf(x, y) * function(x), dx=step))


def negative(y: float) -> Any:
    return stats.nbinom(2.5, 2.5 / (2.5 + y))


CASES: dict[str, Case] = {
    "TruncatedNormal": Case({"scale": 1.4, "low": 1.0}, lambda y: stats.norm(y, 1.4), 1.0),
    "TruncatedLogNormal": Case({"scale": 0.6, "low": 1, "high": 9.0}, lambda y: stats.lognorm(0.6, scale=y), 1.0, 9.0),
    "TruncatedStudentT": Case(
        {"df": 4.5, "scale": 1.4, "low": -1, "high": 9.0}, lambda y: stats.t(4.5, y, 1.4), -1.0, 9.0
    ),
    "TruncatedPoisson": Case({"low": 1.0}, stats.poisson, 1.0),
    "TruncatedNegativeBinomial2": Case({"concentration": 2.5, "low": 1, "high": 14}, negative, 1.0, 14.0),
    "TruncatedBinomial": Case(
        {"total_count": 20, "population": 50.0, "high": 6.0}, lambda y: stats.binom(20, y / 50.0), 0.0, 6.0
    ),
    "ZeroInflatedPoisson": Case({"gate": 0.3}, stats.poisson, gate=0.3),
    "ZeroInflatedNegativeBinomial2": Case({"gate": 0.3, "concentration": 2.5}, negative, gate=0.3),
    "ZeroInflatedBinomial": Case(
        {"gate": 0.3, "total_count": 20, "population": 50.0}, lambda y: stats.binom(20, y / 50.0), gate=0.3
    ),
    "NormalWithOutliers": Case(
        {"scale": 0.4, "outlier_share": 0.1, "outlier_scale": 3.0},
        lambda y: stats.norm(y, 0.4),
        wide=lambda y: stats.norm(y, np.hypot(0.4, 3.0)),
    ),
    "LogNormalWithOutliers": Case(
        {"scale": 0.2, "outlier_share": 0.1, "outlier_scale": 0.5},
        lambda y: stats.lognorm(0.2, scale=y),
        wide=lambda y: stats.lognorm(np.hypot(0.2, 0.5), scale=y),
    ),
}


_EACH_KIND = ("TruncatedNormal", "TruncatedPoisson", "ZeroInflatedNegativeBinomial2", "NormalWithOutliers")
ONE_OF_A_KIND = [name if name in _EACH_KIND else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


def made(name: str, **changed: Any) -> Noise:
    table = {"dist": name} | CASES[name].arguments | changed
    return TypeAdapter(AnyNoise).validate_python(table)  # type: ignore[no-any-return]


def scatter(noise: Noise, data: np.ndarray = Y) -> Callable[[Any], Any]:
    given = {name: jnp.asarray(value) for name, value in arguments(noise).items()}
    family = noises.family(noise, Series(data, np.arange(len(data))))
    return lambda y: family(y, **given)


@cache
def draws(name: str) -> np.ndarray:
    sampled = jax.jit(lambda y: scatter(made(name))(y).sample(jax.random.key(1), (10_000,)))
    return np.asarray(sampled(jnp.asarray(Y)))


def test_every_variant_has_a_case() -> None:
    varied = {name for name in NOISE if name.startswith(("Truncated", "ZeroInflated")) or name.endswith("Outliers")}
    assert varied == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_log_probability_is_scipys(name: str) -> None:
    log_prob = jax.jit(lambda data: scatter(made(name))(jnp.asarray(Y)).log_prob(data))
    for data in (np.array([1.0, 2.0, 6.0]), np.array([5.0, 1.0, 3.0])):
        got = np.asarray(log_prob(jnp.asarray(data)))
        expected = [float(np.log(CASES[name].pdf(x, y))) for x, y in zip(data, Y, strict=True)]
        assert np.allclose(got, expected, rtol=1e-6), name


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_draws_have_the_moments_of_the_density(name: str) -> None:
    case, drawn = CASES[name], draws(name)
    assert (drawn >= case.low).all() and (drawn <= case.high).all()
    for y, own in zip(Y, drawn.T, strict=True):
        mean = case.mean(lambda x: x, y)
        sd = np.sqrt(case.mean(lambda x, m=mean: (x - m) ** 2, y))  # type: ignore[misc]
        assert own.mean() == pytest.approx(mean, abs=5.0 * sd / np.sqrt(len(own)))
        kurtosis = case.mean(lambda x, m=mean: (x - m) ** 4, y) / sd**4  # type: ignore[misc]
        assert own.std() == pytest.approx(sd, rel=4.0 * np.sqrt((kurtosis - 1.0) / (4.0 * len(own))))
    if not case.is_counts and case.wide is None:  # the whole distribution, too
        base = case.base(Y[1])
        whole = lambda x: (base.cdf(x) - base.cdf(case.low)) / (base.cdf(case.high) - base.cdf(case.low))  # noqa: E731
        assert stats.kstest(drawn[:, 1], whole).pvalue > 1e-3


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_what_a_datum_tells_is_its_fisher_information(name: str) -> None:
    case = CASES[name]
    got = np.asarray(jax.jit(lambda y: variance_of_output(scatter(made(name)), y))(jnp.asarray(Y)))
    for y, variance in zip(Y, got, strict=True):
        step = 1e-4 * y

        def score(x: np.ndarray, y: float = y, step: float = step) -> np.ndarray:
            ends = [np.maximum(case.pdf(x, y + sign * step), 1e-300) for sign in (-1.0, 1.0)]
            return np.asarray((np.log(ends[1]) - np.log(ends[0])) / (2.0 * step))

        assert 1.0 / variance == pytest.approx(case.mean(lambda x: score(x) ** 2, y), rel=2e-3), (name, y)


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_an_output_out_of_range_has_a_finite_gradient(name: str) -> None:
    noise, data = made(name), jnp.asarray([1.0, 2.0, 6.0])
    slope_of = jax.jit(jax.value_and_grad(lambda y: scatter(noise)(y).log_prob(data).sum()))
    for y in (-0.3, 0.0, 1e-3, 60.0, 400.0):
        value, slope = slope_of(jnp.full(3, y))
        assert np.isfinite(value) and np.isfinite(slope).all(), (name, y)


def test_far_from_what_is_recorded_the_mass_keeps_its_digits() -> None:
    """Forty standard deviations below the limit, and counts of 2 of which those from 30 on are on record."""
    got = scatter(made("TruncatedNormal", scale=0.1))(jnp.asarray([-3.0] * 3)).log_prob(jnp.asarray([1.0] * 3))
    expected = stats.norm.logpdf(1.0, -3.0, 0.1) - stats.norm.logsf(1.0, -3.0, 0.1)
    assert np.allclose(got, expected, rtol=1e-9)
    got = scatter(made("TruncatedPoisson", low=30))(jnp.asarray([2.0] * 3)).log_prob(jnp.asarray([31.0] * 3))
    assert np.allclose(got, stats.poisson.logpmf(31, 2.0) - stats.poisson.logsf(29, 2.0), rtol=1e-9)
    far = scatter(made("TruncatedPoisson", low=30))(jnp.asarray([2.0] * 3)).sample(jax.random.key(0), (4000,))
    assert float(far.min()) == 30.0 and float((far == 30.0).mean()) == pytest.approx(
        stats.poisson.pmf(30, 2.0) / stats.poisson.sf(29, 2.0), abs=0.01
    )


def test_limits_by_datum_from_a_column() -> None:
    noise = made("TruncatedNormal", low={"column": "limit"})
    limit = np.array([0.0, 1.0, 12.0])
    family = noises.family(noise, Series(Y, np.arange(3), {"limit": limit}))
    got = family(jnp.asarray(Y), scale=jnp.asarray(1.4)).log_prob(jnp.asarray(Y))
    assert np.allclose(got, stats.norm.logpdf(Y, Y, 1.4) - stats.norm.logsf(limit, Y, 1.4))


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_censored_data_of_a_variant(name: str) -> None:
    """Below 2 and above 5, within what is recorded, the probability there is the sum or integral of the density."""
    case, side = CASES[name], np.array([-1, 0, 1])
    limits = Series(np.array([2.0, 3.0, 5.0]), np.arange(3), {}, side).limits
    assert limits is not None
    coded = jnp.asarray([-np.inf, 3.0, np.inf])
    got = jax.jit(lambda y: censored_log_prob(scatter(made(name))(y), coded, limits))(jnp.asarray(Y))
    expected = [
        case.mean(lambda x: 1.0 * (x < 2.0), Y[0]),
        float(case.pdf(np.asarray(3.0), Y[1])),
        case.mean(lambda x: 1.0 * (x > 5.0), Y[2]),
    ]
    assert np.allclose(np.exp(np.asarray(got)), expected, rtol=2e-4), name


def test_what_cannot_be_on_record_is_refused() -> None:
    noise = made("TruncatedNormal", low=1.0)
    (mistake,) = impossible.mistakes("y", noise, Series(np.array([0.5, 2.0]), np.arange(2)))
    assert "got 0.5, beyond noise.y.low" in mistake.what and "censored" in mistake.what
    (mistake,) = impossible.mistakes("y", noise, Series(np.array([1.0, 2.0]), np.arange(2), {}, np.array([-1, 0])))
    assert "got 1, beyond noise.y.low" in mistake.what
    assert impossible.mistakes("y", noise, Series(np.array([1.0, 2.0]), np.arange(2))) == []


def test_bounds_of_counts_that_nobody_could_add_up_are_refused() -> None:
    many = Series(np.array([3e6, 5.0]), np.arange(2), {}, np.array([1, 0]))
    (mistake,) = impossible.mistakes("y", TypeAdapter(AnyNoise).validate_python({"dist": "Poisson"}), many)
    assert "got the bound 3e+06 of counts" in mistake.what
    (mistake,) = impossible.mistakes("y", made("TruncatedPoisson", high=1e9), Series(np.array([5.0]), np.arange(1)))
    assert "got the bound 1e+09" in mistake.what


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"dist": "TruncatedNormal", "scale": 1.0}, "expected low, high or both"),
        ({"dist": "TruncatedPoisson", "low": 3, "high": 2}, "expected low < high"),
        ({"dist": "ZeroInflatedPoisson", "gate": 1.5}, "less than 1"),
        ({"dist": "ZeroInflatedPoisson", "gate": {"dist": "HalfNormal"}}, "only a share makes sense"),
        ({"dist": "TruncatedNormal", "scale": 1.0, "low": {"column": "a", "times": 2.0}}, "leave out times"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TypeAdapter(AnyNoise).validate_python(table)
