"""Pictures drawn anew from what lies on disk: for the page, for a paper, for `simfer.plots`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
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
from simfer.stages.report.material import priors_of
from simfer.stages.report.measured import Measured
from simfer.stages.report.prior_predictive import PriorPredictive
from simfer.stages.settings import Prior, Problem
from simfer.stages.settings.labels import labelled
from simfer.stages.settings.noise_families import BinomialNoise

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
            "maps": (self.maps, "infer"),
            "trace": (self.trace, "infer"),
            "verdict": (self.verdict, "check"),
            "design": (self.design, "simulate"),
            "prior_predictive": (self.prior_predictive, "first"),
        }
        if self.problem.infer.model:  # which has priors of its own, and alone knows what its data belong to
            every = {name: each for name, each in every.items() if not name.startswith("prior")}
        if "infer" in self.folders and not self._measured.planes:
            del every["maps"]
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
        if unknown := sorted(set(told.log) - self._names):
            what = f"got {', '.join(unknown)}, expected names of {', '.join(sorted(self._names))}"
            raise ConfigError([Mistake("plots.log", what)])
        return plots.Look(told.formats, told.width, told.dpi, told.style, title, self.problem.in_logs)

    @cached_property
    def tree(self) -> xr.DataTree:
        """The posterior's file, read once."""
        return Posterior.load(self._folder("infer")).tree()

    @cached_property
    def _measured(self) -> Measured:
        counted = {name: "" for name, noise in self.problem.noise.items() if isinstance(noise, BinomialNoise)}
        return Measured(self.tree, self.units | counted, self.problem.plots.labels)

    @cached_property
    def units(self) -> dict[str, str]:
        """The units of outputs and of their coordinates, as the emulator's header has them."""
        if "train" not in self.folders:
            return {}
        header = json.loads((self.folders["train"] / HEADER).read_text())
        outputs = {name: str(output["unit"]) for name, output in header["layout"].items()}
        return outputs | dict(header.get("coordinate_units", {}))

    @cached_property
    def _names(self) -> set[str]:
        """What axes may be asked for by: parameters, quantities of the posterior, outputs and coordinates."""
        whole = {*self.problem.parameters, *self.priors, *(self.draws if "infer" in self.folders else ())}
        if "train" in self.folders:
            layout = json.loads((self.folders["train"] / HEADER).read_text())["layout"]
            whole |= set(layout) | {dim for output in layout.values() for dim in output["dims"]}
        return whole | {
            part for name in whole for part in re.split(r"[.\[]", name) if part and part[0] not in "0123456789"
        }

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
        plots.pair(place, self._some(names), self._divergent(), self.labels, marks=marks or None)

    def prior_posterior(
        self,
        place: plots.figures.Place,
        names: Sequence[str] | None = None,
        truth: Mapping[str, float] | None = None,
    ) -> None:
        """Draw each quantity's posterior over its prior."""
        draws = self._some(names)  # a prior's own curve is shown where it is that of no other quantity
        priors = {n: self.priors[n] for n in draws if n in self.priors and self.priors[n].stands_alone}
        quantiles = prior_quantiles(priors)
        shown = [
            plots.Marginal(
                self.labels[name],
                draws[name],
                quantiles[name],
                _NORMAL,
                (truth or {}).get(name),
                name,
            )
            for name in priors
        ]
        plots.marginals(place, shown)

    def trace(self, place: plots.figures.Place, names: Sequence[str] | None = None) -> None:
        """Draw each quantity chain by chain."""
        plots.trace(place, self._some(names), self._divergent(), self.labels)

    def predictive(self, place: plots.figures.Place, outputs: Sequence[str] | None = None) -> None:
        """Draw the data on the intervals in which the posterior expects data."""
        chosen = [name for name in self._measured.names if outputs is None or name in outputs]
        if not chosen:
            raise SimferError(f"got outputs {outputs}, expected some of {self._measured.names}")
        plots.predictive(place, [self._measured.panel(name) for name in chosen])

    def panels(self) -> dict[str, plots.Panel]:
        """Return each measured output's data beside what the posterior predicts for them."""
        return {name: self._measured.panel(name) for name in self._measured.names}

    def maps(self, place: plots.figures.Place) -> None:
        """Draw data that differ in two coordinates on their plane, beside what the posterior expects there."""
        plots.maps(place, [self._measured.map(name) for name in self._measured.planes])

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
        theta = space.table(z)
        labels = {name: self.labels.get(name, labelled(name, prior)) for name, prior in space.priors.items()}
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

    @property
    def labels(self) -> dict[str, str]:
        """What pictures call each quantity, with its unit."""
        units = self._posterior_units if "infer" in self.folders else {}
        labels = {name: f"{name} [{unit}]" if unit else name for name, unit in units.items()}
        labels |= {name: labelled(name, prior) for name, prior in self.priors.items() if prior.label or prior.unit}
        return labels | self.problem.plots.labels

    @cached_property
    def _posterior_units(self) -> dict[str, str]:
        """The unit of each quantity of the posterior: the config's own, or that of the file."""
        stored = self.tree["posterior"].to_dataset()
        whole = {name: str(stored[name].attrs.get("units", "")) for name in map(str, stored.data_vars)}
        return {name: self.problem.units.get(name) or whole.get(name.partition("[")[0], "") for name in self.draws}

    def _divergent(self) -> np.ndarray | None:
        statistics = self.tree["sample_stats"].to_dataset()
        return np.asarray(statistics["diverging"]) if "diverging" in statistics else None


def prior_quantiles(priors: Mapping[str, Prior]) -> dict[str, np.ndarray]:
    """Return each prior's quantiles at those of a standard normal; of a periodic one, evenly around."""

    @jax.jit
    def quantiles(z: Any) -> dict[str, Any]:
        return {name: from_normal(distribution(prior), z) for name, prior in priors.items()}

    return {name: np.asarray(values) for name, values in quantiles(_NORMAL).items()}
