"""Beside the chain: architectures trained on the same rows, by how far they are off and by what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from simfer.stages import plots
from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import CompareConfig, short_name
from simfer.stages.studies.held_out import HeldOut, held_out
from simfer.stages.studies.timing import BATCH, microseconds
from simfer.stages.summary import Summary
from simfer.stages.train.candidates import num_weights


class Scores(NamedTuple):
    """What test rows say of one trained emulator."""

    median: float
    percentile_99: float
    worst_output: str
    worst_99: float
    unexplained: float
    training_s: float


def run(
    config: CompareConfig,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
    progress: Progress,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Judge every emulator by the test rows, time one of each architecture, and put them in order."""
    there = {short_name(name): name for name in config.candidates if inputs[short_name(name)]}
    if not there:
        said = "".join(f"\n  {name}: {why}" for name, why in failed.items())
        raise StageError(f"none of the architectures could be trained:{said}")
    rows = held_out(TrainingSet.load(inputs["dataset"][0]), config)
    scores: dict[str, list[Scores]] = {}
    first: dict[str, Emulator] = {}
    with progress.task("compare", total=sum(len(inputs[name]) for name in there), unit="emulators") as task:
        for short, name in there.items():
            for path in inputs[short]:
                emulator = load_emulator(path, name)
                first.setdefault(short, emulator)
                scores.setdefault(short, []).append(_score(emulator, rows))
                task.advance(1)
    costs = microseconds(first)
    order = sorted(scores, key=lambda name: _median(scores[name], "percentile_99"))
    table = [_row(name, scores[name], num_weights(first[name]), costs[name]) for name in order]
    ranges = {name: _range(scores[name], "percentile_99") for name in order}
    limit = config.limit if rows.unit == "data sigma" else None
    plots.compare(folder / "compare.png", table, ranges, rows.unit, limit)
    every = {name: [each._asdict() for each in scores[name]] for name in order}
    (folder / "compare.json").write_text(json.dumps({"unit": rows.unit, "emulators": every, "costs": costs}, indent=1))
    seeds = [_over_seeds(name, scores[name]) for name in order if len(scores[name]) > 1]
    facts = {"smallest_error": order[0], "trained_on": rows.num_seen, "tested_on": len(rows.y)}
    facts |= {"timed": f"here, one after another in a compiled loop as in NUTS; batched, a point of {BATCH:,}"}
    return {
        "facts": facts,
        "tables": {
            f"error on test rows, in {rows.unit}, and cost": table,
            "from the least to the most over seeds": seeds,
        },
        "warnings": [f"{name}, or a seed of it, was left out, since {why}" for name, why in failed.items()]
        + rows.warnings,
        "pictures": ["compare.png"],
    }


def _score(emulator: Emulator, rows: HeldOut) -> Scores:
    error = rows.error(emulator)
    worst = {b.name: float(np.quantile(error[:, b.at], 0.99)) for b in rows.likelihood.blocks}
    name = max(worst, key=lambda output: worst[output])
    seconds = float(emulator.header.training_seconds)
    middle, high = (float(np.quantile(error, level)) for level in (0.5, 0.99))
    return Scores(middle, high, name, worst[name], rows.unexplained(emulator), seconds)


def _median(scores: Sequence[Scores], field: str) -> float:
    return float(np.median([getattr(each, field) for each in scores]))


def _range(scores: Sequence[Scores], field: str) -> tuple[float, float]:
    values = [getattr(each, field) for each in scores]
    return min(values), max(values)


def _row(name: str, scores: Sequence[Scores], weights: int, cost: Mapping[str, float]) -> dict[str, Any]:
    """Tabulate medians over seeds."""
    middle = sorted(scores, key=lambda each: each.percentile_99)[len(scores) // 2]
    return {
        "architecture": name,
        "median": _median(scores, "median"),
        "percentile_99": _median(scores, "percentile_99"),
        "worst_output": middle.worst_output,
        "its_99": _median(scores, "worst_99"),
        "unexplained_variance": _median(scores, "unexplained"),
        "weights": weights,
        "training_s": _median(scores, "training_s"),
        "evaluation_us": cost["one"],
        "batched_us": cost["batch"],
        "gradient_us": cost["gradient"],
    }


def _over_seeds(name: str, scores: Sequence[Scores]) -> dict[str, Any]:
    shown = {
        "median": "median",
        "percentile_99": "percentile_99",
        "unexplained_variance": "unexplained",
        "training_s": "training_s",
    }
    ranges = {column: _range(scores, field) for column, field in shown.items()}
    return {"architecture": name, "seeds": len(scores)} | {
        column: f"{low:.3g} to {high:.3g}" for column, (low, high) in ranges.items()
    }
