"""Stage 5: posterior draws go through the true simulator, which says whether the posterior can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float
from scipy.special import logsumexp

from simfer.stages import plots
from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.artifacts.verdict import VERDICT, Verdict
from simfer.stages.check.residuals import by_output, no_residuals, scatter_figures, standardise
from simfer.stages.check.verdict import Figure, advice, edge_mass
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.infer.exact import Exact, load_model
from simfer.stages.infer.posterior import named_draws, summarize
from simfer.stages.infer.target import Target, build_target
from simfer.stages.model import pca as basis
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.progress import Progress
from simfer.stages.settings import Check, CheckConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.failures import Told, tell_draws
from simfer.stages.simulate.rows import fill
from simfer.stages.summary import Summary

REWEIGHTED = "reweighted.nc"
NO_K_HAT = (
    "simulated anew at posterior draws, in units of the predicted sd (the simulator is random, so nobody knows its "
    "likelihood at a draw: there are no weights, and no k-hat)"
)
_FEWEST = 25  # usable draws below which nothing can be compared: a fifth of them, five at least, make a Pareto tail


def run(config: CheckConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Simulate a sample of the posterior, compare, and give the verdict."""
    emulator = load_model(config, inputs["emulator"][0])
    posterior, space = Posterior.load(inputs["posterior"][0]), Space(config.parameters)
    target, draws = build_target(config, emulator), posterior.z()
    draws = draws[np.sort(design.picked(len(draws), config.check.num_draws, config.check.seed))]
    z = draws[:, : space.size]
    points, stream = lambda a, b: z[a:b], f"check-{config.round}"
    simulations = fill(folder, config.simulate, space, len(z), points, progress, stream).simulations
    training = [Simulations.load(path) for name in ("simulations", "checks") for path in inputs[name]]
    told = tell_draws(simulations, training, space)
    _, y, usable = simulations.rows(0, len(simulations))
    enough = usable.sum() >= _FEWEST
    tree, at_draws = posterior.tree(), draws[usable]
    if target.errors.random is not None:
        residuals = standardise(target, emulator, at_draws, y[usable]) if enough else no_residuals(target)
        figures = scatter_figures(config.check, residuals) + _figures(config, target, emulator, draws, usable, tree)
        figures.append(_predictive_figure(config.check, residuals.predictive_p))
        return _write(folder, figures, NO_K_HAT, by_output(target, residuals), len(z), told)
    evidence = _compare(target, emulator, draws, y, usable) if enough else _nothing(target)
    figures = _emulator_figures(config.check, target, evidence)
    figures += _figures(config, target, emulator, draws, usable, tree)
    figures.append(_predictive_figure(config.check, evidence.predictive_p))
    if config.check.reweight and enough:
        _reweight(folder / REWEIGHTED, named_draws(emulator, target.likelihood, at_draws), evidence)
    dropped = _dropped(target, emulator, at_draws, y[usable]) if enough else {}
    errors = _errors(target, evidence, dropped)
    return _write(folder, figures, "emulator error at the posterior, in data sigma", errors, len(z), told)


def load(folder: Path, config: CheckConfig) -> Verdict:
    """Open the verdict of the true simulator on the posterior."""
    return Verdict.load(folder)


class Evidence(NamedTuple):
    """The emulator beside the true simulator, at the usable draws."""

    error: Float[np.ndarray, "draws n"]  # emulated - simulated, in units of the data's sigma
    log_ratio: Float[np.ndarray, " draws"]  # log likelihood by the simulator - by the emulator
    weights: Float[np.ndarray, " draws"]  # Pareto-smoothed, summing to one
    k_hat: float
    shift: float  # the largest of a mean by reweighting, in posterior sd
    predictive_p: float


def _nothing(target: Target) -> Evidence:
    """Say that too few draws could be simulated to say anything: every figure fails."""
    nan = float("nan")
    return Evidence(np.full((1, len(target.likelihood.index)), nan), np.array([nan]), np.array([nan]), nan, nan, nan)


