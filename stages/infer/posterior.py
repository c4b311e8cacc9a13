"""Draws become a posterior that ArviZ opens: quantities in their own units, predictions, diagnostics, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from simfer.stages import plots
from simfer.stages.artifacts.posterior import POSTERIOR
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.infer.exact import Exact
from simfer.stages.infer.target import ErrorModel
from simfer.stages.model.likelihood import Likelihood, Prediction
from simfer.stages.settings import InferConfig
from simfer.stages.summary import Summary

_NUM_CURVES = 400  # draws whose whole output is drawn
_SAMPLE = ("chain", "draw")


class Draws(NamedTuple):
    """What NUTS returns: whitened points and statistics, with leading axes (chain, draw)."""

    z: Float[np.ndarray, "chains draws size"]
    diverging: Bool[np.ndarray, "chains draws"]
    energy: Float[np.ndarray, "chains draws"]
    accept_prob: Float[np.ndarray, "chains draws"]
    num_steps: Int[np.ndarray, "chains draws"]
    potential_energy: Float[np.ndarray, "chains draws"]
    seconds: float
    num_gradients: int  # warm-up counted


def write_posterior(
    folder: Path,
    config: InferConfig,
    likelihood: Likelihood,
    errors: ErrorModel,
    emulator: Emulator | Exact,
    draws: Draws,
) -> Summary:
    """Write the draws as NetCDF in ArviZ's InferenceData schema, and their pictures; return the summary."""
    named = named_draws(emulator, likelihood, draws.z)
    with_error = errors.with_error
    derived = _derive(likelihood, errors, emulator, draws.z, config.infer.seed)
    tree = _tree(named, emulator, likelihood, draws, derived)
    tree.to_netcdf(folder / POSTERIOR, engine="h5netcdf")
    table = summarize(tree["posterior"].to_dataset())
    pictures = _plot(folder, named, draws, likelihood, emulator, derived)
    facts = {
        "chains": draws.z.shape[0],
        "draws": draws.z.shape[1],
        "divergences": int(draws.diverging.sum()),
        "r_hat_max": max(row["r_hat"] for row in table),
        "ess_bulk_min": min(row["ess_bulk"] for row in table),
        "e_bfmi_min": float(e_bfmi(draws.energy).min()),
        "gradient_evaluations": draws.num_gradients,
        "ess_per_second": min(row["ess_bulk"] for row in table) / draws.seconds,
        "likelihood": config.infer.likelihood,
        "emulator_error": "full" if with_error else "none",
    }
    shares = [
        {"output": b.name, "share_of_variance": float(np.mean(derived["share"][:, b.at]))}
        | ({"share_of_the_simulators_scatter": float(np.mean(derived["scatter"][:, b.at]))} if errors.random else {})
        for b in likelihood.blocks
    ]
    tables = {"posterior": table} | ({"emulator error in the likelihood": shares} if with_error else {})
    return {
        "facts": facts,
        "tables": tables,
        "warnings": _warnings(facts),
        "pictures": pictures,
    }


