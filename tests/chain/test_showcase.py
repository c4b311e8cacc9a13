"""Posteriors of configs with data as people have them, beside exact ones by NumPy and SciPy alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats
from scipy.special import gammaln, log_ndtr, ndtr

from benchmarks.posteriors import load_score
from simfer.pipeline import run
from simfer.stages.infer.own_model.posterior import by_element
from tests import exact, helpers
from tests.chain.test_reference import FOLDER, needs_reference

CONFIGS, DATA = helpers.ROOT / "configs", helpers.ROOT / "data" / "observations"
DRAWS = 4000
PLATES = {"none": 0.0, "low": 0.1, "middle": 1.0, "high": 10.0}  # uM


class System(NamedTuple):
    """A config's quantities in the posterior, and what draws them exactly."""

    names: list[str]
    draws: Callable[[], np.ndarray]  # DRAWS x quantities
    most: int = 15  # quantities that a classifier sees: of more it tells two chains of NUTS from one another


def table(name: str) -> dict[str, list[str]]:
    """Read a file of data, column by column."""
    with (DATA / name).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {column: [row[column] for row in rows] for column in rows[0]}


def column(name: str, which: str) -> np.ndarray:
    return np.array(table(name)[which], float)


def log_normal(z: np.ndarray, loc: float, scale: float) -> np.ndarray:
    return np.exp(loc + scale * z)


def log_uniform(z: np.ndarray, low: float, high: float) -> np.ndarray:
    return low * (high / low) ** ndtr(z)


def drawn(
    to_theta: Callable[[np.ndarray], np.ndarray],
    log_likelihood: Callable[[np.ndarray], np.ndarray],
    size: int,
    num: int,
) -> np.ndarray:
    """Draw from a posterior, each prior a map of standard normals to a quantity."""

    def density(z: np.ndarray) -> np.ndarray:
        value = log_likelihood(to_theta(z)) - 0.5 * (z**2).sum(axis=1)
        return np.where(np.isfinite(value), value, -1e30)

    return to_theta(exact.sampled(density, size, num, DRAWS))


def eight_schools() -> np.ndarray:
    """Sum over the population's center and spread, whose density is known (Gelman et al. 2013, section 5.4)."""
    y, sd = column("eight_schools.csv", "gain"), column("eight_schools.csv", "standard_error")
    rng, spread = np.random.default_rng(0), 5.0 * np.tan(0.5 * np.pi * (np.arange(20000) + 0.5) / 20000)
    variance = sd**2 + spread[:, None] ** 2
    precision = 1.0 / 25.0 + (1.0 / variance).sum(axis=1)
    mean = (y / variance).sum(axis=1) / precision
    log = -0.5 * np.log(precision) + (-0.5 * np.log(variance) - 0.5 * y**2 / variance).sum(axis=1)
    log += 0.5 * precision * mean**2
    weights = np.exp(log - log.max())
    edges = np.cumsum(weights) / weights.sum()
    at = np.searchsorted(edges, rng.random(DRAWS))
    # Between two points of the grid, so that no two draws are alike
    tau = 5.0 * np.tan(0.5 * np.pi * (at + rng.random(DRAWS)) / 20000)
    center = mean[at] + rng.normal(size=DRAWS) / np.sqrt(precision[at])
    shrunk = 1.0 / (1.0 / sd**2 + 1.0 / tau[:, None] ** 2)
    effects = shrunk * (y / sd**2 + (center / tau**2)[:, None]) + np.sqrt(shrunk) * rng.normal(size=(DRAWS, 8))
    return np.column_stack([center, tau, effects])


def dose_response() -> np.ndarray:
    def to_theta(z: np.ndarray) -> np.ndarray:
        parts = [(-3.2, 0.4), (0.0, 0.5), (0.0, 1.0), (0.3, 0.4), *[(6.9, 0.3)] * 4]
        columns = [log_normal(z[:, i], *prior) for i, prior in enumerate(parts)]
        return np.column_stack([*columns, 0.3 * stats.halfnorm.ppf(ndtr(z[:, 8]))])

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        growth, effect, half, slope, *_, sigma = theta.T
        total = np.zeros(len(theta))
        for i, dose in enumerate(PLATES.values()):
            name = f"dose_{dose:g}.csv"
            bound = (dose / half) ** slope
            rate = growth * (1.0 - effect * bound / (1.0 + bound))
            expected = np.log(theta[:, 4 + i])[:, None] + rate[:, None] * column(name, "time")
            total += stats.norm.logpdf(np.log(column(name, "cells")), expected, sigma[:, None]).sum(axis=1)
        return total

    return drawn(to_theta, log_likelihood, 9, 100_000)