def _compare(
    target: Target, emulator: Emulator | Exact, draws: np.ndarray, y: np.ndarray, usable: Bool[np.ndarray, " draws"]
) -> Evidence:
    likelihood, at = target.likelihood, emulator.space.size
    end = at + likelihood.noise_space.size
    floor = float(emulator.header["floor"])
    truth = jnp.asarray(likelihood.to_transformed(y[usable], floor))
    points, keys = jnp.asarray(draws[usable]), jax.random.split(jax.random.key(0), int(usable.sum()))

    def one(z: Array, truth: Array, key: Array) -> tuple[Array, Array, Array]:
        values = likelihood.noise_space.values(z[at:end])
        sigma = jnp.sqrt(likelihood.noise_variance(truth, values))
        exact = likelihood.exact(truth, values)
        replicated = likelihood.replicate(key, None, truth, values)
        return (
            (target.errors.mean(z[:at]) - truth) / sigma,
            exact - target.log_likelihood(z),
            likelihood.exact(truth, values, replicated) <= exact,
        )

    error, ratio, less = jax.jit(lambda rows: jax.lax.map(lambda row: one(*row), rows))((points, truth, keys))
    weights, k_hat = smooth(np.asarray(ratio))
    z = draws[usable][:, :end]
    shift = np.abs(weights @ z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-300)
    return Evidence(np.asarray(error), np.asarray(ratio), weights, k_hat, float(shift.max()), float(np.mean(less)))


def smooth(log_ratio: Float[np.ndarray, " draws"]) -> tuple[Float[np.ndarray, " draws"], float]:
    """Return Pareto-smoothed importance weights and their k-hat (Vehtari et al. 2024)."""
    from arviz_stats.base import array_stats

    # An impossible draw has weight zero, which Pareto smoothing must see as a number.
    finite = np.isfinite(log_ratio)
    if not finite.any():
        return np.full(len(log_ratio), np.nan), np.inf
    log_ratio = np.where(finite, log_ratio, log_ratio[finite].max() - 700.0)
    if np.ptp(log_ratio) < 1e-9:
        return np.full(len(log_ratio), 1.0 / len(log_ratio)), 0.0
    with np.errstate(divide="ignore", invalid="ignore"):  # where one draw has all the weight, there is no tail to fit
        log_weights, k_hat = map(np.asarray, array_stats.psislw(-log_ratio))  # it takes log likelihoods
    if np.isnan(log_weights).any() or np.isnan(k_hat):
        log_weights, k_hat = log_ratio, np.asarray(np.inf)
    return np.exp(log_weights - logsumexp(log_weights)), float(k_hat)


def _emulator_figures(limits: Check, target: Target, evidence: Evidence) -> list[Figure]:
    efficiency = 1.0 / np.sum(evidence.weights**2) / len(evidence.weights)
    return [
        Figure(f"emulator error, {b.name} (99th percentile, data sigma)", "emulator",
               float(np.quantile(np.abs(evidence.error[:, b.at]), 0.99)), limits.max_emulator_error)
        for b in target.likelihood.blocks
    ] + [
        Figure("log likelihood, simulator - emulator (sd)", "emulator",
               float(np.std(evidence.log_ratio)), limits.max_log_ratio),
        # Where the weights hardly differ, the shape of their tail is noise: then efficiency alone decides.
        Figure("Pareto k-hat", "emulator", evidence.k_hat if efficiency < 0.95 else min(evidence.k_hat, 0.0),
               limits.max_k_hat),
        Figure("importance sampling efficiency", "emulator", float(efficiency), limits.min_efficiency, True),
        Figure("largest shift by reweighting (posterior sd)", "emulator", evidence.shift, limits.max_shift),
    ]  # fmt: skip


def _figures(
    config: CheckConfig,
    target: Target,
    emulator: Emulator | Exact,
    draws: np.ndarray,
    usable: np.ndarray,
    tree: xr.DataTree,
) -> list[Figure]:
    limits, likelihood = config.check, target.likelihood
    at, end = emulator.space.size, emulator.space.size + likelihood.noise_space.size
    table = summarize(tree["posterior"].to_dataset())
    divergent = float(tree["sample_stats"]["diverging"].mean())
    return [
        Figure("draws outside the training domain", "domain",
               float(np.mean(~np.asarray(emulator.domain.holds(draws[:, :at])))), limits.max_outside),
        Figure("draws that the simulator cannot solve", "failures", float(np.mean(~usable)), limits.max_outside),
        Figure("posterior mass at a prior's edge", "prior",
               edge_mass(emulator.space.priors | likelihood.noise_space.priors, draws[:, :end]), limits.max_edge),
        Figure("largest R-hat", "sampler", max(row["r_hat"] for row in table), limits.max_r_hat),
        Figure("smallest ESS, bulk or tail", "sampler",
               min(min(row["ess_bulk"], row["ess_tail"]) for row in table), limits.min_ess, True),
        Figure("divergent transitions (share)", "sampler", divergent, limits.max_divergent),
    ]  # fmt: skip


