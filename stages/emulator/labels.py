"""Predictions with their names on: an xarray Dataset of points, outputs, errors, coordinates and units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from simfer.stages.model.outputs import Layout

ERROR, SCATTER, INSIDE, POINT = "_error", "_scatter", "inside", "point"


def predictions(layout: Layout, *, random: bool) -> list[str]:
    """Name all that is predicted, in the order of a table's columns."""
    kinds = ("", ERROR, SCATTER) if random else ("", ERROR)
    return [f"{name}{kind}" for kind in kinds for name in layout.outputs] + [INSIDE]


def output_of(name: str, layout: Layout) -> str:
    """Return the output that a prediction is of: the prediction itself, its error, or its scatter."""
    return name if name in layout.outputs else name.removesuffix(ERROR).removesuffix(SCATTER)


def dims_of(name: str, layout: Layout) -> tuple[str, ...]:
    """Return the dimensions of a prediction, the points' before those of its output."""
    return (POINT,) if name == INSIDE else (POINT, *layout.outputs[output_of(name, layout)].dims)


def labelled(
    predicted: Mapping[str, np.ndarray], points: Mapping[str, np.ndarray], layout: Layout, units: Mapping[str, str]
) -> xr.Dataset:
    """Put predictions at some points, and the points, into a Dataset."""
    outputs = {name: (dims_of(name, layout), values) for name, values in predicted.items()}
    places = {dim: output.coords[dim] for output in layout.outputs.values() for dim in output.dims}
    data = xr.Dataset(outputs, places | {name: (POINT, values) for name, values in points.items()})
    for name, variable in data.variables.items():
        if unit := units.get(output_of(str(name), layout)):
            variable.attrs["units"] = unit
    return data
