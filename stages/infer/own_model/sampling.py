"""Stage 4 where a model of one's own says what the data are: look first, then draw with the emulator's error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages import plots
from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.posterior import POSTERIOR, Posterior
from simfer.stages.infer.own_model.posterior import by_element, to_tree
from simfer.stages.infer.own_model.target import SEEN, OwnTarget, build_own_target, error_factor
from simfer.stages.infer.own_model.whitening import Centre
from simfer.stages.infer.predictor import Predictor, load_predictor
from simfer.stages.infer.samplers import SAMPLERS
from simfer.stages.infer.samplers.chains import CHAINS
from simfer.stages.infer.samplers.smc import settle
from simfer.stages.infer.summary import sampler_facts, summarize, warnings_of
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import InferConfig, LikelihoodConfig
from simfer.stages.summary import Summary

_LOOK = 500  # points of each island that see where the emulator's error matters
_CENTRE = "centre_"
_FEWER = 4000  # points of which the places in the parameters of the simulator are made


def run(config: InferConfig, emulator: Path, folder: Path, progress: Progress) -> Summary:
    """Draw from the posterior of a model of one's own, and write the draws and their pictures."""
    predictor = load_predictor(config, emulator)
    seen = _look(config, predictor, progress)
    seen.save(folder)
    target, factor = build_own_target(config, predictor, *seen), seen.factor
    draws = SAMPLERS[config.infer.sampler](_sampled(target._replace(chains=folder / CHAINS)), config.infer, progress)
    tree = to_tree(target, draws, config.infer.seed)
    write_netcdf(tree, folder / POSTERIOR)
    elements = by_element(tree["posterior"].to_dataset())
    table, shown = summarize(elements), {str(name): np.asarray(values) for name, values in elements.data_vars.items()}
    divergent = draws.statistics.get("diverging")
    plots.trace(folder / "trace.png", shown, divergent)
    plots.pair(folder / "pair.png", shown, divergent=divergent)
    plots.predictive(folder / "predictive.png", [_panel(tree, str(name)) for name in tree["observed_data"].data_vars])
    facts = sampler_facts(draws, table)
    facts |= {
        "likelihood": config.infer.likelihood,
        "model": Path(config.infer.model).name,
        "simulations_of_a_draw": target.model.num_points,
        "emulator_error": "none" if factor is None else "full",
    }
    tables: dict[str, Any] = {"posterior": table}
    if len(draws.places) > 1:
        tables["separate places that the posterior lies in"] = draws.places
    if draws.agreement is not None:
        tables["NUTS beside the population that it began from, in posterior sd"] = draws.agreement.table()
    summary: Summary = {"facts": facts, "tables": tables, "warnings": warnings_of(facts)}
    return summary | {"pictures": ["pair.png", "trace.png", "predictive.png"], "handed": Posterior.load(folder).handed}


class Seen(NamedTuple):
    """What a first look at the posterior told."""

    factor: Float[np.ndarray, "k outputs"] | None  # of the emulator's error there
    centres: dict[str, Centre]

    def save(self, folder: Path) -> None:
        """Write it beside the posterior."""
        arrays: dict[str, Any] = {f"{_CENTRE}{name}": np.array(each, float) for name, each in self.centres.items()}
        np.savez(folder / SEEN, **(arrays if self.factor is None else {"factor": self.factor} | arrays))

    @classmethod
    def load(cls, folder: Path) -> Seen:
        """Read it."""
        with np.load(folder / SEEN, allow_pickle=False) as stored:
            centres = {
                name.removeprefix(_CENTRE): Centre(bool(stored[name][0]), *map(float, stored[name][1:]))
                for name in stored.files
                if name.startswith(_CENTRE)
            }
            return cls(stored["factor"] if "factor" in stored.files else None, centres)


def load_own_target(config: LikelihoodConfig, emulator: Path, posterior: Path) -> OwnTarget:
    """Return what was sampled, as the posterior's own folder has it."""
    return build_own_target(config, load_predictor(config, emulator), *Seen.load(posterior))


def _look(config: InferConfig, predictor: Predictor, progress: Progress) -> Seen:
    """Return what a population that knows of no error sees of the posterior."""
    plain = build_own_target(config, predictor, None)
    z = settle(_sampled(plain), config.infer, progress, _LOOK, more=0).population.z.reshape(-1, plain.size)
    centres = plain.centres(z)
    if config.infer.emulator_error == "none" or predictor.cross_validation is None:
        return Seen(None, centres)
    points = plain.points(z[:: -(-len(z) * plain.model.num_points // _FEWER)])
    return Seen(error_factor(predictor, points.reshape(-1, points.shape[-1])), centres)


def _panel(tree: xr.DataTree, name: str) -> plots.Panel:
    """Return what a model predicts of one site of data beside the data, one after the other."""
    observed = np.asarray(tree["observed_data"][name]).reshape(-1)
    replicated = np.asarray(tree["posterior_predictive"][name]).reshape(-1, len(observed))
    x = np.arange(len(observed), dtype=float)
    return plots.Panel(
        output=name, unit="", dim="", dim_unit="", x=x, observed=observed, replicated=replicated, curve_x=x
    )


def _sampled(target: OwnTarget) -> Target:
    """Return a target as samplers take it: they ask for its density, its components and its starts."""
    return cast(Target, target)