def _predictive_figure(limits: Check, p: float) -> Figure:
    return Figure("posterior predictive p", "model", p, limits.min_predictive_p, True)


def _reweight(file: Path, named: Mapping[str, Float[np.ndarray, " draws"]], evidence: Evidence) -> None:
    """Write the simulated draws with their weights: no row is repeated, so nothing is lost."""
    values = {name: ("draw", drawn) for name, drawn in named.items()}
    attributes = {"k_hat": evidence.k_hat, "comment": "weights sum to one; draws are those that check simulated"}
    xr.Dataset(values | {"weight": ("draw", evidence.weights)}, attrs=attributes).to_netcdf(file, engine="h5netcdf")


def _dropped(
    target: Target, emulator: Emulator | Exact, draws: np.ndarray, y: np.ndarray
) -> dict[str, Float[np.ndarray, "draws n"]]:
    """Return what principal components drop of the simulated outputs at the data, in units of the data's sigma."""
    if not isinstance(emulator, Emulator) or not emulator.bases:
        return {}
    likelihood, at = target.likelihood, emulator.space.size
    floor, end = float(emulator.header["floor"]), at + likelihood.noise_space.size
    truth = jnp.asarray(likelihood.to_transformed(y, floor))
    variance = jax.jit(jax.vmap(lambda mean, z: likelihood.noise_variance(mean, likelihood.noise_space.values(z))))
    sigma = np.sqrt(np.asarray(variance(truth, jnp.asarray(draws[:, at:end]))))
    found = {}
    for b in likelihood.blocks:
        if b.name in emulator.bases:
            part = emulator.layout.slices[b.name]
            forward = TRANSFORMS[b.transform].forward  # type: ignore[index]
            centred = forward(y[:, part], floor) - np.asarray(emulator.location[part])
            lost = centred - basis.project(centred, np.asarray(emulator.bases[b.name]))
            found[b.name] = lost[:, likelihood.data.series[b.name].index] / sigma[:, b.at]
    return found


def _errors(target: Target, evidence: Evidence, dropped: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Tabulate the emulator's error at the posterior, in units of the data's sigma."""
    size = np.abs(evidence.error)
    return [
        {
            "output": b.name,
            "median": float(np.median(size[:, b.at])),
            "percentile_99": float(np.quantile(size[:, b.at], 0.99)),
        }
        | ({"pca_drops_99": float(np.quantile(np.abs(dropped[b.name]), 0.99))} if b.name in dropped else {})
        for b in target.likelihood.blocks
    ]


def _write(
    folder: Path, figures: list[Figure], title: str, errors: list[dict[str, Any]], simulated: int, told: Told
) -> Summary:
    passed = all(figure.passed for figure in figures)
    words = "passed: the true simulator agrees" if passed else f"failed: {advice(figures, told.unsolved)}"
    rows = [figure.row() for figure in figures]
    # JSON has no NaN: what could not be computed is null there.
    stored = [row | {"value": row["value"] if np.isfinite(row["value"]) else None} for row in rows]
    verdict = {"passed": passed, "verdict": words, "figures": stored}
    (folder / VERDICT).write_text(json.dumps(verdict, indent=1, allow_nan=False))
    plots.verdict(folder / "verdict.png", rows)
    facts = {"passed": passed, "verdict": words, "simulations": simulated}
    return {
        "facts": facts | {"draws_where_simulations_failed": told.share_uncertain},
        "tables": {
            "verdict": [figure.line() for figure in figures],
            title: errors,
            "draws that the simulator cannot solve (the first few)": told.draws,
        },
        "warnings": told.warnings,
        "pictures": ["verdict.png"],
    }
