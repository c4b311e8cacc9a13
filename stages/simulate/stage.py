"""Stage 1: a design becomes an ensemble of solves, written shard by shard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from simfer.stages import plots
from simfer.stages.artifacts.arrays import array
from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.errors import StageError
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import HANDED, RefineConfig, Simulate, SimulateConfig
from simfer.stages.settings.labels import labelled
from simfer.stages.simulate import design
from simfer.stages.simulate.asked.waiting import told
from simfer.stages.simulate.backends import build_backend, failed_rows
from simfer.stages.simulate.backends.kept import KeptFirst
from simfer.stages.simulate.border import Border
from simfer.stages.simulate.failures import counts, cure, drawn, tables, where_it_fails
from simfer.stages.simulate.finished.runs import open_runs
from simfer.stages.simulate.finished.summary import TableSummary, of_table
from simfer.stages.simulate.rows import Filled, fill
from simfer.stages.summary import Summary

_BOTH_SIDES, _BEFORE = (0.9, 1.1), (0.5, 0.98)  # of the way from a point inside to the border


def run(
    config: SimulateConfig | RefineConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> Summary:
    """Solve every row that `folder` lacks, and describe how the rows ended."""
    space, settings = Space(config.parameters), config.simulate
    if isinstance(config, RefineConfig):
        draws, places = Posterior.load(inputs["posterior"][0]).points(space.size, HANDED)
        num, seed, stretch = config.refine.simulations_per_round, settings.seed + config.round, config.refine.stretch
        border, inside, miss = _border(inputs, space, draws)

        def points(a: int, b: int) -> Float[np.ndarray, "rows size"]:
            z = design.stretched(draws, places, a, b, stretch, seed)
            if border is None:
                return z
            return border.both_sides(inside[design.shuffled(len(inside), a, b, seed)], z, seed + a, miss)

        backend, num = told(inputs, settings, space, _all(points, num, settings))
        filled = fill(folder, settings, space, num, points, progress, f"simulate-{config.round}", backend)
    else:
        kind, num, seed = settings.design, settings.num_simulations, settings.seed
        runs = open_runs(settings.table, space) if settings.table else None
        finished = len(runs) if runs else 0  # they come first, and lie where they lie

        def covering(a: int, b: int) -> Float[np.ndarray, "rows size"]:
            z, first, last = np.zeros((b - a, space.size)), max(a, finished), min(b, finished + num)
            if first < last:
                z[first - a : last - a] = design.rows(kind, first - finished, last - finished, num, space.size, seed)
            return z

        kept = Simulations.load(inputs["lent"][0]) if inputs.get("lent") else None
        there = min(len(kept) - kept.num_foreign, finished + num) if kept else 0
        known = max(there - finished, 0)  # rows of the design that nobody is asked for again
        rows = _all(lambda a, b: covering(a + finished + known, b + finished + known), num - known, settings)
        backend, more = told(inputs, settings, space, rows, beside_table=True, offset=known)
        if kept:
            progress.note(f"simulate-0: {there:,} rows are there already, of a smaller ensemble")
            backend = KeptFirst(kept, there, backend or build_backend(settings, space))
        filled = fill(folder, settings, space, finished + known + more, covering, progress, backend=backend)
        if runs:
            return _summary(folder, config, space, filled, progress, told=of_table(runs, filled.simulations))
    return _summary(folder, config, space, filled, progress)


def _all(points: Callable[[int, int], np.ndarray], num: int, settings: Simulate) -> Float[np.ndarray, "rows size"]:
    """Return all points at once where somebody else is asked for them; otherwise their number alone says anything."""
    return points(0, num) if settings.kind == "ask" else np.zeros((num, 0))


def _border(
    inputs: Mapping[str, Sequence[Path]], space: Space, draws: Float[np.ndarray, "draws size"]
) -> tuple[Border | None, Float[np.ndarray, "points size"], tuple[float, float]]:
    """Return the border that a design keeps to, points inside of it, and by how much it is missed.

    Where failures are impossible, it is the posterior's, and both its sides are of interest. Where a posterior leans on
    a region that fails, it is that of all rows so far, drawn in: nothing is to be had behind it.
    """
    border = Border.load(inputs["posterior"][0], space)
    if border or "simulations" not in inputs:
        return border, draws, _BOTH_SIDES
    rows = [Simulations.load(path) for role in ("simulations", "checks") for path in inputs[role]]
    parts = [each.rows(0, len(each)) for each in rows]
    z, solved = np.concatenate([part[0] for part in parts]), np.concatenate([part[2] for part in parts])
    border = Border.learn(z, solved, space)
    if border is None or not border.holds(z[solved]).any():
        return None, draws, _BEFORE
    border = border.drawn_in(z[solved])
    return border, border.within(draws, z[solved]), _BEFORE


def load(folder: Path, config: SimulateConfig | RefineConfig) -> xr.Dataset:
    """Open the simulations: parameters, outputs, status and solver steps of each run."""
    return Simulations.load(folder).to_xarray()


def _summary(
    folder: Path,
    config: SimulateConfig | RefineConfig,
    space: Space,
    filled: Filled,
    progress: Progress,
    told: TableSummary | None = None,
) -> Summary:
    group = filled.simulations.group
    z, status, attempt = filled.simulations.endings()
    theta = {name: np.asarray(array(group, name)[:]) for name in space.names}
    failed, pictures = status != Status.OK, ["design.png"]
    lies = where_it_fails(z, failed, space)
    labels = {name: labelled(name, prior) for name, prior in space.priors.items()}
    with plots.looking(plots.Look(log=config.in_logs)):
        plots.design(folder / "design.png", theta, status, labels)
        if failed.any():
            plots.failures(folder / "failures.png", status, *drawn(z, failed, space), labels=labels)
            pictures.append("failures.png")
    # A later round has an answer before it: there too many failures are the verdict's to tell.
    if isinstance(config, SimulateConfig) and config.simulate.failures == "excluded":
        _refuse_too_many(config.simulate, status, lies, folder)
    steps = np.asarray(array(group, "num_steps")[:])
    facts: dict[str, Any] = {
        "rows": len(status),
        "failed": int(failed.sum()),
        **({"steps_mean": float(steps.mean()), "steps_max": int(steps.max())} if config.simulate.kind == "jax" else {}),
        **_effort(filled),
    }
    # Rows of a table, or of a smaller ensemble, had limits of their own: nothing is said of those.
    if limits := failed_rows.limits(folder):
        facts |= {"timed_out": len(limits), "timeout": min(limits)}
    if config.simulate.derivatives:
        facts["derivatives_by"] = ", ".join(space.names)
    if config.simulate.retry is not None:
        facts |= {"retried": int((attempt == 2).sum()), "solved_by_retry": int(((attempt == 2) & ~failed).sum())}
    progress.note(_in_words(filled, len(status), config.simulate.derivatives))
    warnings, ended = [lies] if lies else [], tables(z, status, attempt, space)
    if told:
        facts, warnings, ended = facts | told.facts, [*warnings, *told.warnings], told.tables | ended
    return {"facts": facts, "tables": ended, "warnings": warnings, "pictures": pictures}


def _refuse_too_many(settings: Simulate, status: Int[np.ndarray, " rows"], lies: str, folder: Path) -> None:
    share = float(np.mean(status != Status.OK))
    if share > settings.max_failed:
        raise StageError(
            f"{share:.1%} of the simulations failed ({counts(status)}), more than simulate.max_failed = "
            f"{settings.max_failed:.1%}. {lies} What helps: {cure(settings, status)}; or a larger simulate.max_failed, "
            f"to go on without them. A picture of it: {folder / 'failures.png'}"
        )


def _effort(filled: Filled) -> dict[str, float | None]:
    rate = filled.num_solved / filled.seconds if filled.num_solved else None
    return {"rows_per_second": rate, "occupancy": filled.occupancy, "memory_peak_mb": _peak_memory()}


def _in_words(filled: Filled, num: int, derivatives: bool) -> str:
    """Say what solving the rows took: in a line, at the end of the stage."""
    effort = _effort(filled)
    words = [f"{filled.num_solved:,} of {num:,} rows solved now" + ", with derivatives" * derivatives]
    if (rate := effort["rows_per_second"]) is not None:
        words.append(f"{rate:,.3g} rows/s" if rate < 1000 else f"{rate:,.0f} rows/s")
    if (occupancy := effort["occupancy"]) is not None:
        words.append(f"lanes {occupancy:.0%} occupied")
    if (peak := effort["memory_peak_mb"]) is not None:
        words.append(f"memory at most {peak:,.0f} MB" if peak < 1000 else f"memory at most {peak / 1000:.2f} GB")
    return "  simulate: " + ", ".join(words)


def _peak_memory() -> float | None:
    if os.name != "posix":
        return None
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes there, kibibytes elsewhere
