"""Coverage of a model of one's own: data that it draws itself around true simulations, each set inferred anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.batches import in_batches
from simfer.stages.errors import StageError
from simfer.stages.infer.own_model.sampling import load_own_target
from simfer.stages.infer.own_model.target import OwnTarget, build_own_target, error_factor
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import CalibrateConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.rows import fill

_LEAST = 20  # data sets


class Sets(NamedTuple):
    """Data sets from known values of what a model samples."""

    target: OwnTarget
    known: Float[np.ndarray, "sets known"]
    data: dict[str, Float[np.ndarray, "sets ..."]]


def simulated_sets(
    config: CalibrateConfig, inputs: Mapping[str, Sequence[Path]], over: str, folder: Path, progress: Progress
) -> Sets:
    """Draw what the model samples, simulate wherever it asks for it, and let it draw the data."""
    target, known = _posterior(config, inputs) if over == "posterior" else _prior(config, inputs)
    points, space = target.points(np.pad(known, ((0, 0), (0, target.size - known.shape[1])))), Space(config.parameters)
    flat = np.nan_to_num(points.reshape(-1, points.shape[-1]))
    plain = config.simulate.model_copy(update={"derivatives": False})
    simulations = fill(folder, plain, space, len(flat), lambda a, b: flat[a:b], progress, "calibrate").simulations
    _, y, usable = simulations.rows(0, len(simulations))
    solved = usable.reshape(len(known), -1).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
    if solved.sum() < _LEAST:
        raise StageError(
            f"{solved.sum()} of {len(known)} data sets could be simulated: what the model draws for the simulator's "
            "parameters lies beyond the priors in [parameters], or the simulator fails there"
        )
    truth = y.reshape(*points.shape[:2], -1)[solved]

    def drawn(row: tuple[Array, Array, Array]) -> dict[str, Array]:
        z, y, key = row
        return {name: each.value for name, each in target.run_on(z, y, redraw=key)[0].observed.items()}

    keys = jax.random.split(jax.random.key(config.calibrate.seed), len(truth))
    return Sets(target, known[solved], in_batches(drawn, (known[solved], truth, keys), together=False))


def _posterior(config: CalibrateConfig, inputs: Mapping[str, Sequence[Path]]) -> tuple[OwnTarget, np.ndarray]:
    target = load_own_target(config, inputs["emulator"][0], inputs["posterior"][0])
    z = Posterior.load(inputs["posterior"][0]).z()[:, : target.num_named]
    return target, z[design.picked(len(z), config.calibrate.replicates, config.calibrate.seed)]


def _prior(config: CalibrateConfig, inputs: Mapping[str, Sequence[Path]]) -> tuple[OwnTarget, np.ndarray]:
    """Draw from the model's prior; the emulator's error is that where its simulations are."""
    predictor = load_predictor(config, inputs["emulator"][0])
    plain = build_own_target(config, predictor, None)
    known = plain.prior(config.calibrate.replicates, config.calibrate.seed + 10_007)
    points = plain.points(known).reshape(-1, predictor.space.size)
    factor = None if config.infer.emulator_error == "none" else error_factor(predictor, points)
    return build_own_target(config, predictor, factor), known
