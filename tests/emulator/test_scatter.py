"""The scatter of a random simulator, from rows to posterior, where all is exact: an Ornstein-Uhlenbeck process."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer import pipeline
from simfer.pipeline import chain, config
from simfer.pipeline.studies import STUDIES
from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.check.residuals import Residuals, member_figures, scatter_figures, standardise
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.normality import normality, whitened_scores
from simfer.stages.emulator.saved import load_emulator, save_emulator
from simfer.stages.emulator.scatter import excess, excess_of_few, lower, num_entries
from simfer.stages.infer.target import build_target
from simfer.stages.progress import Silent
from simfer.stages.settings import CheckConfig, Train
from simfer.stages.simulate.design import picked
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit, fit_scatter
from simfer.stages.train.losses import negative_log_likelihood
from tests import helpers
from tests.chain.test_reference import FOLDER, needs_reference

TIMES = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
CAMERA = 0.1  # sd of the noise
TRUTH = {"theta": 1.0, "mu": 0.5, "sigma": 0.7}
PRIOR = {"theta": (0.0, 0.5), "mu": (0.0, 1.0), "sigma": (-0.5, 0.5)}  # of log theta, mu and log sigma
FULL = helpers.ROOT / "configs" / "ornstein_uhlenbeck.toml"


def exact_ou(t: np.ndarray, theta: float, mu: float, sigma: float, x_0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and covariance of an Ornstein-Uhlenbeck process (Uhlenbeck & Ornstein 1930)."""
    apart, together = np.abs(t[:, None] - t), t[:, None] + t
    covariance = sigma**2 / (2 * theta) * (np.exp(-theta * apart) - np.exp(-theta * together))
    return mu + (x_0 - mu) * np.exp(-theta * t), covariance


def exact_posterior(t: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of whitened points that covers the prior, and the posterior's weight of each."""
    axis = np.linspace(-4.5, 4.5, 61)
    z = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    theta, mu, sigma = parameters(z).T

    def log_likelihood(point: np.ndarray) -> float:
        mean, covariance = exact_ou(t, *point, 3.0)
        return float(stats.multivariate_normal.logpdf(data, mean, covariance + CAMERA**2 * np.eye(len(t))))

    # The covariance depends on theta and sigma, and the log likelihood on mu by a parabola: three points give it all.
    score = np.empty(len(z)).reshape(61, 61, 61)
    for i, a in enumerate(theta.reshape(61, 61, 61)[:, 0, 0]):
        for k, s in enumerate(sigma.reshape(61, 61, 61)[0, 0]):
            at = [log_likelihood(np.array([a, m, s])) for m in (-1.0, 0.0, 1.0)]
            score[i, :, k] = np.polyval(np.polyfit([-1.0, 0.0, 1.0], at, 2), mu.reshape(61, 61, 61)[0, :, 0])
    log_weight = score.ravel() - 0.5 * (z**2).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max())
    return z, weight / weight.sum()


def parameters(z: np.ndarray) -> np.ndarray:
    """Return theta, mu and sigma at whitened points."""
    return np.stack([np.exp(0.5 * z[..., 0]), z[..., 1], np.exp(-0.5 + 0.5 * z[..., 2])], axis=-1)