def two_compartments() -> np.ndarray:
    cells = table("two_compartments.csv")["concentration"]
    below = np.array([cell.startswith("<") for cell in cells])
    y = np.array([cell.lstrip("<") for cell in cells], float)
    times, sd = column("two_compartments.csv", "time"), column("two_compartments.csv", "sd")

    def to_theta(z: np.ndarray) -> np.ndarray:
        priors = [(0.0, 0.5), (1.6, 0.5), (3.4, 0.4), (1.6, 0.5), (3.9, 0.5), (0.0, 0.2)]
        return np.column_stack([log_normal(z[:, i], *prior) for i, prior in enumerate(priors)])

    def concentration(theta: np.ndarray) -> np.ndarray:
        """Add up the doses, each the sum of three exponentials (Gibaldi & Perrier 1982, appendix B)."""
        ka, clearance, v1, q, v2, _ = theta.T[:, :, None]
        out, there, back = clearance / v1, q / v1, q / v2
        total = out + there + back
        root = np.sqrt(total**2 - 4.0 * out * back)
        a, b = 0.5 * (total + root), 0.5 * (total - root)
        found = np.zeros((len(theta), len(times)))
        for given in 12.0 * np.arange(6):
            t, after = np.maximum(times - given, 0.0), times > given
            fast = (back - a) / ((ka - a) * (b - a)) * np.exp(-a * t)
            slow = (back - b) / ((ka - b) * (a - b)) * np.exp(-b * t)
            gut = (back - ka) / ((a - ka) * (b - ka)) * np.exp(-ka * t)
            found += after * 200.0 * ka / v1 * (fast + slow + gut)
        return found

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        mean, sigma = concentration(theta), theta[:, 5:] * sd
        above = stats.norm.logpdf(y, mean, sigma)
        return np.where(below, log_ndtr((y - mean) / sigma), above).sum(axis=1)

    return drawn(to_theta, log_likelihood, 6, 100_000)


def lockdown() -> np.ndarray:
    cases, deaths = column("lockdown_cases.csv", "cases"), column("lockdown_deaths.csv", "deaths")

    def to_theta(z: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [
                log_normal(z[:, 0], 1.0, 0.2),
                stats.beta.ppf(ndtr(z[:, 1]), 3.0, 5.0),
                log_normal(z[:, 2], 1.6, 0.2),
                log_normal(z[:, 3], 4.0, 0.5),
                stats.beta.ppf(ndtr(z[:, 4]), 4.0, 8.0),
                log_normal(z[:, 5], -4.6, 0.3),
                log_normal(z[:, 6], 3.0, 0.7),
                log_normal(z[:, 7], 3.0, 0.7),
            ]
        )

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        so_far = epidemic(theta[:, :6])
        counts = [(so_far[0][7:120:7], cases, theta[:, 6]), (so_far[1][5:120:7], deaths, theta[:, 7])]
        total = np.zeros(len(theta))
        for series, observed, k in counts:
            mean = np.diff(series, axis=0, prepend=0.0)
            total += (
                gammaln(observed[:, None] + k) - gammaln(k) - gammaln(observed[:, None] + 1.0)
                + k * np.log(k / (k + mean)) + observed[:, None] * np.log(mean / (k + mean))
            ).sum(axis=0)  # fmt: skip
        return total

    return drawn(to_theta, log_likelihood, 8, 40_000)


