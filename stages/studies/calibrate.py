"""Beside the chain: are intervals as wide as they say? Data simulated from known parameters, each set inferred anew.

Over the prior this is simulation-based calibration (Talts et al. 2018). An emulator that was refined around one data
set is right only there: then parameters are drawn from its posterior, and inferred from the observed data and the
simulated ones together, which keeps the ranks uniform (posterior SBC, Sailynoja et al. 2025).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages import plots
from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.devices import num_programs, running
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.samplers import nuts
from simfer.stages.infer.target import Target, build_target
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Calibrate, CalibrateConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.finished.summary import unlike_prior
from simfer.stages.simulate.rows import fill
from simfer.stages.studies.calibrate_own import simulated_sets
from simfer.stages.studies.coverage import ecdf, ecdf_band, inside, tarp
from simfer.stages.summary import Summary
from simfer.stages.threads import map_in_threads

_LEVELS = (0.5, 0.8, 0.95)


def run(config: CalibrateConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Simulate data sets, infer each, and hold ranks and coverage against what they must be."""
    predictor, settings = load_predictor(config, inputs["emulator"][0]), config.calibrate
    over = settings.over if settings.over != "auto" else ("posterior" if config.refined else "prior")
    if config.infer.model:
        sets = simulated_sets(config, inputs, over, folder, progress)
        drawn = _infer(cast(Target, sets.target), sets.known, sets.data, over == "posterior", config, progress)
        named = drawn[:, :, : sets.known.shape[1]]
        return _judge(folder, sets.target.components, sets.known, named, over, settings)
    # Over the prior the data sets lie everywhere, so the error is that of all training rows.
    target, space = build_target(config, predictor, near=over == "posterior"), Space(config.parameters)
    if config.simulate.kind == "table":
        return _on_held_out_runs(config, inputs, target, folder, progress)
    if over == "posterior":
        z = Posterior.load(inputs["posterior"][0]).z()[:, : target.num_named]
        known = z[design.picked(len(z), settings.replicates, settings.seed)]
    else:
        size, seed = target.num_named, settings.seed + 10_007
        known = design.rows("prior", 0, settings.replicates, settings.replicates, size, seed)
    whitened = known[:, : space.size]
    points = lambda a, b: whitened[a:b]  # noqa: E731
    plain = config.simulate.model_copy(update={"derivatives": False})  # of which nothing is trained
    simulations = fill(folder, plain, space, len(known), points, progress, "calibrate").simulations
    _, y, usable = simulations.rows(0, len(simulations))
    truth = target.likelihood.to_transformed(y[usable], predictor.floor)
    known = known[usable]
    data = _replicate(target, known[:, space.size :], truth, settings.seed)
    draws = _infer(target, known, data, over == "posterior", config, progress)
    names = [*space.names, *target.likelihood.noise_space.names]
    return _judge(folder, names, known, draws[:, :, : target.num_named], over, settings)


def _on_held_out_runs(
    config: CalibrateConfig, inputs: Mapping[str, Sequence[Path]], target: Target, folder: Path, progress: Progress
) -> Summary:
    """Take runs that no network saw in place of simulated ones; the noise's parameters are drawn from their priors.

    Coverage is exact over a prior: over the table's runs it is where they lie as its draws do.
    """
    settings, dataset = config.calibrate, TrainingSet.load(inputs["dataset"][0])
    z, fold = dataset.points()
    rows = np.flatnonzero(fold == TEST)
    rows = np.sort(rows[design.picked(len(rows), settings.replicates, settings.seed)])
    truth = np.concatenate([dataset.outputs(int(i), int(i) + 1) for i in rows])[:, target.likelihood.index]
    size = target.likelihood.noise_space.size
    noise = design.rows("prior", 0, len(rows), len(rows), size, settings.seed + 10_007)
    known = np.concatenate([z[rows], noise], axis=1)
    data = _replicate(target, noise, truth, settings.seed)
    draws = _infer(target, known, data, False, config, progress)
    names = [*dataset.space.names, *target.likelihood.noise_space.names]
    summary = _judge(folder, names, known, draws[:, :, : target.num_named], "held-out runs", settings)
    return summary | {"warnings": list(_unlike(dataset, len(rows), settings))}


def _unlike(dataset: TrainingSet, count: int, settings: Calibrate) -> Iterator[str]:
    """Say why coverage over held-out runs may be off, or known coarsely, though the posterior is right."""
    if unlike := unlike_prior(dataset.points()[0], dataset.space):
        yield (
            f"the runs do not lie as the prior does (in {', '.join(unlike)}), so that even exact posteriors need not "
            "cover them as often as they say"
        )
    if count < settings.replicates:
        what = f"there are {count} held-out runs alone, of {settings.replicates} that calibrate.replicates asks for"
        yield f"{what}: the bands are as wide; a larger dataset.test_fraction gives more"


