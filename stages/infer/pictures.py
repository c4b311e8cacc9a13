"""The pictures of a posterior: its quantities, its chains, and what it predicts beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simfer.stages import plots
from simfer.stages.infer.predictive import Predictive
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.model.block import Block
from simfer.stages.model.noise import data_per_output, limits_of_record
from simfer.stages.settings import Derived, Prior, TruncatedNoise
from simfer.stages.settings.labels import labelled


def draw_pictures(
    folder: Path,
    target: Target,
    draws: Draws,
    named: Mapping[str, Float[np.ndarray, "chains draws"]],
    predictive: Predictive,
    derived: Mapping[str, Derived] = {},
) -> list[str]:
    """Draw the pictures into a folder, and return their names."""
    own = target.predictor.space.priors | target.likelihood.noise_space.priors
    described: dict[str, Prior | Derived] = {**own, **derived}
    labels = {name: labelled(name, quantity) for name, quantity in described.items()}
    divergent = draws.statistics.get("diverging")
    plots.trace(folder / "trace.png", named, divergent, labels)
    plots.pair(folder / "pair.png", named, divergent=divergent, labels=labels)
    blocks = target.likelihood.blocks
    plots.predictive(folder / "predictive.png", [_panel(target, b, predictive) for b in blocks])
    pictures = ["pair.png", "trace.png", "predictive.png"]
    if maps := _maps(target, predictive):
        plots.maps(folder / "maps.png", maps)
        pictures.append("maps.png")
    return pictures


def _panel(target: Target, b: Block, predictive: Predictive) -> plots.Panel:
    output, index = target.predictor.layout.outputs[b.name], target.likelihood.data.series[b.name].index
    line = len(output.dims) == 1
    coords = np.asarray(output.coords[output.dims[0]]) if line else np.arange(output.size)
    x = coords[index] if line else np.arange(len(index), dtype=float)
    order, side = np.argsort(x), b.series.side
    per_output = data_per_output(b.noise, b.series)
    counted = per_output is None or (per_output != 1.0).any()
    curve, simulated = (
        _as_data(each, per_output) for each in (predictive.curves[b.name], predictive.simulated.get(b.name))
    )
    if curve is not None and not line:
        curve = curve.reshape(len(curve), -1)[:, index]
    return plots.Panel(
        output=b.name,
        unit="" if counted else output.unit,
        dim=output.dims[0].rpartition(".")[2] if line else "",
        dim_unit=target.predictor.units.get(output.dims[0], "") if line else "",
        x=x[order],
        observed=b.values[order],
        replicated=predictive.replicated[b.name][:, order],
        curve_x=coords if line else x,
        simulated=simulated if line else None,
        curve=curve,
        side=None if side is None else side[order],
        limits=_limits(b),
    )


def _as_data(outputs: np.ndarray | None, per_output: Float[np.ndarray, " n"] | None) -> np.ndarray | None:
    """Return outputs in the unit of the data; nothing where that differs from datum to datum, or nobody knows it."""
    if outputs is None or per_output is None or np.ptp(per_output) > 0.0:
        return None
    return outputs * per_output[0]


def _limits(b: Block) -> tuple[float, ...]:
    """Return the limits beyond which no datum is on record, where they are the same for all."""
    if not isinstance(b.noise, TruncatedNoise):
        return ()
    ends = [np.unique(each) for each in limits_of_record(b.noise, b.series)]
    return tuple(float(each[0]) for each in ends if len(each) == 1 and np.isfinite(each[0]))


def _maps(target: Target, predictive: Predictive) -> list[plots.Map]:
    """Return the outputs whose data differ in just two coordinates."""
    maps = []
    for b in target.likelihood.blocks:
        output, index = target.predictor.layout.outputs[b.name], target.likelihood.data.series[b.name].index
        at = np.unravel_index(index, output.shape) if output.dims else ()
        places = {dim: np.asarray(output.coords[dim], float)[i] for dim, i in zip(output.dims, at, strict=True)}
        varied = [dim for dim, values in places.items() if np.ptp(values) > 0]
        if len(varied) == 2:
            replicated, dims = predictive.replicated[b.name], (varied[0], varied[1])
            where, moments = (places[dims[0]], places[dims[1]]), (replicated.mean(axis=0), replicated.std(axis=0))
            maps.append(plots.Map(b.name, output.unit, dims, *where, b.values, *moments))
    return maps
