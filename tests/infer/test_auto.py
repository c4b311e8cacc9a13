"""A population first, then NUTS: which of the two is the answer, and what they say of one another."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from simfer.stages.infer.samplers import auto, nuts
from simfer.stages.infer.samplers.agreement import agreement
from simfer.stages.infer.samplers.convergence import converged, largest_r_hat
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.progress import Silent
from simfer.stages.settings import Infer
from tests.helpers import Heard

SETTINGS = Infer(num_samples=1000, num_warmup=500, num_chains=4)


def target(log_ratio: Callable[[Any], Any], size: int) -> Any:
    """Return as much of a target as a sampler looks at."""
    names = [f"p{i}" for i in range(size)]
    space, none = SimpleNamespace(components=names, size=size, priors={}), SimpleNamespace(components=[])
    return SimpleNamespace(
        log_ratio=log_ratio,
        guide=None,
        chains=None,
        size=size,
        num_predicted=1,
        space=space,
        components=names,
        predictor=SimpleNamespace(space=space),
        likelihood=SimpleNamespace(noise_space=none),
    )


def test_along_a_thin_curved_ridge_the_population_is_the_answer() -> None:
    """The posterior of b given a is normal, so that of a is one-dimensional: a grid knows it."""

    def log_ratio(z: Any) -> Any:
        return norm.logpdf(z[0], 0.5, 1.0) + norm.logpdf(3.0 * z[1] - 1.5 * z[0] ** 2, 0.0, 0.05)

    heard = Heard()
    draws = auto.sample(target(log_ratio, 2), SETTINGS, heard)
    assert draws.sampler == "smc" and draws.agreement is None and converged(draws, 2)
    assert any("the population's draws are the answer, and not those of NUTS: chains" in line for line in heard.lines)
    a = np.linspace(-5.0, 5.0, 4001)
    weight = np.exp(-0.5 * a**2 - 0.5 * (a - 0.5) ** 2 - 0.5 * (0.5 * a**2) ** 2 / (1.0 + 0.05**2 / 9.0))
    weight /= weight.sum()
    mean, drawn = weight @ a, draws.z[..., 0]
    sd = np.sqrt(weight @ (a - mean) ** 2)
    assert abs(drawn.mean() - mean) < 0.1 * sd and drawn.std() == pytest.approx(sd, rel=0.1)


def test_where_the_emulator_alone_lies_in_several_places_no_chains_are_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    one_place = Draws(np.zeros((4, 10, 1)), {}, 1.0, 1, "smc")
    monkeypatch.setattr(auto, "_guided", lambda *_: one_place)
    heard, guided = Heard(), target(lambda z: -z[0], 1)
    guided.guide = guided
    auto.sample(guided, SETTINGS, heard)
    assert [line.rpartition(": ")[2] for line in heard.lines] == ["the emulator's posterior lies in several places"]


def test_in_one_place_nuts_is_the_answer_and_agrees_with_the_population() -> None:
    heard = Heard()
    draws = auto.sample(target(lambda z: norm.logpdf(2.0 * z[0] - z[1], 1.0, 0.3), 2), SETTINGS, heard)
    assert not any("the answer" in line for line in heard.lines)
    assert draws.sampler == "nuts" and draws.z.shape == (4, 1000, 2)
    found = draws.agreement
    assert found is not None and found.unvisited == 0.0 and found.lost == 0.0
    assert np.abs(found.difference).max() < 0.1 and np.abs(found.sd_ratio - 1.0).max() < 0.1
    exact = float(norm.logpdf(1.0, 0.0, np.sqrt(0.3**2 + 5.0)))  # 2 a - b of the prior has variance 5
    assert draws.log_evidence is not None and draws.log_evidence.standard_error < 0.1
    assert draws.log_evidence.value == pytest.approx(exact, abs=0.15)
    assert [row["parameter"] for row in found.table()] == ["p0", "p1"]


@pytest.mark.parametrize(("given", "taken"), [(None, 0.65), (0.8, 0.8), (0.7, 0.7), (0.95, 0.95)])
def test_an_acceptance_that_is_asked_for_is_taken_and_else_a_gaussian_has_longer_steps(
    given: float | None, taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(target: Any, settings: Infer, *_: Any) -> Draws:
        raise InterruptedError(nuts.kernel(target, settings)._target_accept_prob)

    monkeypatch.setattr(nuts, "sample", sample)
    settings = SETTINGS.model_copy(update={"target_accept": given})
    with pytest.raises(InterruptedError, match=f"^{taken}$"):
        auto.sample(target(lambda z: norm.logpdf(2.0 * z[0] - z[1], 1.0, 0.3), 2), settings, Silent())


def spike_and_hill(z: Any) -> Any:
    """A likelihood that is ten times higher on a spike than on a hill far from it, and has most of its mass there."""
    return jnp.logaddexp(jnp.log(10.0) - 0.5 * ((z[0] - 2.0) / 0.02) ** 2, -0.5 * ((z[0] + 1.0) / 0.4) ** 2)


def small_noise_or_large(z: Any) -> Any:
    """Data that one value of a parameter explains by small noise, and all of them by noise above its median."""
    curve, sigma = jnp.exp(-0.5 * ((z[0] - 1.5) / 0.1) ** 2), jnp.exp(1.5 * z[1] - 1.0)
    return norm.logpdf(jnp.array([1.05, 0.95, 1.08]), curve, sigma).sum()


@pytest.mark.parametrize(
    ("log_ratio", "size", "inside"),
    [
        (spike_and_hill, 1, lambda z: z[..., 0] > 0.5),
        (small_noise_or_large, 2, lambda z: z[..., 1] < -0.5),
    ],
)
def test_modes_have_their_mass_wherever_the_likelihood_is_highest(
    log_ratio: Callable[[Any], Any], size: int, inside: Callable[[Any], Any]
) -> None:
    draws = auto.sample(target(log_ratio, size), SETTINGS, Silent())
    axes = [np.linspace(-5.0, 5.0, 20001)] if size == 1 else [np.linspace(-5.0, 5.0, 1001)] * 2
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, size)
    density = np.asarray(jax.vmap(log_ratio)(jnp.asarray(grid))) - 0.5 * (grid**2).sum(axis=1)
    weight = np.exp(density - density.max())
    mass = weight[inside(grid)].sum() / weight.sum()
    assert 0.02 < mass < 0.98
    assert inside(draws.z).mean() == pytest.approx(mass, abs=0.04)


def test_where_no_prior_draw_is_possible_a_simulated_row_may_be() -> None:
    """Noise with ends (a Uniform, say) gives all but a corner of the prior no likelihood at all."""
    rows = np.array([[0.0], [5.5]])
    corner = target(lambda z: jnp.where(z[0] > 5.0, 0.0, -jnp.inf), 1)
    corner.starts, corner.log_likelihood, corner.chains = lambda: rows, corner.log_ratio, None
    draws = auto.sample(corner, SETTINGS.model_copy(update={"num_samples": 50, "num_warmup": 50}), Silent())
    assert draws.sampler == "nuts" and (draws.z > 5.0).all()


def test_a_mode_without_a_chain_is_told() -> None:
    rng = np.random.default_rng(0)
    sides = np.where(rng.random((4, 1000, 1)) < 0.3, -2.0, 2.0)
    population, chains = sides + 0.2 * rng.normal(size=(4, 1000, 1)), 2.0 + 0.2 * rng.normal(size=(4, 1000, 1))

    def heights(z: np.ndarray) -> np.ndarray:
        return -0.5 * ((np.abs(z[:, 0]) - 2.0) / 0.2) ** 2

    found = agreement(chains, population, ["a"], heights)
    assert found.unvisited == pytest.approx(0.3, abs=0.04) and found.lost == 0.0
    assert found.difference[0] - 3.0 * found.standard_error[0] > 0.5
    assert agreement(population, chains, ["a"], heights).lost == pytest.approx(0.3, abs=0.04)


def test_a_tail_that_no_chain_has_entered_is_told_and_chance_is_not() -> None:
    rng = np.random.default_rng(3)
    middle = rng.normal(size=(3, 4, 1000, 1))
    tail = np.where(rng.random((4, 1000, 1)) < 0.02, 6.0 * middle[2], middle[2])

    def heights(z: np.ndarray) -> np.ndarray:
        return np.logaddexp(np.log(0.98) - 0.5 * z[:, 0] ** 2, np.log(0.02 / 6.0) - 0.5 * (z[:, 0] / 6.0) ** 2)

    alike = agreement(middle[0], middle[1], ["a"], heights)
    assert not alike.differ.any()
    missed = agreement(middle[0], tail, ["a"], heights)
    assert missed.differ.all() and missed.is_wider and missed.sd_ratio[0] < 0.9
    assert not agreement(tail, middle[0], ["a"], heights).is_wider
    heavy = rng.standard_t(5.0, size=(2, 4, 1000, 1))  # either has draws far out, and neither has missed any
    assert not agreement(*heavy, ["a"], heights).differ.any()


def line_in_counts(z: Any) -> Any:
    """A weak line in counts: without any, its place may be anywhere, and a chain seldom goes there."""
    height, place = 8.0 * jnp.exp(z[0]), 20.0 * norm.cdf(z[1])
    x = jnp.arange(20.0)
    mean = 4.5 + height * jnp.exp(-0.5 * ((x - place) / 0.8) ** 2)
    return (LINE_DATA * jnp.log(mean) - mean).sum()


LINE_DATA = np.array([4, 6, 3, 5, 4, 8, 2, 5, 4, 6, 3, 5, 7, 12, 6, 4, 3, 6, 5, 4.0])


def test_what_chains_have_missed_together_is_in_the_answer() -> None:
    draws = auto.sample(target(line_in_counts, 2), SETTINGS, Silent())
    axis = np.linspace(-5.0, 5.0, 801)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.asarray(jax.vmap(line_in_counts)(jnp.asarray(grid))) - 0.5 * (grid**2).sum(axis=1)
    weight = np.exp(density - density.max()) / np.exp(density - density.max()).sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    assert draws.sampler == "smc"
    assert draws.z.std(axis=(0, 1)) == pytest.approx(sd, rel=0.15)  # by NUTS alone 0.46 to 1.19 of it, by the seed


def test_no_density_makes_a_kinetic_energy_overflow() -> None:
    """A school's effect times a scale of 1e100: where NUTS once took minus infinity for an energy, and stayed."""
    potential = nuts.kernel(target(lambda z: -0.5 * jnp.exp(300.0 * z[0]), 1), SETTINGS)._potential_fn
    value, slope = jax.value_and_grad(potential)(jnp.array([2.0]))
    assert value == 1e30 and slope[0] == 0.0
    assert potential(jnp.array([0.0])) == pytest.approx(0.5 - norm.logpdf(0.0))
    assert np.isnan(nuts.kernel(target(lambda z: jnp.nan * z[0], 1), SETTINGS)._potential_fn(jnp.zeros(1)))


def test_one_chain_is_held_against_itself() -> None:
    still, rng = np.zeros((1, 1000)), np.random.default_rng(1)
    assert largest_r_hat(rng.normal(size=(1, 1000, 1))) < 1.03
    assert largest_r_hat((still + np.linspace(0.0, 3.0, 1000) + 0.1 * rng.normal(size=1000))[..., None]) > 1.5


def test_what_diverges_has_not_converged() -> None:
    z, seldom = np.random.default_rng(2).normal(size=(4, 1000, 2)), np.zeros((4, 1000), bool)
    often = seldom.copy()
    often[:, :10] = True
    assert converged(Draws(z, {"diverging": seldom}, 0.0, 0), 2)
    assert not converged(Draws(z, {"diverging": often}, 0.0, 0), 2)
    assert not converged(Draws(z[:, :50], {"diverging": seldom[:, :50]}, 0.0, 0), 2)
