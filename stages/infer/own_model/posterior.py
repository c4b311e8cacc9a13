"""Draws of a model of one's own as a posterior that ArviZ opens, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages.artifacts.posterior import POINTS
from simfer.stages.batches import in_batches
from simfer.stages.infer.own_model.target import OwnTarget
from simfer.stages.infer.posterior import tell_beside
from simfer.stages.infer.samplers.draws import Draws

_SAMPLE = ("chain", "draw")
_PRIOR = 500  # draws


def to_tree(target: OwnTarget, draws: Draws, seed: int) -> xr.DataTree:
    """Arrange draws, where they were simulated, what they predict and their prior in ArviZ's schema."""
    flat = draws.z.reshape(-1, target.size)
    values, replicated, pointwise = evaluate(target, flat, seed)
    prior = np.pad(target.prior(_PRIOR, seed + 3), ((0, 0), (0, target.size - target.num_named)))
    before, predicted, _ = evaluate(target, prior, seed + 3)
    observed = {name: (_dims(name, value.shape[1:]), seen) for (name, value), seen in
                zip(replicated.items(), _data(target), strict=True)}  # fmt: skip
    chains, count = draws.z.shape[:2]
    points = target.points(flat).reshape(chains, count, target.model.num_points, -1)
    groups = {
        "posterior": _group(values, chains, count),
        "unconstrained_posterior": xr.Dataset({"z": ((*_SAMPLE, "whitened"), draws.z)}),
        POINTS: xr.Dataset({"z": ((*_SAMPLE, "point", "parameter"), points)}),
        "sample_stats": xr.Dataset({name: (_SAMPLE, value) for name, value in draws.statistics.items()}),
        "posterior_predictive": _group(replicated, chains, count),
        "log_likelihood": _group(pointwise, chains, count),
        "observed_data": xr.Dataset(observed),
        "prior": _group(before, 1, _PRIOR),
        "prior_predictive": _group(predicted, 1, _PRIOR),
    }
    groups["sample_stats"].attrs |= {"sampling_time": draws.seconds, "gradient_evaluations": draws.num_gradients}
    tell_beside(groups, draws)
    for dataset in groups.values():
        dataset.attrs |= {"inference_library": "numpyro" if draws.sampler == "nuts" else "simfer"}
        dataset.attrs |= {"creation_library": "simfer"}
    return xr.DataTree.from_dict(groups)


def evaluate(
    target: OwnTarget, z: Float[np.ndarray, "draws size"], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return, at every draw, the model's quantities, new data, and the log likelihood of the observed ones."""

    def one(row: Any) -> Any:
        z, key = row
        ran, _ = target.run(z)
        again, _ = target.run(z, redraw=key)
        new = {name: each.value for name, each in again.observed.items()}
        return ran.values | ran.derived, new, {name: each.log_prob for name, each in ran.observed.items()}

    keys = jax.random.split(jax.random.key(seed + 1), len(z))
    found = in_batches(one, (z, keys), together=False)
    names = (target.model.named, target.model.observed, target.model.observed)  # in the model's own order
    return tuple({name: np.asarray(part[name], float) for name in own} for own, part in zip(names, found, strict=True))  # type: ignore[return-value]


def by_element(posterior: xr.Dataset) -> xr.Dataset:
    """Return quantities that are arrays as one for each element, as tables and pictures have them."""
    found: dict[str, Any] = {}
    for name, stored in posterior.data_vars.items():
        if stored.dims == _SAMPLE:
            found[str(name)] = stored
            continue
        values = np.asarray(stored)
        for index in np.ndindex(*values.shape[2:]):
            label = f"{name}[{','.join(map(str, index))}]" if index else str(name)
            found[label] = (_SAMPLE, values[(slice(None), slice(None), *index)])
    return xr.Dataset(found)


def _data(target: OwnTarget) -> list[np.ndarray]:
    def seen(z: Any) -> Any:
        return {name: each.value for name, each in target.run(z)[0].observed.items()}

    values = jax.jit(seen)(np.zeros(target.size))
    return [np.asarray(values[name], float) for name in target.model.observed]


def _group(values: Mapping[str, np.ndarray], chains: int, count: int) -> xr.Dataset:
    return xr.Dataset(
        {
            name: ((*_SAMPLE, *_dims(name, value.shape[1:])), value.reshape(chains, count, *value.shape[1:]))
            for name, value in values.items()
        },
        coords={"chain": np.arange(chains), "draw": np.arange(count)},
    )


def _dims(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{i}" for i in range(len(shape)))