def named_draws(
    emulator: Emulator | Exact, likelihood: Likelihood, z: Float[np.ndarray, "... size"]
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the simulator's and the noise's free parameters at whitened draws, by name and in their own units."""
    at = emulator.space.size
    end = at + likelihood.noise_space.size
    theta = emulator.space.theta(jnp.asarray(z[..., :at]))
    values = {name: np.asarray(theta[..., i]) for i, name in enumerate(emulator.space.names)}
    if likelihood.noise_space.size:
        noise = likelihood.noise_space.theta(jnp.asarray(z[..., at:end]))
        values |= {name: np.asarray(noise[..., i]) for i, name in enumerate(likelihood.noise_space.names)}
    return values


def _derive(
    likelihood: Likelihood,
    errors: ErrorModel,
    emulator: Emulator | Exact,
    z: Float[np.ndarray, "chains draws size"],
    seed: int,
) -> dict[str, Any]:
    """Evaluate at every draw: replicated data, each datum's log likelihood, and the error's share of the variance."""
    at = emulator.space.size
    end = at + likelihood.noise_space.size
    flat = jnp.asarray(z.reshape(-1, z.shape[-1]))
    keys = jax.random.split(jax.random.key(seed + 1), len(flat))

    def one(point: tuple[Array, Array]) -> dict[str, Any]:
        z, key = point
        values = likelihood.noise_space.values(z[at:end])
        prediction = errors.predict(z[:at])
        mean, variance = prediction.mean, prediction.variance
        shares = _shares(prediction, likelihood.noise_variance(mean, values))
        if not likelihood.is_gaussian and not errors.is_exact:  # the draw says which error, and which scatter, it is
            mean = mean + z[end:] @ prediction.factors
            return {
                "replicated": likelihood.replicate(key, None, mean, values, observed_offset=True),
                "pointwise": likelihood.pointwise(mean, None, values),
                **shares,
            }
        return {
            "replicated": likelihood.replicate(
                key, None if errors.is_exact else prediction, mean, values, observed_offset=True
            ),
            "pointwise": likelihood.pointwise(mean, None if errors.is_exact else variance, values),
            **shares,
        }

    # One by one: a batch would be compiled twice (its remainder too), and random numbers in it take seconds each time.
    derived = jax.jit(lambda points: jax.lax.map(one, points))((flat, keys))

    def curve(z: Array) -> dict[str, Array]:
        offsets = likelihood.offsets(errors.mean(z[:at]), likelihood.noise_space.values(z[at:end]))
        natural = emulator.natural(emulator.members(z[:at]).mean(axis=0))
        return {name: values + offsets.get(name, 0.0) for name, values in natural.items()}

    thinned = flat[:: max(len(flat) // _NUM_CURVES, 1)]
    curves = eqx.filter_jit(lambda points: jax.lax.map(curve, points, batch_size=32))(thinned)
    found = jax.tree.map(np.asarray, dict(derived)) | {"curves": jax.tree.map(np.asarray, curves), "simulated": {}}
    if errors.random is not None:
        assert isinstance(emulator, Emulator)
        found["simulated"] = jax.tree.map(np.asarray, _simulated(emulator, thinned[:, :at], seed))
    return found


def _simulated(emulator: Emulator, z: Float[Array, "draws size"], seed: int) -> dict[str, Float[Array, "draws ..."]]:
    """Draw a random simulator's whole outputs, without noise."""

    def some(z: Array, key: Array) -> dict[str, Array]:
        factor = emulator.scatter_factor(z)
        return emulator.natural(emulator.members(z).mean(axis=0) + jax.random.normal(key, (10, len(factor))) @ factor)

    found = eqx.filter_jit(jax.vmap(some))(z, jax.random.split(jax.random.key(seed + 2), len(z)))
    return jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), found)


def _shares(prediction: Prediction, noise: Array) -> dict[str, Array]:
    """Return which part of each datum's variance is the emulator's error, and which a random simulator's scatter."""
    total, scatter = prediction.variance + noise, prediction.scatter_variance
    return {"share": (prediction.variance - scatter) / total, "scatter": scatter / total}


def _tree(
    named: dict[str, np.ndarray],
    emulator: Emulator | Exact,
    likelihood: Likelihood,
    draws: Draws,
    derived: dict[str, Any],
) -> xr.DataTree:
    chains, count = draws.z.shape[:2]
    coords = {"chain": np.arange(chains), "draw": np.arange(count)}
    priors = emulator.space.priors | likelihood.noise_space.priors
    places = {b.name: _places(emulator, likelihood, b.name) for b in likelihood.blocks}

    def group(values: dict[str, Any]) -> xr.Dataset:
        return xr.Dataset(values, coords=coords)

    def data_group(values: dict[str, np.ndarray]) -> xr.Dataset:
        variables: dict[str, Any] = {}
        used: dict[str, Any] = {}
        for name, value in values.items():
            value = value.reshape(chains, count, *value.shape[1:])
            joint = value.ndim == 2  # a joint distribution has one log likelihood for all of its data
            variables[name] = (_SAMPLE if joint else (*_SAMPLE, f"{name}_datum"), value)
            used |= {} if joint else places[name]
        return xr.Dataset(variables, coords=coords | used)

    observed = {b.name: ((f"{b.name}_datum",), b.values) for b in likelihood.blocks}
    groups = {
        "posterior": group({name: (_SAMPLE, value, _attributes(priors[name].unit)) for name, value in named.items()}),
        "unconstrained_posterior": group({"z": ((*_SAMPLE, "whitened"), draws.z)}),
        "sample_stats": group(
            {
                "diverging": (_SAMPLE, draws.diverging),
                "energy": (_SAMPLE, draws.energy),
                "acceptance_rate": (_SAMPLE, draws.accept_prob),
                "n_steps": (_SAMPLE, draws.num_steps),
                "lp": (_SAMPLE, -draws.potential_energy),
            }
        ),
        "posterior_predictive": data_group(derived["replicated"]),
        "log_likelihood": data_group(derived["pointwise"]),
        "observed_data": xr.Dataset(observed, coords={k: v for place in places.values() for k, v in place.items()}),
    }
    groups["sample_stats"].attrs |= {"sampling_time": draws.seconds, "gradient_evaluations": draws.num_gradients}
    for dataset in groups.values():
        dataset.attrs |= {"inference_library": "numpyro", "creation_library": "simfer"}
    return xr.DataTree.from_dict(groups)


def _attributes(unit: str) -> dict[str, str]:
    return {"units": unit} if unit else {}


