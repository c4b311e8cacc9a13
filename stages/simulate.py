"""Stage 1: a design becomes an ensemble of solves, written shard by shard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages import design, plots
from stages.artifacts import Posterior, Simulations, array
from stages.errors import StageError
from stages.failures import where_it_fails
from stages.parameters import Space
from stages.progress import Progress
from stages.rows import fill
from stages.settings import RefineConfig, SimulateConfig
from stages.simulators.base import Status


def run(
    config: SimulateConfig | RefineConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Solve every row that `folder` lacks, and describe how the rows ended."""
    space, settings = Space(config.parameters), config.simulate
    begun = time.perf_counter()
    if isinstance(config, RefineConfig):
        draws = Posterior.load(inputs["posterior"][0]).z()[:, : space.size]
        num, seed, stretch = config.refine.simulations_per_round, settings.seed + config.round, config.refine.stretch
        points = lambda a, b: design.stretched(draws, a, b, stretch, seed)  # noqa: E731
        filled = fill(folder, settings, space, num, points, progress, f"simulate-{config.round}")
    else:
        kind, num, seed = settings.design, settings.num_simulations, settings.seed
        filled = fill(
            folder, settings, space, num, lambda a, b: design.rows(kind, a, b, num, space.size, seed), progress
        )
    simulations, solved = filled
    return _summary(folder, config, space, simulations, time.perf_counter() - begun, solved)


def _summary(
    folder: Path,
    config: SimulateConfig | RefineConfig,
    space: Space,
    simulations: Simulations,
    seconds: float,
    solved: int,
) -> dict[str, Any]:
    group = simulations.group
    status, steps = np.asarray(array(group, "status")[:]), np.asarray(array(group, "num_steps")[:])
    theta = {name: np.asarray(array(group, name)[:]) for name in space.names}
    failed = status != Status.OK
    lies = where_it_fails(theta, failed) if failed.any() else ""
    limit = config.simulate.max_failed
    if failed.mean() > limit:
        counts = ", ".join(f"{int((status == s).sum())} {s.name.lower()}" for s in Status if (status == s).any())
        raise StageError(
            f"{failed.mean():.1%} of the simulations failed ({counts}), more than simulate.max_failed = {limit:.1%}. "
            f"{lies} Narrow the priors there, raise simulate.solver.max_steps, take a stiffer solver (Kvaerno5), or "
            "raise simulate.max_failed: the rows that are done stay in the store and are not solved again."
        )
    plots.design(folder / "design.png", theta, status)
    facts = {
        "rows": len(status),
        "failed": int(failed.sum()),
        "steps_mean": float(steps.mean()),
        "steps_max": int(steps.max()),
        "rows_per_second": solved / seconds if seconds > 0 and solved else None,
        "memory_peak_mb": _peak_memory(),
    }
    return {"facts": facts, "warnings": [lies] if lies else [], "pictures": ["design.png"]}


def _peak_memory() -> float | None:
    if os.name != "posix":
        return None
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere
