"""Stage 4: the emulator and the data become a posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from simfer.stages.artifacts.posterior import POSTERIOR, Posterior
from simfer.stages.infer.pictures import draw_pictures
from simfer.stages.infer.posterior import named_draws, to_tree
from simfer.stages.infer.predictive import evaluate
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.samplers import SAMPLERS
from simfer.stages.infer.summary import posterior_summary, summarize
from simfer.stages.infer.target import build_target
from simfer.stages.progress import Progress
from simfer.stages.settings import InferConfig
from simfer.stages.summary import Summary


def run(config: InferConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Draw from the posterior, and write the draws, what they predict, and their pictures."""
    target = build_target(config, load_predictor(config, inputs["emulator"][0]))
    draws = SAMPLERS[config.infer.sampler](target, config.infer, progress)
    predictive, named = evaluate(target, draws.z, config.infer.seed), named_draws(target, draws.z)
    tree = to_tree(target, draws, named, predictive)
    tree.to_netcdf(folder / POSTERIOR, engine="h5netcdf")
    table = summarize(tree["posterior"].to_dataset())
    pictures = draw_pictures(folder, target, draws, named, predictive)
    return posterior_summary(config.infer.likelihood, target, draws, predictive, table) | {"pictures": pictures}


def load(folder: Path, config: InferConfig) -> xr.DataTree:
    """Open the posterior, in ArviZ's schema."""
    return Posterior.load(folder).tree()