def _places(emulator: Emulator | Exact, likelihood: Likelihood, name: str) -> dict[str, Any]:
    """Return the coordinates of an output's data, along the dimension of its data."""
    output, series = emulator.layout.outputs[name], likelihood.data.series[name]
    at = np.unravel_index(series.index, output.shape) if output.dims else ()
    return {
        f"{name}_{dim}": ((f"{name}_datum",), np.asarray(output.coords[dim])[i])
        for dim, i in zip(output.dims, at, strict=True)
    }


def summarize(posterior: xr.Dataset) -> list[dict[str, Any]]:
    """Tabulate each quantity: moments, quantiles, rank-normalized R-hat, bulk and tail ESS (Vehtari et al. 2021)."""
    from arviz_stats.base import array_stats

    rows = []
    for name, values in posterior.data_vars.items():
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        rows.append(
            {
                "parameter": str(name),
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)),
                "q5": float(low),
                "median": float(median),
                "q95": float(high),
                "r_hat": float(array_stats.rhat(values.values)),
                "ess_bulk": float(array_stats.ess(values.values)),
                "ess_tail": float(array_stats.ess(values.values, method="tail", prob=(0.05, 0.95))),
                "unit": values.attrs.get("units", ""),
            }
        )
    return rows


def e_bfmi(energy: Float[np.ndarray, "chains draws"]) -> Float[np.ndarray, " chains"]:
    """Return each chain's Bayesian fraction of missing information (Betancourt 2016, equation 1); below 0.3 is poor."""
    return np.square(np.diff(energy, axis=1)).mean(axis=1) / np.maximum(energy.var(axis=1), 1e-300)


def _warnings(facts: dict[str, Any]) -> list[str]:
    found = []
    if facts["divergences"]:
        found.append(f"{facts['divergences']} divergent transitions: raise infer.target_accept (0.95)")
    if not facts["r_hat_max"] <= 1.01:
        found.append(f"R-hat {facts['r_hat_max']:.3f} is above 1.01: the chains disagree; raise infer.num_warmup")
    if facts["e_bfmi_min"] < 0.3:
        found.append(f"E-BFMI {facts['e_bfmi_min']:.2f} is below 0.3: the posterior's tails are poorly explored")
    return found


def _plot(
    folder: Path,
    named: dict[str, np.ndarray],
    draws: Draws,
    likelihood: Likelihood,
    emulator: Emulator | Exact,
    derived: Any,
) -> list[str]:
    priors = emulator.space.priors | likelihood.noise_space.priors
    labels = {
        name: (f"${prior.label}$" if prior.label else name) + (f" [{prior.unit}]" if prior.unit else "")
        for name, prior in priors.items()
    }
    plots.trace(folder / "trace.png", named, draws.diverging)
    plots.pair(folder / "pair.png", named, divergent=draws.diverging, labels=labels)
    panels = []
    for b in likelihood.blocks:
        output, series = emulator.layout.outputs[b.name], likelihood.data.series[b.name]
        line = len(output.dims) == 1
        x = (
            np.asarray(output.coords[output.dims[0]])[series.index]
            if line
            else np.arange(len(series.index), dtype=float)
        )
        order, curve = np.argsort(x), derived["curves"][b.name]
        panels.append(
            plots.Panel(
                output=b.name,
                unit=output.unit,
                dim=output.dims[0] if line else "",
                dim_unit="",
                x=x[order],
                observed=b.values[order],
                replicated=derived["replicated"][b.name][:, order],
                curve_x=np.asarray(output.coords[output.dims[0]]) if line else x,
                simulated=derived["simulated"].get(b.name) if line else None,
                curve=curve if line else curve.reshape(len(curve), -1)[:, series.index],
            )
        )
    plots.predictive(folder / "predictive.png", panels)
    pictures = ["pair.png", "trace.png", "predictive.png"]
    if maps := _maps(likelihood, emulator, derived["replicated"]):
        plots.maps(folder / "maps.png", maps)
        pictures.append("maps.png")
    return pictures


def _maps(likelihood: Likelihood, emulator: Emulator | Exact, replicated: dict[str, np.ndarray]) -> list[plots.Map]:
    """Return the outputs whose data differ in just two coordinates."""
    found = []
    for b in likelihood.blocks:
        output = emulator.layout.outputs[b.name]
        at = np.unravel_index(likelihood.data.series[b.name].index, output.shape) if output.dims else ()
        places = {dim: np.asarray(output.coords[dim], float)[i] for dim, i in zip(output.dims, at, strict=True)}
        varied = [dim for dim, values in places.items() if np.ptp(values) > 0]
        if len(varied) == 2:
            drawn, dims = replicated[b.name], (varied[0], varied[1])
            where = (places[dims[0]], places[dims[1]])
            found.append(plots.Map(b.name, output.unit, dims, *where, b.values, drawn.mean(axis=0), drawn.std(axis=0)))
    return found