def _replicate(
    target: Target, noise_z: Float[np.ndarray, "sets noise"], truth: Float[np.ndarray, "sets n"], seed: int
) -> dict[str, Float[np.ndarray, "sets n"]]:
    """Add noise to simulated outputs."""
    likelihood = target.likelihood

    def one(row: tuple[Array, Array, Array]) -> dict[str, Array]:
        z, mean, key = row
        return likelihood.replicate(key, None, mean, likelihood.noise_space.values(z))

    keys = jax.random.split(jax.random.key(seed), len(truth))
    replicated = jax.jit(lambda rows: jax.lax.map(one, rows))((jnp.asarray(noise_z), jnp.asarray(truth), keys))
    return {name: np.asarray(values, float) for name, values in replicated.items()}


def _infer(
    target: Target,
    known: Float[np.ndarray, "sets known"],
    data: Mapping[str, Float[np.ndarray, "sets n"]],
    with_observed: bool,
    config: CalibrateConfig,
    progress: Progress,
) -> Float[np.ndarray, "sets draws size"]:
    """Run one chain of NUTS, set up as `infer` has it, on every data set; compiled once for all of them."""
    settings = config.calibrate
    length = settings.num_warmup + settings.num_samples

    @jax.jit
    def chain(start: Array, data: dict[str, Array], key: Array) -> Float[Array, "draws size"]:
        kernel = nuts.kernel(_on(target, data, with_observed), config.infer)
        state = kernel.init(key, settings.num_warmup, start, (), {})

        def step(state: Any, _: None) -> tuple[Any, Array]:
            state = kernel.sample(state, (), {})
            return state, state.z

        return jax.lax.scan(step, state, None, length=length)[1][settings.num_warmup :: settings.thin]

    keys = jax.random.split(jax.random.key(settings.seed + 1), len(known))
    # Each chain begins where its data came from; warm-up lets it forget.
    size = target.size + (target.num_scatter if with_observed else 0)
    starts = np.pad(known, ((0, 0), (0, size - known.shape[1])))

    def infer(i: int) -> np.ndarray:
        with running():
            return np.asarray(chain(jnp.asarray(starts[i]), {n: jnp.asarray(v[i]) for n, v in data.items()}, keys[i]))

    draws = []
    with progress.task("calibrate", total=len(known), unit="data sets") as task:
        for drawn in map_in_threads(infer, range(len(known)), num_programs()):
            draws.append(drawn)
            task.advance(1)
    return np.stack(draws)


def _on(target: Target, data: dict[str, Array], with_observed: bool) -> Target:
    """Return the target for other data than the observed ones, or for both."""
    if not with_observed:
        return target._replace(log_likelihood=lambda z: target.log_likelihood(z, data))

    def log_likelihood(z: Float[Array, " size"]) -> Float[Array, ""]:
        # The observed data scattered in their own way: they have components for it that the others have not.
        shared, own = z[: target.size - target.num_scatter], z[target.size :]
        observed = target.log_likelihood(jnp.concatenate([shared, own]))
        return target.log_likelihood(z[: target.size], data) + observed

    return target._replace(log_likelihood=log_likelihood, size=target.size + target.num_scatter)


def _judge(
    folder: Path,
    names: Sequence[str],
    known: Float[np.ndarray, "sets known"],
    draws: Float[np.ndarray, "sets draws known"],
    over: str,
    settings: Calibrate,
) -> Summary:
    ranks: Int[np.ndarray, "sets known"] = (draws < known[:, None]).sum(axis=1)
    count = draws.shape[1]
    shares = {name: ranks[:, i] / count for i, name in enumerate(names)}
    shares["TARP (all together)"] = tarp(known, draws, settings.seed)
    # As many curves as these must all stay inside: the level of each is raised to keep that of all.
    level = 1.0 - (1.0 - settings.level) / len(shares)
    grid, low, high = ecdf_band(len(known), count, level)
    stays = {name: inside(values, grid, low, high) for name, values in shares.items()}
    rows = []
    for name, values in shares.items():
        row: dict[str, Any] = {"quantity": name, "passed": stays[name]}
        if name in names:
            at = names.index(name)
            row |= {f"coverage_{100 * p:.0f}": _coverage(known[:, at], draws[:, :, at], p) for p in _LEVELS}
        else:  # the credibility at which the truth enters is uniform: its share below p is the coverage at p
            row |= {f"coverage_{100 * p:.0f}": float(np.mean(values <= p)) for p in _LEVELS}
        rows.append(row)
    passed = all(stays.values())
    curves = {name: ecdf(values, grid) for name, values in shares.items()}
    plots.calibration(folder / "calibration.png", curves, stays, grid, low, high, over)
    stored = {"over": over, "passed": passed, "rows": rows, "ranks": {n: v.tolist() for n, v in shares.items()}}
    (folder / "calibration.json").write_text(json.dumps(stored, indent=1))
    facts = {"passed": passed, "over": over, "data_sets": len(known), "level": settings.level}
    return {"facts": facts, "tables": {"calibration": rows}, "pictures": ["calibration.png"]}


def _coverage(known: Float[np.ndarray, " sets"], draws: Float[np.ndarray, "sets draws"], level: float) -> float:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=1)
    return float(np.mean((low <= known) & (known <= high)))