def ou_table(**sections: Any) -> dict[str, Any]:
    """Return a small problem: five positions of one path."""
    file = helpers.scratch() / "ou.csv"
    mean, covariance = exact_ou(TIMES, **TRUTH, x_0=3.0)
    x = np.random.default_rng(3).multivariate_normal(mean, covariance + CAMERA**2 * np.eye(5))
    file.write_text("time,x\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(TIMES.tolist(), x.tolist(), strict=True)))
    kinds = {"theta": "LogNormal", "mu": "Normal", "sigma": "LogNormal"}
    table: dict[str, Any] = {
        "parameters": {n: {"dist": kinds[n], "loc": a, "scale": b} for n, (a, b) in PRIOR.items()} | {"x_0": 3.0},
        "simulate": {
            "simulator": "ornstein_uhlenbeck",
            "num_simulations": 8000,
            "options": {"times": TIMES.tolist(), "start": 0.0},
            "solver": {"solver": "ShARK", "fixed_step": True, "dt0": 0.25},
        },
        "train": {"options": {"width": 24, "depth": 1}, "ensemble_size": 3, "steps": 1000, "batch_size": 512},
        "observation": {"file": str(file)},
        "noise": {"x": {"dist": "Normal", "scale": CAMERA}},
        "infer": {"sampler": "nuts", "num_warmup": 300, "num_samples": 1500, "num_chains": 2},
        "check": {"num_draws": 400},
    }
    return helpers.merged(table, sections)


@cache
def ou_run(*overrides: str, until: str | None = None) -> pipeline.Result:
    """Run the small problem, once for each set of overrides."""
    return pipeline.run(ou_table(), overrides=overrides, store=helpers.scratch() / "ou", until=until)


@cache
def exact_moments() -> tuple[np.ndarray, np.ndarray]:
    """Return the exact posterior's mean and sd of theta, mu and sigma."""
    data = np.loadtxt(helpers.scratch() / "ou.csv", delimiter=",", skiprows=1)[:, 1]
    z, weight = exact_posterior(TIMES, data)
    mean = weight @ parameters(z)
    return mean, np.sqrt(weight @ (parameters(z) - mean) ** 2)


def draws_of(result: pipeline.Result) -> np.ndarray:
    posterior = result.posterior["posterior"].to_dataset()
    return np.stack([posterior[name].values.reshape(-1) for name in PRIOR], axis=1)


def emulator() -> Emulator:
    found = ou_run(until="train").emulator
    assert isinstance(found, Emulator)
    return found


def test_the_loss_is_a_gaussians_negative_log_likelihood() -> None:
    raw, q = np.random.default_rng(0).normal(size=(2, num_entries(3)))
    triangle = np.asarray(lower(jnp.asarray(raw), 3))
    assert np.array_equal(triangle, np.tril(triangle)) and (np.diag(triangle) > 0).all()
    expected = -stats.multivariate_normal.logpdf(q[:3], np.zeros(3), np.linalg.inv(triangle.T @ triangle))
    got = 3.0 * negative_log_likelihood(jnp.asarray(raw[None]), jnp.asarray(q[None, :3])) + 1.5 * np.log(2 * np.pi)
    assert float(got) == pytest.approx(expected)


def test_a_wild_row_leaves_mean_and_scatter_as_they_are() -> None:
    rng = np.random.default_rng(0)
    x, fold = rng.normal(size=(400, 1)), 1 + np.arange(400) % 5
    y = (np.sin(x) + 0.1 * rng.normal(size=x.shape)) / 0.63
    y[0] += 1000.0  # a row of the fold that stops the member
    small = {"width": 16, "depth": 1}
    settings = Train(architecture="mlp", options=small, ensemble_size=1, steps=600, batch_size=64, robust=True)
    rows = Rows(x, y)
    first = fit(settings, rows, fold, {}, Silent())
    fitted, found, _ = fit_scatter(settings, first, rows, fold, {}, np.ones(1), Silent())
    at = jnp.linspace(-1.5, 1.5, 31, dtype="float32")[:, None]
    (network,), _ = fitted.each_with_fold()
    assert np.sqrt(np.mean((jax.vmap(network)(at)[:, 0] - np.sin(at[:, 0]) / 0.63) ** 2)) < 0.1
    sd = np.abs([found.factor(each)[0, 0] for each in at])
    assert np.median(sd) == pytest.approx(0.1 / 0.63, rel=0.25)


def test_scatter_is_not_counted_as_error_and_error_beyond_it_is() -> None:
    rng, even = np.random.default_rng(0), np.full(20_000, 1 / 20_000)
    scattered, error = rng.normal(size=(20_000, 2)), rng.normal(size=(20_000, 2)) * [0.0, 0.5]
    spread = np.full((20_000, 2), 0.1) * [0.0, 1.0]
    assert np.allclose(excess(scattered, np.zeros((20_000, 2)), even), 0.0, atol=0.03)
    assert np.allclose(excess(scattered + error, spread, even), [0.0, 0.25 - 0.1], atol=0.04)


def test_of_few_rows_chance_widens_no_direction_and_a_real_excess_is_kept() -> None:
    rng, none, even = np.random.default_rng(1), np.zeros((50, 10)), np.full(50, 1 / 50)
    by_chance = np.array([excess_of_few(rng.normal(size=(50, 10)), none, even) for _ in range(40)])
    one_by_one = np.array([excess(rng.normal(size=(50, 10)), none, even) for _ in range(40)])
    assert by_chance.max(axis=1).mean() < 0.15 < 0.25 < one_by_one.max(axis=1).mean()
    wide = rng.normal(size=(50, 10)) * np.array([2.0, *9 * [1.0]])  # an excess of 3
    assert 1.8 < excess_of_few(wide, none, even)[0] < 4.5
    alike = 1.5 * rng.normal(size=(50, 10))
    assert excess_of_few(alike, none, even).mean() == pytest.approx(1.25, abs=0.3)
    assert excess_of_few(alike, none, even).std() < 0.7 * excess(alike, none, even).std()


@pytest.mark.parametrize("point", [(1.0, 0.5, 0.7), (0.7, -0.5, 0.5), (1.6, 0.8, 0.9)])
def test_the_emulator_has_the_exact_mean_and_covariance(point: tuple[float, float, float]) -> None:
    mean, covariance = exact_ou(TIMES, *point, 3.0)
    given = dict(zip(TRUTH, point, strict=True))
    factor = np.asarray(emulator().scatter_factor(emulator().space.whiten(given)))
    got, sd = np.asarray(emulator()(given)["x"]), np.asarray(emulator().scatter(given)["x"])
    assert np.abs((got - mean) / np.sqrt(np.diag(covariance))).max() < 0.12
    assert np.allclose(sd, np.sqrt(np.diag(covariance)), rtol=0.1)
    correlation = factor.T @ factor / np.outer(sd, sd)
    assert np.allclose(correlation, covariance / np.outer(*2 * [np.sqrt(np.diag(covariance))]), atol=0.06)


def test_samples_scatter_as_it_says() -> None:
    keys = jax.random.split(jax.random.key(0), 4000)
    x = np.asarray(jax.jit(jax.vmap(lambda key: emulator().sample(TRUTH, key)["x"]))(keys))
    assert np.allclose(x.mean(axis=0), emulator()(TRUTH)["x"], atol=0.04)
    assert np.allclose(x.std(axis=0), emulator().scatter(TRUTH)["x"], rtol=0.05)


def test_its_error_is_small_beside_the_scatter() -> None:
    error, scatter = emulator().error(TRUTH)["x"], emulator().scatter(TRUTH)["x"]
    assert (error > 0).all() and (error < 0.4 * scatter).all()


def test_saved_and_loaded_it_is_the_same_and_the_simulator_that_is_not_random_has_none(tmp_path: Path) -> None:
    save_emulator(emulator(), tmp_path)
    again = load_emulator(tmp_path)
    for a, b in zip(jax.tree.leaves(emulator()), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b) and a.dtype == b.dtype
    steady = helpers.line_run(until="train").emulator
    point = {"intercept": 1.2, "slope": -0.7}
    assert steady.header.num_scattered is None and steady.random is None
    assert np.array_equal(steady.scatter(point)["y"], np.zeros(9))
    assert np.array_equal(steady.sample(point, jax.random.key(0))["y"], steady(point)["y"])


def test_the_posterior_is_the_exact_one() -> None:
    mean, sd = exact_moments()
    draws = draws_of(ou_run(until="infer"))
    assert np.abs((draws.mean(axis=0) - mean) / sd).max() < 0.15
    assert np.allclose(draws.std(axis=0) / sd, 1.0, atol=0.12)


@pytest.mark.slow
def test_scatter_that_is_sampled_gives_what_scatter_that_is_integrated_out_does() -> None:
    # Student's t of so many degrees of freedom is a normal, but has no closed form here.
    student = ("noise.x.dist=StudentT", "noise.x.df=1e6")
    result = ou_run(*student, "infer.num_samples=4500", until="infer")
    effective = min(row["ess_bulk"] for row in result.summaries["infer"]["tables"]["posterior"])
    draws, closed, (_, sd) = draws_of(result), draws_of(ou_run(until="infer")), exact_moments()
    # NUTS moves slowly through so many directions of scatter: from seed to seed means differ by 0.05 sd after 18,000
    # draws, twice what their effective number says.
    assert effective > 150
    assert np.abs((draws.mean(axis=0) - closed.mean(axis=0)) / sd).max() < 0.2
    assert np.allclose(draws.std(axis=0) / sd, 1.0, atol=0.15)


@pytest.mark.slow
def test_without_the_emulators_error_the_scatter_stays() -> None:
    draws = draws_of(ou_run("infer.emulator_error=none", until="infer"))
    _, sd = exact_moments()
    assert np.allclose(draws.std(axis=0) / sd, 1.0, atol=0.12)


def test_the_verdict_is_by_the_predictive_distribution_and_not_by_weights() -> None:
    result = ou_run()
    assert result.verdict.passed, result.summaries["check"]["facts"]["verdict"]
    tables = result.summaries["check"]["tables"]
    names = [row["figure"] for row in tables["verdict"]]
    assert names[3] == "whitened residuals, p of being normal" and "posterior predictive p" in names
    assert not any("k-hat" in name for name in names)
    assert any("no k-hat" in title for title in tables)


def tampered(change: Any) -> Emulator:
    """Return the emulator with another base of its scatter."""
    return eqx.tree_at(lambda e: e.random.base, emulator(), replace_fn=change)


def figures_with(other: Emulator) -> dict[str, bool]:
    """Hold the check's simulations against another emulator; return which figures pass."""
    result, settings = ou_run(), helpers.link(helpers.problem(ou_table()), "check-0").config
    assert isinstance(settings, CheckConfig)
    draws = Posterior.load(result.folders["infer"]).z()
    draws = draws[np.sort(picked(len(draws), settings.check.num_draws, settings.check.seed))]
    _, y, usable = Simulations.load(result.folders["check"]).rows(0, len(draws))
    residuals = standardise(build_target(settings, other), draws[usable], y[usable])
    return {figure.name: figure.passed for figure in scatter_figures(settings.check, residuals, 1)}


@pytest.mark.parametrize("by", [0.5, pytest.param(2.0, marks=pytest.mark.slow)])
def test_a_scatter_that_is_wrong_fails(by: float) -> None:
    figures = figures_with(tampered(lambda base: by * base))
    assert not figures["whitened residuals, |sd - 1| beyond chance"]
    assert not figures["whitened residuals, p of being as large as predicted"]


def test_a_scatter_that_forgets_how_outputs_move_together_fails() -> None:
    # Every output's own variance is right, and nothing else.
    figures = figures_with(tampered(lambda base: jnp.diag(jnp.sqrt((base**2).sum(axis=1)))))
    assert not figures["whitened residuals, |sd - 1| beyond chance"]
    assert figures["whitened residuals, mean beyond chance"]


def test_members_whose_scatter_is_another_at_every_point_fail() -> None:
    # Residuals of all draws together cannot tell: one member errs, and not the same everywhere.
    def rougher(networks: Any) -> Any:
        weights, rest = eqx.partition(networks, eqx.is_inexact_array)
        return eqx.combine(jax.tree.map(lambda leaf: leaf.at[0].multiply(1.3), weights), rest)

    settings = helpers.link(helpers.problem(ou_table()), "check-0").config
    assert isinstance(settings, CheckConfig)
    z = Posterior.load(ou_run().folders["infer"]).z()[::8]
    other = eqx.tree_at(lambda e: e.random.networks, emulator(), replace_fn=rougher)

    def failed(emulator: Emulator) -> set[str]:
        found = member_figures(settings.check, build_target(settings, emulator), z)
        return {figure.name for figure in found if not figure.passed}

    assert failed(emulator()) == set()
    assert any("scatter's members" in name for name in failed(other))


def test_an_error_that_makes_the_posterior_another_fails() -> None:
    settings = helpers.link(helpers.problem(ou_table()), "check-0").config
    assert isinstance(settings, CheckConfig)
    target = build_target(settings, emulator())
    z = Posterior.load(ou_run().folders["infer"]).z()[::8]
    target.errors.excess = np.array([3.0, 0.0, 0.0, 0.0, 0.0])  # as a few wild rows near the data have it
    found = {figure.name: figure.passed for figure in member_figures(settings.check, target, z)}
    assert not found["shift by leaving out the emulator's error (posterior sd)"]


@pytest.mark.slow
def test_the_verdict_on_a_wrong_scatter_asks_for_a_better_emulator(tmp_path: Path) -> None:
    given, folder = tmp_path / "emulator", tmp_path / "check"
    for path in (given, folder):
        path.mkdir()
    save_emulator(tampered(lambda base: 0.5 * base), given)
    folders = ou_run().folders
    inputs = {"emulator": [given], "posterior": [folders["infer"]], "simulations": [folders["simulate"]], "checks": []}
    summary = chain.run(helpers.link(helpers.problem(ou_table()), "check-0"), inputs, folder, Silent())
    assert not summary["facts"]["passed"] and "more simulations" in summary["facts"]["verdict"]


def test_chance_alone_fails_as_seldom_as_it_says() -> None:
    limits, by_chance = helpers.problem(ou_table()).check, 0
    for seed in range(200):
        u = np.random.default_rng(seed).normal(size=(200, 12))
        mean, sd, size, shape, _ = scatter_figures(limits, Residuals(u, u, u[:, :2], 0.5, 0.5), 1)
        assert mean.passed and sd.value < 0.02  # beyond what chance does once in 1,000 times
        by_chance += not (size.passed and shape.passed)
    assert by_chance <= 4  # one in 200 is promised; more than four come by chance once in 250 times


LINE = np.stack([np.ones(10), np.linspace(-1.5, 1.5, 10)], axis=1)  # of ten outputs by two parameters
SHARED = 0.64 * np.ones((10, 10)) + 0.36 * np.eye(10)  # covariance, where a part of the scatter is common to all
SHAPES = {
    "a switch that all outputs share": lambda rng, n: (
        0.8 * rng.choice([-1.0, 1.0], (n, 1)) + 0.6 * rng.normal(size=(n, 10))
    ),
    "a skewed start that they share": lambda rng, n: (
        0.8 * (rng.exponential(size=(n, 1)) - 1.0) + 0.6 * rng.normal(size=(n, 10))
    ),
    "a Gaussian": lambda rng, n: 0.8 * rng.normal(size=(n, 1)) + 0.6 * rng.normal(size=(n, 10)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_that_outputs_share_is_seen_and_chance_is_not(name: str) -> None:
    root, limits = np.linalg.cholesky(SHARED), helpers.problem(ou_table()).check
    slopes = np.broadcast_to(np.linalg.solve(root, LINE), (256, 10, 2))
    small = []
    for seed in range(40):
        u = np.linalg.solve(root, SHAPES[name](np.random.default_rng(seed), 256).T).T
        found = scatter_figures(limits, Residuals(u, u, whitened_scores(u, slopes), 0.5, 0.5), 1)
        small.append(found[3].value < limits.min_scatter_p)
    assert np.mean(small) <= 0.05 if name == "a Gaussian" else np.mean(small) >= 0.95


def test_a_start_that_is_forgotten_is_seen_in_the_first_outputs() -> None:
    """Whitened residuals of which the first have two branches, to either side by the parameters; pooled they hide."""

    def seen(far: float, seed: int) -> float:
        rng = np.random.default_rng(seed)
        u = rng.normal(size=(512, 8))
        u[:, 0] = (far * rng.choice([-1.0, 1.0], 512) + u[:, 0]) / np.sqrt(1.0 + far**2)
        return normality(u, u[:, :0]).shape

    assert np.mean([seen(1.4, seed) < 0.005 for seed in range(20)]) >= 0.95
    assert np.mean([seen(0.0, seed) < 0.05 for seed in range(100)]) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("over", ["prior", "posterior"])
def test_intervals_are_as_wide_as_they_say(over: str, tmp_path: Path) -> None:
    result = ou_run()
    settings = (f"calibrate.over={over}", "calibrate.num_warmup=200", "calibrate.num_samples=300")
    (link,) = STUDIES["calibrate"].added(config.from_table(ou_table(), settings, folder=helpers.scratch()), 0)
    inputs = {"emulator": [result.folders["train"]], "posterior": [result.folders["infer"]]}
    assert chain.run(link, inputs, tmp_path, Silent())["facts"]["passed"]


@needs_reference
@pytest.mark.slow
def test_the_shipped_problem_has_its_exact_posterior(tmp_path: Path) -> None:
    result = pipeline.run(FULL, store=tmp_path)
    assert result.verdict.passed, result.summaries["check"]["facts"]["verdict"]
    t, data = np.loadtxt(helpers.ROOT / "data/observations/ornstein_uhlenbeck.csv", delimiter=",", skiprows=1).T
    z, weight = exact_posterior(t, data)
    exact = parameters(exact_draws(z, weight, 10_000))
    draws = draws_of(result)
    assert np.abs((draws.mean(axis=0) - exact.mean(axis=0)) / exact.std(axis=0)).max() < 0.15
    assert np.allclose(draws.std(axis=0) / exact.std(axis=0), 1.0, atol=0.1)
    spec = importlib.util.spec_from_file_location("score", FOLDER / "score.py")
    assert spec and spec.loader
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    picked = np.random.default_rng(0).permutation(len(draws))[: len(exact)]
    assert score.c2st(exact, draws[picked]) <= 0.53


def exact_draws(z: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Draw from a density on a grid, spread evenly within each cell."""
    rng, width = np.random.default_rng(0), 9.0 / 60
    picked = rng.choice(len(z), count, p=weight)
    return z[picked] + rng.uniform(-0.5, 0.5, size=(count, 3)) * width
