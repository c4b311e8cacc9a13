"""Why chains disagree: slow mixing, separate places, or a chain that is nowhere near the posterior."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import xarray as xr

from simfer.pipeline import chain
from simfer.stages.check.convergence import Apart, convergence_figures, look_apart
from simfer.stages.check.evidence import changes
from simfer.stages.check.verdict import advice
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.samplers.precision import largest_sd_error, sd_error_by_islands
from simfer.stages.infer.target import Target, build_target
from simfer.stages.infer.wall import build_wall
from simfer.stages.settings import InferConfig
from simfer.stages.simulate.border import Border
from tests import helpers


@cache
def line() -> tuple[Target, xr.DataTree]:
    """Return the target of the straight line, and NUTS's draws from it."""
    result, problem = helpers.line_run(), helpers.problem(helpers.line())
    config = problem.slice(InferConfig, **chain.likelihood(problem))
    return build_target(config, load_predictor(config, result.folders["train"])), result.posterior


def moved(chain: int, by: np.ndarray) -> xr.DataTree:
    """Return the draws with those of a chain moved, and their log density."""
    target, tree = line()
    tree = tree.copy(deep=True)
    z = tree["unconstrained_posterior"]["z"].values
    z[chain] += by
    lp = [[float(target.log_ratio(draw) - 0.5 * (draw**2).sum()) for draw in each[:20]] for each in z]
    tree["sample_stats"]["lp"].values[:] = np.tile(np.array(lp), z.shape[1] // 20)
    slope = tree["posterior"]["slope"].values
    slope[chain] += by[-1]
    return tree


def test_a_chain_that_is_lost_is_told_from_chains_in_separate_places() -> None:
    tree = moved(1, np.array([0.0, 60.0]))
    assert look_apart(line()[0], tree).lost == 1
    figures = convergence_figures(helpers.problem(helpers.line()).check, line()[0], tree)
    assert {figure.kind for figure in figures if not figure.passed} == {"lost", "sampler"}
    assert "far from all that is probable" in advice(figures) and "raise infer.num_warmup" not in advice(figures)


def test_chains_that_mix_slowly_are_told_from_both() -> None:
    sd = line()[1]["unconstrained_posterior"]["z"].values.std(axis=(0, 1))
    tree = moved(1, np.array([0.0, sd[1]]))
    assert look_apart(line()[0], tree) == Apart(1, 0)
    figures = convergence_figures(helpers.problem(helpers.line()).check, line()[0], tree)
    assert {figure.kind for figure in figures if not figure.passed} == {"sampler"}


def test_a_border_that_no_chain_crosses_makes_separate_places() -> None:
    """The straight line's posterior is one place; with a region in its middle that cannot be solved it is two."""
    target, tree = line()
    z = tree["unconstrained_posterior"]["z"].values
    at, sd = z.reshape(-1, 2).mean(axis=0), z.reshape(-1, 2).std(axis=0)
    rows = at + 4.0 * sd * np.random.default_rng(0).normal(size=(400, 2))
    border = Border.learn(rows, np.abs(rows[:, 1] - at[1]) > 2.0 * sd[1], target.predictor.space)
    assert border is not None
    beside, off = tree.copy(deep=True), z[..., 1] - at[1]
    slope = np.polyfit(off.ravel(), z[..., 0].ravel(), 1)[
        0
    ]  # along the posterior's longer axis, one chain on each side
    shift = np.array([-1.0, 1.0])[:, None] * (2.2 * sd[1] + np.abs(off)) - off
    beside["unconstrained_posterior"]["z"].values[:] = z + shift[..., None] * np.array([slope, 1.0])
    assert look_apart(target, beside).places == 1
    assert look_apart(build_wall(target, border), beside).places == 2


def test_weights_that_narrow_or_turn_a_posterior_show_in_its_sds_and_correlations() -> None:
    z = np.random.default_rng(0).normal(size=(20000, 2))
    narrower = np.exp(-0.5 * z[:, 0] ** 2 * (1.0 / 0.8**2 - 1.0))
    change = changes(z, narrower / narrower.sum())
    assert change.width == pytest.approx(0.2, abs=0.02)
    assert change.shift < 0.03 and change.correlation < 0.03
    turned = np.exp(0.5 * z[:, 0] * z[:, 1])
    assert changes(z, turned / turned.sum()).correlation == pytest.approx(0.5, abs=0.05)


def test_two_standard_errors_of_an_sd_lie_within_what_is_promised_of_it() -> None:
    name, limits = "standard error of an sd (share)", helpers.problem(helpers.line()).check
    told = next(f for f in convergence_figures(limits, *line()) if f.name == name)
    assert told.passed and told.threshold == pytest.approx(limits.max_width_change / 2.0)
    held = replace(told, value=0.08, threshold=1.0).held_against({"check.max_width_change": limits.max_width_change})
    assert not held.passed and held.threshold == told.threshold


def test_an_sd_is_known_no_better_than_islands_of_a_population_agree_on_it() -> None:
    target, tree = line()
    z = np.random.default_rng(0).normal(size=tree["unconstrained_posterior"]["z"].shape)
    z[0] *= 1.16
    chains, islands = (tree.copy(deep=True) for _ in range(2))
    islands["sample_stats"] = xr.DataTree(tree["sample_stats"].to_dataset().drop_vars("diverging"))  # NUTS's alone
    for each in (chains, islands):
        each["unconstrained_posterior"]["z"].values[:] = z
    limits = helpers.problem(helpers.line()).check
    of_chains, of_islands = (
        next(f for f in convergence_figures(limits, target, each) if f.name.startswith("standard error of an sd"))
        for each in (chains, islands)
    )
    assert of_chains.value == largest_sd_error(z) and of_chains.passed
    assert of_islands.value == sd_error_by_islands(z) and not of_islands.passed
    assert sd_error_by_islands(z[:1]) == 0.0
