"""Draws become a posterior that ArviZ opens: quantities in their own units, predictions, diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages.artifacts.posterior import together
from simfer.stages.infer.predictive import Predictive
from simfer.stages.infer.samplers.agreement import Agreement
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.settings import Derived, Prior

_LIBRARIES = {"nuts": "numpyro", "smc": "simfer"}
AGREEMENT = "population"  # the group that says how draws agree with the population that they began from
DRIFT = "drift"  # attribute of the statistics: how far hops have carried a population
PERIOD = "period"  # an attribute of what goes round
_SAMPLE = ("chain", "draw")


def named_draws(target: Target, z: Float[np.ndarray, "... size"]) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the simulator's and the noise's free parameters at whitened draws, by name and in their own units."""
    theta_z, noise_z, _ = target.split(z)
    spaces = (target.predictor.space, theta_z), (target.likelihood.noise_space, noise_z)
    values: dict[str, np.ndarray] = {}
    for space, part in spaces:
        if space.size:
            columns = space.columns(part)
            values |= {name: columns[name] for name in space.names}
    return values


def to_tree(
    target: Target,
    draws: Draws,
    named: Mapping[str, Float[np.ndarray, "chains draws"]],
    predictive: Predictive,
    derived: Mapping[str, Derived] = {},
    prior: tuple[Mapping[str, Float[np.ndarray, "1 draws"]], Mapping[str, Float[np.ndarray, "draws n"]]] | None = None,
) -> xr.DataTree:
    """Arrange everything in ArviZ's InferenceData schema."""
    priors: Mapping[str, Any] = {**target.predictor.space.priors, **target.likelihood.noise_space.priors, **derived}
    blocks = target.likelihood.blocks
    places = {b.name: _places(target, b.name) for b in blocks}
    observed = {b.name: ((f"{b.name}_datum",), b.values) for b in blocks}
    groups = {
        "posterior": _group(draws, together({n: (_SAMPLE, v, _attributes(priors[n])) for n, v in named.items()})),
        "unconstrained_posterior": _group(draws, {"z": ((*_SAMPLE, "whitened"), draws.z)}),
        "sample_stats": _group(draws, {name: (_SAMPLE, values) for name, values in draws.statistics.items()}),
        "posterior_predictive": _by_datum(draws, predictive.replicated, places),
        "log_likelihood": _by_datum(draws, predictive.pointwise, places),
        "observed_data": xr.Dataset(observed, coords={k: v for place in places.values() for k, v in place.items()}),
    }
    groups["sample_stats"].attrs |= {"sampling_time": draws.seconds, "gradient_evaluations": draws.num_gradients}
    if prior is not None:
        beforehand, predicted = prior
        first = next(iter(beforehand.values()))
        others = draws._replace(z=np.empty((*first.shape, 0)))  # as many as there are, in one chain
        told = {n: (_SAMPLE, v, _attributes(priors[n])) for n, v in beforehand.items()}
        groups["prior"] = _group(others, together(told))
        groups["prior_predictive"] = _by_datum(others, predicted, places)
    tell_beside(groups, draws)
    for dataset in groups.values():
        dataset.attrs |= {"inference_library": _LIBRARIES[draws.sampler], "creation_library": "simfer"}
    return xr.DataTree.from_dict(groups)


def tell_beside(groups: dict[str, xr.Dataset], draws: Draws) -> None:
    """Add what samplers said beside the draws: how two of them agree, whether one has settled, and the evidence."""
    if draws.agreement is not None:
        groups[AGREEMENT] = _beside(draws.agreement)
    if draws.drift is not None:
        groups["sample_stats"].attrs[DRIFT] = draws.drift
    if draws.log_evidence is not None:
        groups["sample_stats"].attrs |= {
            f"log_evidence{e}": v for e, v in zip(("", "_standard_error"), draws.log_evidence, strict=True)
        }


def _beside(agreement: Agreement) -> xr.Dataset:
    """Arrange how draws agree with a population, by component of a whitened point."""
    fields = ("difference", "standard_error", "sd_ratio", "sd_error")
    variables = {name: ("component", getattr(agreement, name)) for name in fields}
    attributes = {"unvisited": agreement.unvisited, "lost": agreement.lost}
    return xr.Dataset(variables, coords={"component": agreement.names}, attrs=attributes)


def _group(draws: Draws, variables: dict[str, Any], coords: Mapping[str, Any] = {}) -> xr.Dataset:
    chains, count = draws.z.shape[:2]
    return xr.Dataset(variables, coords={"chain": np.arange(chains), "draw": np.arange(count)} | dict(coords))


def _by_datum(
    draws: Draws, values: Mapping[str, Float[np.ndarray, "draws ..."]], places: Mapping[str, dict[str, Any]]
) -> xr.Dataset:
    variables: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    for name, value in values.items():
        value = value.reshape(*draws.z.shape[:2], *value.shape[1:])
        joint = value.ndim == 2  # a joint distribution has one log likelihood for all of its data
        variables[name] = (_SAMPLE if joint else (*_SAMPLE, f"{name}_datum"), value)
        coords |= {} if joint else places[name]
    return _group(draws, variables, coords)


def _attributes(prior: Prior | Derived) -> dict[str, Any]:
    if isinstance(prior, Derived):
        return {"formula": prior.words} | ({"units": prior.unit} if prior.unit else {})
    period = prior.arguments["high"] - prior.arguments["low"] if prior.periodic else None
    return ({"units": prior.unit} if prior.unit else {}) | ({PERIOD: period} if period else {})


def _places(target: Target, name: str) -> dict[str, Any]:
    """Return the coordinates of an output's data, along the dimension of its data."""
    output, series = target.predictor.layout.outputs[name], target.likelihood.data.series[name]
    at = np.unravel_index(series.index, output.shape) if output.dims else ()
    sides = {} if series.side is None else {f"{name}_censored": ((f"{name}_datum",), series.side)}  # -1 below, 1 above
    return sides | {
        f"{name}_{dim}": ((f"{name}_datum",), np.asarray(output.coords[dim])[i])
        for dim, i in zip(output.dims, at, strict=True)
    }
