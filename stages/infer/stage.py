"""Stage 4: the emulator and the data become a posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from simfer.stages import plots
from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.posterior import POSTERIOR, Posterior
from simfer.stages.infer.derived import derived_draws
from simfer.stages.infer.own_model import sampling
from simfer.stages.infer.pictures import draw_pictures
from simfer.stages.infer.posterior import named_draws, to_tree
from simfer.stages.infer.predictive import evaluate
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.prior import prior_draws
from simfer.stages.infer.samplers import SAMPLERS
from simfer.stages.infer.samplers.chains import CHAINS
from simfer.stages.infer.summary import in_one_piece, posterior_summary, summarize
from simfer.stages.infer.target import build_target
from simfer.stages.infer.wall import build_wall, enough, learn_border, leave_out, look_behind
from simfer.stages.progress import Progress
from simfer.stages.settings import InferConfig
from simfer.stages.summary import Summary

_MANY = 64  # chains: so many draw three times as fast on an accelerator as on eight cores, four no faster


def fills_accelerator(config: InferConfig) -> bool:
    """Say whether there is enough to do for an accelerator."""
    return config.infer.num_chains >= _MANY


def run(config: InferConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Draw from the posterior, and write the draws, what they predict, and their pictures."""
    with plots.looking(plots.Look(log=config.in_logs)):
        return _run(config, inputs, folder, progress)


def _run(config: InferConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    if config.infer.model:
        return sampling.run(config, inputs["emulator"][0], folder, progress)
    target = build_target(config, load_predictor(config, inputs["emulator"][0]))
    for joint in target.likelihood.joints:
        progress.note(f"  covariance of {' and '.join(joint.names)}: {joint.said}")
    if config.exact is not None:
        by_emulator = config.model_copy(update={"exact": None})
        target = target._replace(guide=build_target(by_emulator, load_predictor(by_emulator, inputs["emulator"][0])))
    rows = [path for name in ("simulations", "checks") for path in inputs.get(name, [])]
    border = learn_border(rows) if config.exact is None else None  # the simulator itself knows where it fails
    walled = build_wall(target, border) if border else target
    settings = enough(config.infer) if border else config.infer
    draws = SAMPLERS[config.infer.sampler](walled._replace(chains=folder / CHAINS), settings, progress)
    if border:
        draws, border = leave_out(draws, config.infer.num_samples, target, walled, border)
        look_behind(target, border, config.infer, progress).save(folder)
    predictive, named = evaluate(target, draws.z, config.infer.seed), named_draws(target, draws.z)
    named |= derived_draws(config.derived, target, draws.z, named)
    prior = prior_draws(target, config.derived, config.infer.seed)
    tree = to_tree(target, draws, named, predictive, config.derived, prior)
    write_netcdf(tree, folder / POSTERIOR)
    table = summarize(tree["posterior"].to_dataset())
    shown = in_one_piece(tree["posterior"].to_dataset())
    pictures = draw_pictures(folder, target, draws, shown, predictive, config.derived)
    summary = posterior_summary(config.infer.likelihood, target, draws, predictive, table) | {"pictures": pictures}
    summary["handed"] = Posterior.load(folder).handed
    if border and border.beyond is not None:
        summary["facts"]["draws_left_out_where_simulations_fail"] = len(border.beyond)
    return summary


def load(folder: Path, config: InferConfig) -> xr.DataTree:
    """Open the posterior, in ArviZ's schema."""
    tree = Posterior.load(folder).tree()
    for name in tree["posterior"].data_vars:
        unit = config.units.get(str(name), config.units.get(f"{name}[0]"))
        if unit is not None:
            tree["posterior"][str(name)].attrs["units"] = unit
    return tree