def epidemic(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cases and deaths so far, day by day, by Runge and Kutta's method in steps of an eighth of a day."""
    number, kept, infectious, infected, reported, fatality = theta.T

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        s, e, i, ill, *_ = y
        infections = number * (1.0 if t < 30.0 else kept) / infectious * s * i / 1e6
        onsets, ends, died = e / 3.0, i / infectious, ill / 14.0
        ill = fatality * ends - died
        return np.array([-infections, infections - onsets, onsets - ends, ill, reported * onsets, died])

    zero, step = np.zeros(len(theta)), 0.125
    y = np.array([1e6 - 2.0 * infected, infected, infected, zero, zero, zero])
    seen = [y[4:]]
    for day in range(119):
        for eighth in range(8):
            t, before = day + eighth * step, 1e-9  # the last stage of a step is still before a jump at its end
            a = rate(t, y)
            b = rate(t + step / 2, y + step / 2 * a)
            c = rate(t + step / 2, y + step / 2 * b)
            y = y + step / 6 * (a + 2 * b + 2 * c + rate(t + step - before, y + step * c))
        seen.append(y[4:])
    both = np.array(seen)
    return both[:, 0], both[:, 1]


def carotenoids() -> np.ndarray:
    starts = [("b10", 0), ("bcar", 0), ("bcar", 1), ("bcry", 0), ("ohb10", 0), ("zea", 1)]
    bounds = [(0.000617, 0.0154), (0.00333, 0.0832), (0.00117, 0.0292), (0.000336, 0.0084), (0.0014, 0.0349),
              (0.00122, 0.0304), (0.103, 2.585), *[(0.6, 15.0)] * 6]  # fmt: skip

    def to_theta(z: np.ndarray) -> np.ndarray:
        return np.column_stack([log_uniform(z[:, i], *bound) for i, bound in enumerate(bounds)])

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        total = np.zeros(len(theta))
        for i, (compound, slower) in enumerate(starts):
            name = f"carotenoids_{i + 1}.csv"
            pace = theta[:, 6:7] if slower else 1.0
            amounts = cascade(compound, theta[:, :6, None], pace * column(name, "time"), theta[:, 7 + i, None])
            for each in set(table(name)["compound"]):
                own = np.array(table(name)["compound"]) == each
                y, sd = column(name, "amount")[own], column(name, "sd")[own]
                total += stats.norm.logpdf(y, amounts[each][:, own], sd).sum(axis=1)
        return total

    return drawn(to_theta, log_likelihood, 13, 400_000)


def cascade(compound: str, rates: np.ndarray, t: np.ndarray, amount: np.ndarray) -> dict[str, np.ndarray]:
    """Return the amounts of each compound, all but one from nothing: exponentials, and differences of two."""
    k5, kb1, kb2, kc1, kc2, kc4 = (rates[:, i] for i in range(6))

    def through(rise: np.ndarray, decay: np.ndarray, lost: np.ndarray) -> np.ndarray:
        return amount * rise / (lost - decay) * (np.exp(-decay * t) - np.exp(-lost * t))

    if compound in ("b10", "ohb10"):
        return {compound: amount * np.exp(-(kb2 if compound == "b10" else kc4) * t)}
    if compound == "bcar":
        return {"bcar": amount * np.exp(-kb1 * t), "b10": through(kb1, kb1, kb2)}
    if compound == "zea":
        return {"zea": amount * np.exp(-k5 * t), "ohb10": through(k5, k5, kc4)}
    both = kc1 + kc2
    return {
        "bcry": amount * np.exp(-both * t),
        "b10": through(kc1, both, kb2),
        "ohb10": through(kc2, both, kc4),
    }


def vessels() -> np.ndarray:
    times = column("vessels.csv", "time")
    y = np.array([column("vessels.csv", f"vessel_{i}") for i in range(1, 5)])

    def to_theta(
        x: np.ndarray,
    ) -> np.ndarray:  # the rates by themselves: the data know them far better than their prior
        center = -0.7 + 0.2 * x[:, :1]
        spread, sigma = (scale * stats.halfnorm.ppf(ndtr(x[:, [i]])) for i, scale in ((1, 0.2), (2, 20.0)))
        others = [log_normal(x[:, 7:11], 6.5, 0.2), log_normal(x[:, 11:15], 2.3, 0.3)]
        return np.concatenate([center, spread, sigma, log_normal(x[:, 3:7], -0.7, 0.3), *others], axis=1)

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        r, capacity, n_0 = (theta[:, at : at + 4, None] for at in (3, 7, 11))
        grown = capacity / (1.0 + (capacity / n_0 - 1.0) * np.exp(-r * times))  # Verhulst (1838)
        likelihood = stats.norm.logpdf(y, grown, theta[:, 2, None, None]).sum(axis=(1, 2))
        logs, (center, spread) = np.log(theta[:, 3:7]), theta[:, :2, None].transpose(1, 0, 2)
        own = stats.norm.logpdf(logs, center, np.maximum(spread, 1e-12)) - stats.norm.logpdf(logs, -0.7, 0.3)
        return likelihood + own.sum(axis=1)

    return drawn(to_theta, log_likelihood, 15, 200_000)


def patients() -> np.ndarray:
    """Draw by NUTS through the curve itself: 46 quantities are more than weights can bear."""
    spec = spec_from_file_location("patients", CONFIGS / "patients.py")
    module = module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    hours = jnp.asarray(column("patients.csv", "time"))
    data = {name: jnp.asarray(column("patients.csv", name)) for name in table("patients.csv")}

    def simulate(p: dict[str, Any]) -> dict[str, Any]:
        ka, k, volume, dose = (each[:, None] for each in (p["ka"], p["CL"] / p["V"], p["V"], p["dose"]))
        return {"concentration": dose * ka / volume / (ka - k) * (jnp.exp(-k * hours) - jnp.exp(-ka * hours))}

    chains = MCMC(
        NUTS(lambda: module.trial(simulate, data), target_accept_prob=0.9),
        num_warmup=1500,
        num_samples=DRAWS,
        progress_bar=False,
    )
    chains.run(jax.random.key(0))
    draws = chains.get_samples()
    return np.column_stack([*(draws[name] for name in POPULATION), draws["CL"], draws["V"]])


POPULATION = ["ka", "CL_center", "CL_spread", "V_center", "V_spread", "sigma"]
SYSTEMS = {
    "patients": System([*POPULATION, *(f"{each}[{i}]" for each in ("CL", "V") for i in range(20))], patients, 6),
    "vessels": System(
        ["center", "spread", "sigma", *(f"{each}[{i}]" for each in ("r", "capacity", "n_0") for i in range(4))], vessels
    ),
    "eight_schools": System(["center", "spread", *(f"effect_{each}" for each in "ABCDEFGH")], eight_schools),
    "dose_response": System(
        ["growth", "effect", "half", "slope", *(f"seeded.{each}" for each in PLATES), "cells_scale"],
        dose_response,
    ),
    "two_compartments": System(["ka", "CL", "V1", "Q", "V2", "concentration_scale_times"], two_compartments),
    "lockdown": System(
        ["R0", "kept", "infectious", "infected", "reported", "fatality", "cases_concentration", "deaths_concentration"],
        lockdown,
    ),
    "carotenoids": System(
        ["k5", "kb1", "kb2", "kc1", "kc2", "kc4", "szea", *(f"amount.c{i}" for i in range(1, 7))], carotenoids
    ),
}


@pytest.fixture(scope="module")
def score() -> ModuleType:
    return load_score(FOLDER)  # type: ignore[no-any-return]


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_it_passes_and_has_its_exact_posterior(name: str, tmp_path: Path, score: Any) -> None:
    result = run(CONFIGS / f"{name}.toml", overrides=["infer.num_chains=4", "infer.num_samples=1000"], store=tmp_path)
    assert result.verdict.passed, result.verdict
    posterior = by_element(result.posterior["posterior"].to_dataset())
    got = as_normal(np.stack([posterior[each].values.ravel() for each in SYSTEMS[name].names], axis=1))
    exact, most = as_normal(SYSTEMS[name].draws()), SYSTEMS[name].most
    assert score.c2st(exact[:, :most], got[:, :most]) <= 0.53
    assert np.abs((got.mean(axis=0) - exact.mean(axis=0)) / exact.std(axis=0)).max() < 0.15
    np.testing.assert_allclose(got.std(axis=0), exact.std(axis=0), rtol=0.15)


def as_normal(theta: np.ndarray) -> np.ndarray:
    """Return quantities of which a classifier sees the shape: logarithms of those that are positive."""
    return np.where((theta > 0.0).all(axis=0), np.log(np.abs(theta) + 1e-300), theta)
