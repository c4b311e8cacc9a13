"""Stage 4: the emulator and the data become a posterior, by NumPyro's NUTS in the whitened space."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int
from numpyro.infer import NUTS
from scipy.stats import chi2

from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.cores import num_cores
from simfer.stages.errors import StageError
from simfer.stages.infer.exact import load_model
from simfer.stages.infer.posterior import Draws, write_posterior
from simfer.stages.infer.target import Target, build_target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer, InferConfig
from simfer.stages.summary import Summary

_STRETCH = 50  # steps in one compiled call
_STATISTICS = ("diverging", "energy", "accept_prob", "num_steps", "potential_energy")


def run(config: InferConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Draw from the posterior under the emulator, diagnose the chains, and write them for ArviZ."""
    emulator = load_model(config, inputs["emulator"][0])
    target = build_target(config, emulator)
    starts = _starts(target, np.asarray(emulator.training_z), config.infer)
    draws = sample(target, starts, config.infer, progress)
    return write_posterior(folder, config, target.likelihood, target.errors, emulator, draws)


def load(folder: Path, config: InferConfig) -> xr.DataTree:
    """Open the posterior, in ArviZ's schema."""
    return Posterior.load(folder).tree()


def _starts(target: Target, z: Float[np.ndarray, "rows p"], settings: Infer) -> Float[np.ndarray, "chains size"]:
    """Choose a simulated row for each chain: far from one another, among those that the data like.

    Chains that begin apart find several modes where there are, and their R-hat then says so. Components of a point
    that no row has (of the noise, of the error) begin at zero.
    """
    padded = jnp.asarray(np.pad(z, ((0, 0), (0, target.size - z.shape[1]))))
    score = np.array(jax.jit(lambda z: jax.lax.map(target.log_likelihood, z, batch_size=256))(padded))
    score[~np.isfinite(score)] = -np.inf
    best = np.argsort(-score)[: settings.num_chains]
    if not np.isfinite(score[best[0]]):
        raise StageError(
            "no simulated row gives the data a finite likelihood; look at the data beside the simulations, "
            "widen the priors, or raise simulate.num_simulations"
        )
    # Log likelihood ratios within a posterior are half a chi-squared (Wilks 1938): what exceeds it is not of it.
    liked = np.flatnonzero(score >= score[best[0]] - 0.5 * chi2.ppf(0.999, target.size))
    if len(liked) < settings.num_chains:
        liked = best[np.isfinite(score[best])]
    return np.asarray(padded)[_far_apart(z[liked], liked, settings.num_chains, first=best[0])]


def _far_apart(z: Float[np.ndarray, "n p"], rows: Int[np.ndarray, " n"], count: int, first: int) -> np.ndarray:
    """Return `count` of the rows, each the farthest from those before it."""
    chosen = [int(np.flatnonzero(rows == first)[0])]
    distance = np.full(len(rows), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.linalg.norm(z - z[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return rows[chosen]


def sample(target: Target, starts: Float[np.ndarray, "chains size"], settings: Infer, progress: Progress) -> Draws:
    """Run NUTS on every chain and return draws and statistics, each with leading axes (chain, draw).

    NumPyro's kernel is stepped here rather than by its `MCMC`: one compiled stretch of steps serves warm-up and
    sampling alike, tells of its progress in between, and lets go of Python's lock, so that chains run in threads.
    """

    def potential(z: Float[Array, " size"]) -> Float[Array, ""]:
        prior = norm.logpdf(z).sum()  # every prior is a standard normal here
        return -prior - target.log_likelihood(z)

    kernel = NUTS(
        potential_fn=potential,
        target_accept_prob=settings.target_accept,
        dense_mass=settings.dense_mass,
        max_tree_depth=settings.max_tree_depth,
        # The parameters are few, and a solver's gradient is cheapest forward.
        forward_mode_differentiation=settings.likelihood == "simulator",
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.num_chains)
    groups: Sequence[Any] = [slice(None)] if settings.chain_method == "vectorized" else range(settings.num_chains)
    # Compiled as one, and once for all chains; left to itself it is hundreds of small compilations.
    init = jax.jit(lambda key, z: kernel.init(key, settings.num_warmup, z, (), {}))
    states: Sequence[Any] = [init(keys[g], jnp.asarray(starts[g])) for g in groups]

    @jax.jit
    def advance(state: Any) -> tuple[Any, dict[str, Array]]:
        def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state = kernel.sample(state, (), {})
            return state, {name: getattr(state, name) for name in _STATISTICS} | {"z": state.z}

        return jax.lax.scan(step, state, None, length=_STRETCH)

    begun = time.perf_counter()
    total, kept, divergent = settings.num_warmup + settings.num_samples, [], 0
    workers = num_cores() if settings.chain_method == "parallel" else 1
    with progress.task("infer", total=total, unit="draws") as task, ThreadPoolExecutor(workers) as threads:
        for at in range(0, total, _STRETCH):
            states, parts = map(list, zip(*threads.map(advance, states), strict=True))
            drawn = _by_chain(parts, settings.chain_method == "vectorized")
            kept.append(drawn)
            divergent += int(drawn["diverging"][:, max(settings.num_warmup - at, 0) :].sum())
            task.advance(min(_STRETCH, total - at), divergent=divergent)
    joined = {name: np.concatenate([part[name] for part in kept], axis=1) for name in kept[0]}
    gradients, seconds = int(joined["num_steps"][:, :total].sum()), time.perf_counter() - begun
    drawn = {name: values[:, settings.num_warmup : total] for name, values in joined.items()}
    return Draws(**drawn, seconds=seconds, num_gradients=gradients)


def _by_chain(parts: Sequence[dict[str, Array]], vectorized: bool) -> dict[str, np.ndarray]:
    """Arrange a stretch's results with leading axes (chain, draw)."""
    if vectorized:
        return {name: np.swapaxes(np.asarray(values), 0, 1) for name, values in parts[0].items()}
    return {name: np.stack([np.asarray(part[name]) for part in parts]) for name in parts[0]}
