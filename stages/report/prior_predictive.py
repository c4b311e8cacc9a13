"""What the prior predicts, beside the data: a wrong unit or a missed dose shows here, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simfer.stages import plots
from simfer.stages.artifacts.arrays import coordinate_units
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.likelihood import read_data
from simfer.stages.model.noise import data_per_output, in_outputs_unit
from simfer.stages.model.observation import Data, Series
from simfer.stages.model.outputs import Output
from simfer.stages.settings import Problem
from simfer.stages.settings.noise import COUNTS
from simfer.stages.summary import Summary

_DRAWN = 50
_READ = 2000  # runs that are held against the data
_MOST_SERIES = 6
_FACTOR = 5.0  # between data and runs, beyond which a unit is asked for


class PriorPredictive:
    """The first simulations, which cover the prior or are those of a table, and the data."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self.problem, self.simulations = problem, Simulations.load(folder)

    @property
    def source(self) -> str:
        """Say whose runs they are: those of a table lie where somebody put them, not as the prior does."""
        return "from the prior" if self.problem.simulate.table is None else "of the table"

    @cached_property
    def data(self) -> Data:
        """The data, matched to the outputs and in their unit."""
        data = read_data(self.problem, self.simulations.layout)
        noise = self.problem.noise
        return Data({name: in_outputs_unit(noise[name], series) for name, series in data.series.items()})

    @cached_property
    def runs(self) -> Float[np.ndarray, "runs outputs"]:
        """The outputs of the runs that came to an end."""
        _, y, solved = self.simulations.rows(0, min(len(self.simulations), _READ))
        return y[solved]

    def draw(self, place: plots.figures.Place) -> None:
        """Draw fifty runs over the data."""
        some = self.runs[np.linspace(0, len(self.runs) - 1, min(_DRAWN, len(self.runs))).astype(int)]
        plots.prior_runs(place, [one for name in self.data.series for one in self._panels(name, some)], self.source)

    def words(self) -> list[str]:
        """Say of which data no run comes near; nothing where all are among the runs."""
        if not len(self.runs):
            return ["no run came to its end, so there is nothing to hold against the data"]
        said = (self._said(name, series) for name, series in self.data.series.items())
        return [words for words in said if words]

    def _said(self, name: str, series: Series) -> str:
        layout = self.simulations.layout
        output, runs = layout.outputs[name], self.runs[:, layout.slices[name]][:, series.index]
        low, high, one = runs.min(axis=0), runs.max(axis=0), self._one_count(name, series)
        beyond = np.flatnonzero((series.values < low - one) | (series.values > high + one))
        if not len(beyond):
            return ""
        worst = beyond[np.argmax(np.maximum(low - series.values, series.values - high)[beyond])]
        at = np.unravel_index(series.index[worst], output.shape) if output.dims else ()
        where = ", ".join(
            f"{dim} = {np.asarray(output.coords[dim])[i]:g}" for dim, i in zip(output.dims, at, strict=True)
        )
        span = f"{series.values[worst]:.4g}, runs {low[worst]:.4g} to {high[worst]:.4g}"
        words = (
            f"{name}: {len(beyond)} of {len(series.values)} data lie beyond all of {len(runs):,} runs {self.source}"
            f" ({f'{where}: ' if where else ''}{span})"
        )
        return words + self._cause(series.values, runs, len(beyond) / len(series.values))

    def _one_count(self, name: str, series: Series) -> np.ndarray | float:
        """Return what one count more or less is of the output, as far as counts scatter where next to none are."""
        noise = self.problem.noise[name]
        per_output = data_per_output(noise, series) if noise.dist in COUNTS else None
        return 0.0 if per_output is None else 1.0 / per_output

    @staticmethod
    def _cause(values: np.ndarray, runs: np.ndarray, share: float) -> str:
        """Say what to look at: a factor between data and runs is a unit, most often."""
        ends = "; look at the picture, then at units, priors and what drives the simulator (a dose, a start)"
        if share < 0.5 or not (values > 0).all() or not (runs > 0).all():
            return ends
        factor = float(np.median(values) / np.median(runs))
        if 1 / _FACTOR < factor < _FACTOR:
            return ends
        return f"; the data are about {float(f'{factor:.1g}'):,g} times the runs: are both in the same unit?"

    def _panels(self, name: str, some: np.ndarray) -> Iterator[plots.Runs]:
        """Yield a panel along the last dimension, for each entry of the others that has data."""
        layout = self.simulations.layout
        output, series = layout.outputs[name], self.data.series[name]
        length = len(output.coords[output.dims[-1]]) if output.dims else 1
        x = np.asarray(output.coords[output.dims[-1]], float) if output.dims else np.zeros(1)
        units = coordinate_units(self.simulations.group, layout.outputs)
        dim = output.dims[-1] if output.dims else ""
        flat = some[:, layout.slices[name]].reshape(len(some), -1, length)
        rows = series.index // length
        for row in np.unique(rows)[:_MOST_SERIES]:
            own = rows == row
            yield plots.Runs(
                output=self.problem.plots.labels.get(name, name),
                unit=output.unit,
                dim=dim.rpartition(".")[2],
                dim_unit=units.get(dim, ""),
                x=x,
                runs=flat[:, row],
                at=x[series.index[own] % length],
                observed=series.values[own],
                series=_series(output, int(row)),
                name=name,
            )


def _series(output: Output, row: int) -> str:
    """Say which series of an output with several dimensions one is."""
    if len(output.dims) < 2:
        return ""
    at = np.unravel_index(row, output.shape[:-1])
    return ", ".join(f"{dim} = {np.asarray(output.coords[dim])[i]:g}" for dim, i in zip(output.dims, at, strict=False))


def run(problem: Problem, folder: Path, file: Path) -> Summary:
    """Draw the picture into a file; return the words, as warnings."""
    if problem.infer.model:  # it alone knows which data belong to which run
        return {"facts": {}, "warnings": [], "pictures": []}
    prior = PriorPredictive(problem, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    words = prior.words()
    if len(prior.runs):
        with plots.looking(plots.Look(log=problem.in_logs)):
            prior.draw(file)
    return {"facts": {}, "warnings": words, "pictures": [file.name] if len(prior.runs) else []}
