"""Stage 4 where a model of one's own says what the data are: look first, then draw with the emulator's error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from simfer.stages import plots
from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.posterior import POSTERIOR, Posterior
from simfer.stages.infer.own_model.posterior import by_element, to_tree
from simfer.stages.infer.own_model.target import ERROR, OwnTarget, build_own_target, error_factor
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
_FEWER = 4000  # points of which the places in the parameters of the simulator are made


def run(config: InferConfig, emulator: Path, folder: Path, progress: Progress) -> Summary:
    """Draw from the posterior of a model of one's own, and write the draws and their pictures."""
    predictor = load_predictor(config, emulator)
    factor = _look(config, predictor, progress)
    if factor is not None:
        np.savez(folder / ERROR, factor=factor)
    target = build_own_target(config, predictor, factor)
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


def load_own_target(config: LikelihoodConfig, emulator: Path, posterior: Path) -> OwnTarget:
    """Return what was sampled, its error that of the posterior's own folder."""
    predictor, factor = load_predictor(config, emulator), None
    if (file := posterior / ERROR).exists():
        with np.load(file, allow_pickle=False) as stored:
            factor = stored["factor"]
    return build_own_target(config, predictor, factor)


def _look(config: InferConfig, predictor: Predictor, progress: Progress) -> np.ndarray | None:
    """Return the emulator's error where the posterior lies, for which a population that knows of none looks."""
    if config.infer.emulator_error == "none" or predictor.cross_validation is None:
        return None
    plain = build_own_target(config, predictor, None)
    z = settle(_sampled(plain), config.infer, progress, _LOOK, more=0).population.z.reshape(-1, plain.size)
    points = plain.points(z[:: -(-len(z) * plain.model.num_points // _FEWER)])
    return error_factor(predictor, points.reshape(-1, points.shape[-1]))


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
