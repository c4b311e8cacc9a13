"""Pictures drawn anew from what lies on disk: for the page, for a paper, for `simfer.plots`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from simfer.stages import plots
from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.artifacts.verdict import Verdict
from simfer.stages.emulator.saved import HEADER
from simfer.stages.errors import ConfigError, Mistake, SimferError
from simfer.stages.infer.own_model.posterior import by_element
from simfer.stages.infer.summary import in_one_piece
from simfer.stages.model.quantiles import distribution, from_normal
from simfer.stages.report.material import labelled, priors_of
from simfer.stages.report.prior_predictive import PriorPredictive
from simfer.stages.settings import Prior, Problem

_NORMAL = np.linspace(-4.0, 4.0, 401)
Draws = Mapping[str, np.ndarray]


class Gallery:
    """What of a run can be drawn, from the folders of its stages."""

    def __init__(self, folders: Mapping[str, Path], problem: Problem) -> None:
        self.folders, self.problem, self.priors = folders, problem, priors_of(problem)

    @property
    def pictures(self) -> dict[str, Callable[..., None]]:
        """What can be drawn of what is there, by name."""
        every: dict[str, tuple[Callable[..., None], str]] = {
            "posterior": (self.posterior, "infer"),
            "prior_posterior": (self.prior_posterior, "infer"),
            "predictive": (self.predictive, "infer"),
            "trace": (self.trace, "infer"),
            "verdict": (self.verdict, "check"),
            "design": (self.design, "simulate"),
            "prior_predictive": (self.prior_predictive, "first"),
        }
        if self.problem.infer.model:  # which has priors of its own, and alone knows what its data belong to
            every = {name: each for name, each in every.items() if not name.startswith("prior")}
        return {name: draw for name, (draw, stage) in every.items() if stage in self.folders}

    def figure(self, name: str, **options: Any) -> Figure:
        """Return the figure of a picture.

        Raises:
            SimferError: What it is drawn from has not been run.
        """
        if name not in self.pictures:
            raise SimferError(f"{name} cannot be drawn yet; there is {', '.join(self.pictures) or 'nothing to draw'}")
        held = plots.Held()
        with plots.looking(self.look(title=True)):
            self.pictures[name](held, **options)
        return held.figure

    def write(self, folder: Path) -> list[Path]:
        """Write every picture into a folder, as `[plots]` has it."""
        folder.mkdir(parents=True, exist_ok=True)
        formats = self.problem.plots.formats
        with plots.looking(self.look(title=self.problem.plots.title)):
            for name, draw in self.pictures.items():
                draw(folder / f"{name}.png")
        return [folder / f"{name}.{kind}" for name in self.pictures for kind in formats]

    def look(self, title: bool) -> plots.Look:
        """Return how pictures are to look by the config."""
        told = self.problem.plots
        if unknown := sorted(set(told.style) - set(matplotlib.rcParams)):
            what = f"got {', '.join(unknown)}, expected names of Matplotlib's rcParams, such as font.family"
            raise ConfigError([Mistake("plots.style", what)])
        return plots.Look(told.formats, told.width, told.dpi, told.style, title)

    @cached_property
    def tree(self) -> xr.DataTree:
        """The posterior's file, read once."""
        return Posterior.load(self._folder("infer")).tree()

    @cached_property
    def units(self) -> dict[str, str]:
        """The units of outputs and of their coordinates, as the emulator's header has them."""
        if "train" not in self.folders:
            return {}
        header = json.loads((self.folders["train"] / HEADER).read_text())
        outputs = {name: str(output["unit"]) for name, output in header["layout"].items()}
        return outputs | dict(header.get("coordinate_units", {}))

    @property
    def draws(self) -> Draws:
        """The posterior's draws of each quantity."""
        return in_one_piece(by_element(self.tree["posterior"].to_dataset()))

    def posterior(
        self,
        place: plots.figures.Place,
        names: Sequence[str] | None = None,
        truth: Mapping[str, float] | None = None,
        best: Mapping[str, float] | None = None,
    ) -> None:
        """Draw every marginal and every pair; the truth and a best fit where they are given."""
        marks = {label: values for label, values in (("truth", truth), ("best fit", best)) if values}
        plots.pair(place, self._some(names), self._divergent(), self._labels(), marks=marks)

    def prior_posterior(
        self,
        place: plots.figures.Place,
        names: Sequence[str] | None = None,
        truth: Mapping[str, float] | None = None,
    ) -> None:
        """Draw each quantity's posterior over its prior."""
        shown = [
            plots.Marginal(
                self._labels()[name],
                values,
                prior_quantiles(self.priors[name]),
                _NORMAL,
                (truth or {}).get(name),
                self.priors[name].dist in ("LogNormal", "LogUniform"),
            )
            for name, values in self._some(names).items()
            if name in self.priors and self.priors[name].stands_alone  # whose own curve is that of no single prior
        ]
        plots.marginals(place, shown)

    def trace(self, place: plots.figures.Place, names: Sequence[str] | None = None) -> None:
        """Draw each quantity chain by chain."""
        plots.trace(place, self._some(names), self._divergent(), self._labels())

    def predictive(self, place: plots.figures.Place, outputs: Sequence[str] | None = None) -> None:
        """Draw the data on the intervals in which the posterior expects data."""
        observed = self.tree["observed_data"].to_dataset()
        chosen = [str(name) for name in observed.data_vars if outputs is None or name in outputs]
        if not chosen:
            raise SimferError(f"got outputs {outputs}, expected some of {list(observed.data_vars)}")
        plots.predictive(place, [self._panel(name, observed) for name in chosen])

    def panels(self) -> dict[str, plots.Panel]:
        """Return each measured output's data beside what the posterior predicts for them."""
        observed = self.tree["observed_data"].to_dataset()
        return {str(name): self._panel(str(name), observed) for name in observed.data_vars}

    def verdict(self, place: plots.figures.Place) -> None:
        """Draw how much of its limit each figure of the verdict uses up."""
        verdict = Verdict.load(self._folder("check"))
        rows = [row | {"value": np.nan if row["value"] is None else row["value"]} for row in verdict.figures["figures"]]
        plots.verdict(place, rows, checked=verdict.checked)

    def design(self, place: plots.figures.Place) -> None:
        """Draw where the simulator ran, and how it ended there."""
        simulations = Simulations.load(self._folder("simulate"))
        z, status, _ = simulations.endings()
        space = simulations.space
        theta = np.asarray(space.theta(jnp.asarray(z)))
        labels = {name: labelled(name, prior) for name, prior in space.priors.items()} | self._labels()
        plots.design(place, dict(zip(space.names, theta.T, strict=True)), status, labels)

    def prior_predictive(self, place: plots.figures.Place) -> None:
        """Draw fifty runs from the prior over the data."""
        PriorPredictive(self.problem, self._folder("first")).draw(place)

    def _folder(self, stage: str) -> Path:
        if stage not in self.folders:
            raise SimferError(f"there is nothing to draw of {stage}, which has not been run")
        return self.folders[stage]

    def _some(self, names: Sequence[str] | None) -> Draws:
        draws = self.draws
        if unknown := set(names or ()) - set(draws):
            raise SimferError(f"got names {sorted(unknown)}, expected some of {list(draws)}")
        return draws if names is None else {name: draws[name] for name in names}

    def _labels(self) -> dict[str, str]:
        return {name: name for name in self.draws if "infer" in self.folders} | {
            name: self.problem.plots.labels.get(name) or labelled(name, prior) for name, prior in self.priors.items()
        }

    def _divergent(self) -> np.ndarray | None:
        statistics = self.tree["sample_stats"].to_dataset()
        return np.asarray(statistics["diverging"]) if "diverging" in statistics else None

    def _panel(self, name: str, observed: xr.Dataset) -> plots.Panel:
        values = np.asarray(observed[name]).reshape(-1)
        replicated = np.asarray(self.tree["posterior_predictive"].to_dataset()[name]).reshape(-1, len(values))
        dims = [str(each) for each in observed.coords if observed[each].dims == (f"{name}_datum",)]
        varied = [dim for dim in dims if len(np.unique(observed[dim])) > 1]
        line = len(dims) == 1 or len(varied) == 1
        dim = (varied or dims)[0] if line and dims else ""
        x = np.asarray(observed[dim], float) if dim else np.arange(len(values), dtype=float)
        order = np.argsort(x, kind="stable")
        return plots.Panel(
            output=self.problem.plots.labels.get(name, name),
            unit=self.units.get(name, ""),
            dim=dim.removeprefix(f"{name}_"),
            dim_unit=self.units.get(dim.removeprefix(f"{name}_"), ""),
            x=x[order],
            observed=values[order],
            replicated=replicated[:, order],
            curve_x=x[order],
        )


def prior_quantiles(prior: Prior) -> np.ndarray:
    """Return the prior's quantiles at those of a standard normal; of a periodic one, evenly around."""
    return np.asarray(from_normal(distribution(prior), jnp.asarray(_NORMAL)))
