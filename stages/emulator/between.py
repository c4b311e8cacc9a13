"""Outputs as curves over their coordinates: what a network says between those that were saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from simfer.stages.emulator.coordinates import Axis, grid, interpolate, make_axis
from simfer.stages.errors import SimferError
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.transforms import TRANSFORMS

Places = Mapping[str, Float[Array, " n"]]


def check(at: Mapping[str, Any], layout: Layout) -> dict[str, Float[Array, "..."]]:
    """Return the coordinates asked for as arrays. Raises SimferError where no output has such a dimension."""
    known = {dim for output in layout.outputs.values() for dim in output.dims}
    if set(at) - known:
        raise SimferError(f"got coordinates of {sorted(set(at) - known)}, expected dimensions among {sorted(known)}")
    places = {dim: jnp.asarray(values, float) for dim, values in at.items()}
    for dim, values in places.items():
        if values.ndim > 1:
            raise SimferError(f"got coordinates {dim} of shape {values.shape}, expected a number or a list of numbers")
    return places


def evaluate(
    networks: PyTree,
    x: Float[Array, " size"],
    at: Mapping[str, Float[Array, "..."]],
    layout: Layout,
    scaling: tuple[Float[Array, " outputs"], Float[Array, " outputs"]],
    transform: Mapping[str, Any],
) -> dict[str, Float[Array, "..."]]:
    """Return each output at the coordinates `at`, and at its own along dimensions that are not named there.

    A number drops its dimension. `scaling` is the location and the scale of the outputs: cubic splines go through both.
    """
    axes = {name: _axes(output) for name, output in layout.outputs.items()}
    places = {name: _places(own, at) for name, own in axes.items()}
    points = {name: grid(list(own.values())) for name, own in places.items()}
    scaled = eqx.filter_vmap(lambda network: network.between(x, points))(networks)
    predicted = {}
    for name, output in layout.outputs.items():
        saved = (part[layout.slices[name]].reshape(output.shape) for part in scaling)
        location, scale = (interpolate(part, axes[name], places[name]) for part in saved)
        y = location + scale * scaled[name].mean(axis=0).reshape(location.shape).astype(location.dtype)
        y = jnp.where(_inside(axes[name], places[name]).reshape(y.shape), y, jnp.nan)
        dropped = tuple(i for i, dim in enumerate(output.dims) if dim in at and at[dim].ndim == 0)
        predicted[name] = jnp.squeeze(TRANSFORMS[transform[name]].inverse(y), dropped)
    return predicted


def _axes(output: Output) -> dict[str, Axis]:
    return {dim: make_axis(output.coords[dim]) for dim in output.dims}


def _places(axes: Mapping[str, Axis], at: Mapping[str, Float[Array, "..."]]) -> Places:
    return {dim: jnp.atleast_1d(at.get(dim, jnp.asarray(axis.values))) for dim, axis in axes.items()}


def _inside(axes: Mapping[str, Axis], places: Places) -> Bool[Array, " points"]:
    along = [(min(axes[dim].values) <= x) & (x <= max(axes[dim].values)) for dim, x in places.items()]
    return jnp.asarray(grid(along), bool).all(axis=-1)
