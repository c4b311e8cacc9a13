"""Beside the chain: the emulator's error against the number of simulations, and how many more a target takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from simfer.stages import plots
from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import CurveConfig
from simfer.stages.studies.held_out import HeldOut, held_out
from simfer.stages.studies.power_law import PowerLaw
from simfer.stages.summary import Summary

_LEVEL = 0.68  # of the intervals
_FLATTENS = 0.5  # where the last step falls by less than this share of what the line does, it bends


def run(
    config: CurveConfig,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
    progress: Progress,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Judge emulators of nested subsets by the same test rows, fit a power law, and read the target off it."""
    dataset = TrainingSet.load(inputs["dataset"][0])
    rows = held_out(dataset, config)
    trained = [(name, path) for name in config.parts for path in inputs[name]]
    points = []
    with progress.task("curve", total=len(trained), unit="emulators") as task:
        for name, path in trained:
            points.append(_point(config, rows, name, path))
            task.advance(1)
    n, error = (np.array([point[key] for point in points], float) for key in ("simulations", "percentile_99"))
    if len(set(n)) < 3:
        said = "".join(f"\n  {name} of the rows: {why}" for name, why in failed.items())
        raise StageError(f"got {len(set(n))} subsets that could be trained on, a line takes 3:{said}")
    law = PowerLaw.fit(n, error)
    words = _answer(law, n, error, config.target)
    plots.curve(folder / "curve.png", points, law, config.target, rows.unit, _LEVEL)
    (folder / "curve.json").write_text(json.dumps({"unit": rows.unit, "points": points, **law._asdict()}, indent=1))
    facts = {"slope": f"{law.slope:.3g} ± {law.reach(_LEVEL) * law.slope_error:.2g}", "target": config.target}
    return {
        "facts": facts | {"answer": words},
        "tables": {f"error on {len(rows.y)} test rows of the prior, in {rows.unit}": points},
        "warnings": [f"{name} of the rows: left out, since {why}" for name, why in failed.items()]
        + _bends(law, n, error)
        + _borrowed(dataset.components)
        + rows.warnings,
        "pictures": ["curve.png"],
    }


def _point(config: CurveConfig, rows: HeldOut, name: str, path: Path) -> dict[str, Any]:
    error = rows.error(emulator := load_emulator(path, config.architecture, config.candidates))
    return {
        "share": float(name),
        "simulations": round(float(name) * config.num_simulations),
        "median": float(np.median(error)),
        "percentile_99": float(np.quantile(error, 0.99)),
        "unexplained_variance": rows.unexplained(emulator),
    }


def _answer(law: PowerLaw, n: Float[np.ndarray, " k"], error: Float[np.ndarray, " k"], target: float) -> str:
    have = round(n.max())
    reached = float(np.median(error[n == n.max()]))
    if reached <= target:
        return f"{have:,} simulations are enough: the 99th percentile is {reached:.3g}, the target {target:g}"
    if not law.falls(_LEVEL):
        return (
            f"nobody can say: by its own scatter the slope, {law.slope:.2g}, may as well be 0. More curve.seeds "
            "or more simulations make it surer; if it stays so, a network may need longer training or more width"
        )
    middle, low, high = law.needed(target, _LEVEL)
    if middle <= have:
        most = f"; it may take up to {high - have:,.0f} more" if np.isfinite(high) and high > have else ""
        return (
            f"by the line {middle:,.0f} simulations are enough, but the emulator of all {have:,} has a 99th percentile "
            f"of {reached:.3g}, the target is {target:g}{most}. More curve.seeds tell what is chance"
        )
    between = f"{max(low - have, 0):,.0f} to {high - have:,.0f}" if np.isfinite(high) else f"at least {low - have:,.0f}"
    far = "; that is far beyond what was seen: take some of them and look again" if middle > 10 * have else ""
    return f"about {middle - have:,.0f} more simulations for a 99th percentile of {target:g} ({between}){far}"


def _borrowed(names: Sequence[str]) -> list[str]:
    return [
        f"{name}: every subset was learned in the principal components of all rows, which fewer simulations would not "
        "have found: small subsets do better here than they would, and the line is less steep"
        for name in names
    ]


def _bends(law: PowerLaw, n: Float[np.ndarray, " k"], error: Float[np.ndarray, " k"]) -> list[str]:
    """Warn where the last step falls much less than the line: then the line promises too much."""
    last, before = np.unique(n)[::-1][:2]
    fell = np.log(np.median(error[n == last]) / np.median(error[n == before])) / np.log(last / before)
    if law.slope >= 0 or fell < _FLATTENS * law.slope:
        return []
    return [
        f"from {before:,.0f} to {last:,.0f} simulations the slope was {fell:.2g}, over all it is {law.slope:.2g}: the "
        "curve may flatten, and the line promise too much; a network may need longer training or more width"
    ]
