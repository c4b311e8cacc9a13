"""Data beside what is predicted for them: along their coordinate, over their plane, with their limits."""

from __future__ import annotations

import numpy as np
import xarray as xr

from simfer.stages.report.measured import Measured


def measured(coordinates: dict[str, np.ndarray], name: str = "y") -> Measured:
    """Return what a file with these coordinates of data holds."""
    size, dim = len(next(iter(coordinates.values()))), f"{name}_datum"
    coords = {f"{name}_{each}": (dim, values) for each, values in coordinates.items()}
    y = np.arange(float(size))
    observed = xr.Dataset({name: (dim, y)}, coords)
    predicted = xr.Dataset({name: (("chain", "draw", dim), y + np.array([-1.0, 1.0])[None, :, None])}, coords)
    tree = xr.DataTree.from_dict({"observed_data": observed, "posterior_predictive": predicted})
    return Measured(tree, {name: "kg", "time": "s", "x": "m"}, {name: "mass"})


def test_data_lie_along_time_whatever_else_is_known_of_them() -> None:
    censored = np.array([0, 0, -1])
    panel = measured({"censored": censored, "time": np.array([2.0, 0.0, 1.0])}).panel("y")
    assert (panel.output, panel.name, panel.unit, panel.dim, panel.dim_unit) == ("mass", "y", "kg", "time", "s")
    assert panel.x.tolist() == [0.0, 1.0, 2.0] and panel.observed.tolist() == [1.0, 2.0, 0.0]
    assert panel.side is not None and panel.side.tolist() == [0, -1, 0]


def test_an_experiment_s_own_time_is_time() -> None:
    assert measured({"low.time": np.arange(3.0)}, "low.y").panel("low.y").dim == "time"


def test_data_that_differ_in_two_coordinates_lie_on_a_plane() -> None:
    both = measured({"time": np.full(4, 7.0), "z": np.array([0.0, 0, 1, 1]), "x": np.array([0.0, 1, 0, 1])})
    assert both.planes == {"y": ("z", "x")} and both.panel("y").dim == ""
    plane = both.map("y")
    assert plane.dims == ("z", "x [m]") and plane.output == "mass"
    assert plane.expected.tolist() == plane.observed.tolist() and plane.sd.tolist() == [1.0] * 4
    assert measured({"time": np.arange(3.0)}).planes == {}
