"""Beside the chain: the emulator's posterior and the simulator's own, side by side, with what each has cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from simfer.stages import plots
from simfer.stages.artifacts.posterior import Posterior, scalars
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.emulator.saved import HEADER
from simfer.stages.infer.summary import summarize
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import ComparePosteriorsConfig
from simfer.stages.summary import Summary


def run(
    config: ComparePosteriorsConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> Summary:
    """Compare means, widths, effort and speed, and say at which cost of a simulation the emulator pays."""
    trees = [Posterior.load(inputs["posteriors"][-1]).tree(), Posterior.load(inputs["exact"][0]).tree()]
    runs = sum(len(Simulations.load(path)) for name in ("simulations", "checks") for path in inputs[name])
    trained = sum(json.loads((path / HEADER).read_text())["training_seconds"] for path in inputs["emulators"])
    sampled = sum(_effort(Posterior.load(path).tree())[1] for path in inputs["posteriors"])
    emulated, exact = (_named(tree) for tree in trees)
    plots.pair(folder / "posteriors.png", emulated, reference={n: v.reshape(-1) for n, v in exact.items()})
    gradients, seconds = _effort(trees[1])
    per_gradient = 1 + Space(config.parameters).size  # solves of the equation and of its derivatives, forward
    saved = gradients * per_gradient - runs
    break_even = (trained + sampled) / saved if saved > 0 else "never"
    speeds = [_speed(tree) for tree in trees]
    cost = [
        {"likelihood": "emulator", "simulator_runs": runs, "gradients": _effort(trees[0])[0],
         "training_s": trained, "sampling_s": sampled, "ess_per_second": speeds[0]},
        {"likelihood": "simulator", "simulator_runs": gradients * per_gradient, "gradients": gradients,
         "training_s": 0.0, "sampling_s": seconds, "ess_per_second": speeds[1]},
    ]  # fmt: skip
    table = _differences(emulated, exact)
    facts = {
        "ess_per_second_ratio": speeds[0] / speeds[1],
        "largest_shift_sd": max(abs(row["mean_shift_sd"]) for row in table),
        "emulator_pays_above_s_per_simulation": break_even,
    }
    return {"facts": facts, "tables": {"emulator - simulator": table, "cost": cost}, "pictures": ["posteriors.png"]}


def _named(tree: xr.DataTree) -> dict[str, np.ndarray]:
    return {name: values.values for name, values in scalars(tree["posterior"].to_dataset()).items()}


def _effort(tree: xr.DataTree) -> tuple[int, float]:
    """Return gradient evaluations and seconds, warm-up counted."""
    attributes = tree["sample_stats"].attrs
    return int(attributes["gradient_evaluations"]), float(attributes["sampling_time"])


def _speed(tree: xr.DataTree) -> float:
    ess = min(row["ess_bulk"] for row in summarize(tree["posterior"].to_dataset()))
    return ess / _effort(tree)[1]


def _differences(ours: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "parameter": name,
            "mean_shift_sd": float((ours[name].mean() - exact[name].mean()) / exact[name].std()),
            "sd_ratio": float(ours[name].std() / exact[name].std()),
        }
        for name in exact
    ]
