"""NumPyro's No-U-Turn sampler (Hoffman & Gelman 2014) in the whitened space."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from numpyro.infer import NUTS

from simfer.stages.batches import compiled, split_keys
from simfer.stages.devices import num_programs, platform
from simfer.stages.infer.samplers.chains import Chains, joined
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.samplers.metric import Metric, adapt_step
from simfer.stages.infer.starts import choose_starts
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer
from simfer.stages.threads import map_in_threads

_STRETCH = 50  # steps in one compiled call
_HIGHEST = 1e30  # potential: beyond it momenta overflow, and with them the kinetic energy, to minus infinity
_STATISTICS = ("diverging", "energy", "accept_prob", "num_steps", "potential_energy")


def kernel(target: Target, settings: Infer, metric: Metric | None = None) -> NUTS:
    """Set NUTS up for a target, whoever samples it; it adapts its mass matrix and its step if no `metric` is known."""

    def potential(z: Float[Array, " size"]) -> Float[Array, ""]:
        value = -norm.logpdf(z).sum() - target.log_ratio(z)
        return jnp.where(value > _HIGHEST, _HIGHEST, value)

    known: dict[str, Any] = {}
    if metric is not None:
        inverse_mass = metric.covariance if settings.dense_mass else np.diag(metric.covariance)
        known = {"inverse_mass_matrix": jax.device_put(inverse_mass), "step_size": metric.first_step(settings.accept())}
    return NUTS(
        potential_fn=potential,
        target_accept_prob=settings.accept(),
        dense_mass=settings.dense_mass,
        adapt_mass_matrix=metric is None,
        adapt_step_size=metric is None,
        max_tree_depth=settings.max_tree_depth,
        # The parameters are few, and a solver's gradient is cheapest forward.
        forward_mode_differentiation=settings.likelihood == "simulator",
        **known,
    )


def sample(
    target: Target,
    settings: Infer,
    progress: Progress,
    starts: Float[np.ndarray, "chains size"] | None = None,
    metric: Metric | None = None,
) -> Draws:
    """Run NUTS on every chain, from simulated rows that the data like if no starts are given.

    Where the posterior's `metric` is known, warm-up adapts the step alone.

    NumPyro's kernel is stepped here rather than by its `MCMC`: one compiled stretch of steps serves warm-up and
    sampling alike, tells of its progress in between, and lets go of Python's lock, so that chains run in threads. Where
    `target.chains` names a file, they go on from where they stand in it.
    """
    stepper, vectorized = kernel(target, settings, metric), is_one_array(settings.chain_method)
    starts = choose_starts(target, settings.num_chains) if starts is None else starts
    keys = split_keys(settings.seed, settings.num_chains)
    groups: Sequence[Any] = [slice(None)] if vectorized else range(settings.num_chains)
    # Compiled as one, and once for all chains; left to itself it is hundreds of small compilations.
    starts = np.asarray(starts, float)

    def init(key_data: Array, z: Array) -> Any:
        own_warmup = settings.num_warmup if metric is None else 0
        state = stepper.init(jax.random.wrap_key_data(key_data), own_warmup, z, (), {})
        return state, jnp.full_like(state.accept_prob, 0.0 if metric is None else metric.loss)

    begin = compiled(init, keys[groups[0]], starts[groups[0]], effort="least")
    states: Sequence[Any] = [begin(keys[g], starts[g]) for g in groups]

    def stretch_of_steps(state: Any) -> tuple[Any, dict[str, Array]]:
        def step(before: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state, loss = stepper.sample(before[0], (), {}), before[1]
            told = {name: getattr(state, name) for name in _STATISTICS} | {"z": state.z}
            if metric is not None:
                state, loss = adapt_step(state, loss, settings.accept(), settings.num_warmup)
            return (state, loss), told

        return jax.lax.scan(step, state, None, length=_STRETCH)

    advance = compiled(stretch_of_steps, states[0])
    known = () if metric is None else (metric.covariance, np.array(metric.loss))
    chains = Chains(target.chains, starts, np.array(settings.num_warmup), *known)
    states, stretches = chains.restore(states)
    done = stretches[0]["z"].shape[1] if stretches else 0
    begun, total, divergent = time.perf_counter() - chains.seconds, settings.num_warmup + settings.num_samples, 0
    workers = num_programs() if settings.chain_method == "parallel" else 1
    with progress.task("infer", total=total, unit="draws") as task:
        task.advance(min(done, total))
        for start in range(done, total, _STRETCH):
            states, parts = map(list, zip(*map_in_threads(advance, states, workers), strict=True))
            stretches.append(stretch := _by_chain(parts, vectorized))
            divergent += int(stretch["diverging"][:, max(settings.num_warmup - start, 0) :].sum())
            task.advance(min(_STRETCH, total - start), divergent=divergent)
            chains.save(states, stretches, time.perf_counter() - begun, now=start + _STRETCH >= total)
    steps = {name: values[:, :total] for name, values in joined(stretches).items()}
    seconds, gradients = time.perf_counter() - begun, int(steps["num_steps"].sum())
    drawn = {name: values[:, settings.num_warmup :] for name, values in steps.items()}
    return Draws(drawn["z"], _statistics(drawn), seconds, gradients)


def is_one_array(chain_method: str) -> bool:
    """Say whether chains run as one array: side by side they do so on an accelerator, which serves one at a time."""
    return chain_method == "vectorized" or (chain_method == "parallel" and platform() != "cpu")


def _by_chain(parts: Sequence[dict[str, Array]], vectorized: bool) -> dict[str, np.ndarray]:
    """Arrange a stretch's results with leading axes (chain, draw)."""
    if vectorized:
        return {name: np.swapaxes(np.asarray(values), 0, 1) for name, values in parts[0].items()}
    return {name: np.stack([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def _statistics(drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give NumPyro's statistics the names that ArviZ has for them."""
    return {
        "diverging": drawn["diverging"],
        "energy": drawn["energy"],
        "acceptance_rate": drawn["accept_prob"],
        "n_steps": drawn["num_steps"],
        "lp": -drawn["potential_energy"],
    }
