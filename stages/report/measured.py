"""The data of a posterior's file beside what it predicts for them, along a line or over a plane."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages import plots


class Measured:
    """The outputs that were measured.

    Args:
        tree: The posterior's file.
        units: The units of outputs and of their coordinates.
        labels: What pictures call outputs, where not by their names.
    """

    def __init__(self, tree: xr.DataTree, units: Mapping[str, str], labels: Mapping[str, str]) -> None:
        self.units, self.labels = units, labels
        self._observed = tree["observed_data"].to_dataset()
        self._predicted = tree["posterior_predictive"].to_dataset()

    @property
    def names(self) -> list[str]:
        """The outputs with data."""
        return [str(name) for name in self._observed.data_vars]

    @cached_property
    def planes(self) -> dict[str, tuple[str, str]]:
        """The outputs whose data differ in two coordinates, and which those are."""
        varied = {name: [dim for dim, at in self._places(name).items() if np.ptp(at) > 0] for name in self.names}
        return {name: (dims[0], dims[1]) for name, dims in varied.items() if len(dims) == 2}

    def panel(self, name: str) -> plots.Panel:
        """Return an output's data along the one coordinate that they differ in, or one beside the other."""
        values, places = np.asarray(self._observed[name]).reshape(-1), self._places(name)
        varied = [dim for dim, at in places.items() if len(np.unique(at)) > 1]
        line = len(places) == 1 or len(varied) == 1
        dim = (varied or list(places))[0] if line else ""
        x = places[dim] if dim else np.arange(len(values), dtype=float)
        order, side = np.argsort(x, kind="stable"), _censored(name)
        return plots.Panel(
            output=self.labels.get(name, name),
            unit=self.units.get(name, ""),
            dim=dim.rpartition(".")[2],  # of several experiments each has its own
            dim_unit=self.units.get(dim, ""),
            x=x[order],
            observed=values[order],
            replicated=self._drawn(name)[:, order],
            curve_x=x[order],
            side=np.asarray(self._observed[side])[order] if side in self._observed.coords else None,
            name=name,
        )

    def map(self, name: str) -> plots.Map:
        """Return an output's data over their plane, each beside the mean and sd of what is predicted for it."""
        places, (down, across), drawn = self._places(name), self.planes[name], self._drawn(name)
        return plots.Map(
            self.labels.get(name, name),
            self.units.get(name, ""),
            (self._axis(down), self._axis(across)),
            places[down],
            places[across],
            np.asarray(self._observed[name]).ravel(),
            drawn.mean(axis=0),
            drawn.std(axis=0),
        )

    def _places(self, name: str) -> dict[str, Float[np.ndarray, " n"]]:
        """Return where an output's data lie, by dimension."""
        lying = [str(each) for each in self._observed.coords if self._observed[each].dims == (f"{name}_datum",)]
        dims = [each for each in lying if each != _censored(name)]
        return {each.removeprefix(f"{name}_"): np.asarray(self._observed[each], float) for each in dims}

    def _drawn(self, name: str) -> Float[np.ndarray, "draws n"]:
        return np.asarray(self._predicted[name]).reshape(-1, self._observed[name].size)

    def _axis(self, dim: str) -> str:
        unit, word = self.units.get(dim, ""), dim.rpartition(".")[2]
        return f"{word} [{unit}]" if unit else word


def _censored(name: str) -> str:
    """Return the coordinate that says of which data a bound alone is known."""
    return f"{name}_censored"
