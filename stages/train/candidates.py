"""Take the best of several trained emulators, by rows that their members did not see; test rows have no say in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import HEADER, LEAVES, load_emulator
from simfer.stages.errors import StageError
from simfer.stages.settings import TrainConfig, short_name
from simfer.stages.summary import Summary
from simfer.stages.train.losses import capped

_COPIED = HEADER, LEAVES, "history.csv"
Squared = Float[np.ndarray, "rows outputs"]  # errors, in units of each output's spread


def select(
    config: TrainConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, failed: Mapping[str, str]
) -> Summary:
    """Copy the candidate whose cross-validated error is the smallest, and say how far behind the others are."""
    names = config.train.tried
    found = {name: inputs[name][0] for name in map(short_name, names) if inputs[name]}
    if not found:
        raise StageError(f"none of the candidates could be trained:{_lines(failed)}")
    emulators = {name: load_emulator(path, None, names) for name, path in found.items()}
    errors, num_capped = _capped(squared_errors(emulators, TrainingSet.load(inputs["dataset"][0])))
    order = sorted(errors, key=lambda name: errors[name].mean())
    best = order[0]
    table = [_row(name, emulators[name], errors[name], errors[best]) for name in order]
    facts = {"architecture": best, "chosen_since": _reason(table), "rows_compared": len(errors[best])}
    return {
        "facts": facts,
        "tables": {
            "candidates, on rows that they had not seen": table,
            f"error of {best} on them": _by_output(emulators[best], errors[best]),
        },
        "warnings": [f"{name} was left out, since {why}" for name, why in failed.items()]
        + [f"rows with errors over ten times the median's, which count as ten times: {num_capped}"] * (num_capped > 0),
        "pictures": _copy(found[best], folder),
    }


def _lines(failed: Mapping[str, str]) -> str:
    return "".join(f"\n  {name}: {why}" for name, why in failed.items())


def squared_errors(emulators: Mapping[str, Emulator], dataset: TrainingSet) -> dict[str, Squared]:
    """Return the squared errors of members at rows that they did not see, of the rows that all emulators have kept.

    An ensemble has them of as many folds as it has members, a model in closed form of all: the same rows are fair.
    """
    scale = dataset.scale
    at = {name: {z.tobytes(): i for i, z in enumerate(np.asarray(e.training_z))} for name, e in emulators.items()}
    shared = [z for z in next(iter(at.values())) if all(z in rows for rows in at.values())]
    return {
        name: (np.asarray(e.residuals)[[at[name][z] for z in shared]] / np.where(scale > 0, scale, np.inf)) ** 2
        for name, e in emulators.items()
    }


def _capped(errors: Mapping[str, Squared]) -> tuple[dict[str, Squared], int]:
    """Return errors of which no single wild row decides, and of how many rows these are less than they were.

    The cap is the same for all: it is beside the median row's error of the candidate for which that is the largest.
    """
    rows = {name: each.mean(axis=1) for name, each in errors.items()}
    middle = max(float(np.median(each)) for each in rows.values())
    kept = {name: capped(each, middle) for name, each in rows.items()}
    shares = {name: kept[name] / np.where(each > 0, each, 1.0) for name, each in rows.items()}
    num = int(np.any([kept[name] < each for name, each in rows.items()], axis=0).sum())
    return {name: each * shares[name][:, None] for name, each in errors.items()}, num


def num_weights(emulator: Emulator) -> int:
    """Count the numbers that one member is made of; of a model in closed form all that it keeps."""
    total = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(emulator.networks, eqx.is_inexact_array)))
    return int(total if isinstance(emulator.networks, ClosedForm) else total // emulator.num_members)


def _row(name: str, emulator: Emulator, squared: Squared, best: Squared) -> dict[str, Any]:
    behind = squared.mean(axis=1) - best.mean(axis=1)  # row by row: what is hard for both says nothing
    error = float(behind.std(ddof=1) / np.sqrt(len(behind)))
    return {
        "architecture": name,
        "error_in_spreads": float(np.sqrt(squared.mean())),
        "unexplained_variance": float(squared.mean()),
        "times_the_best": float(squared.mean() / max(best.mean(), 1e-300)),
        "standard_errors_behind": float(behind.mean()) / error if error > 0 else 0.0,
        "weights": num_weights(emulator),
        "training_s": emulator.header.training_seconds,
    }


def _reason(table: Sequence[Mapping[str, Any]]) -> str:
    if len(table) == 1:
        return "it is the only candidate that could be trained"
    second = table[1]
    behind = f"{second['architecture']}, the next, has {second['times_the_best']:.3g} times its squared error"
    sure = "" if second["standard_errors_behind"] > 2 else ", which chance could have made"
    return f"its cross-validated error is the smallest; {behind}{sure}"


def _by_output(emulator: Emulator, squared: Squared) -> list[dict[str, Any]]:
    return [
        {"output": name, "error_in_spreads": float(np.sqrt(part.mean())), "unexplained_variance": float(part.mean())}
        for name, part in ((name, squared[:, at]) for name, at in emulator.layout.slices.items())
    ]


def _copy(source: Path, folder: Path) -> list[str]:
    """Copy an emulator with its history and its pictures, whose names are returned."""
    pictures = sorted(source.glob("*.png"))
    for file in [*(source / name for name in _COPIED), *pictures]:
        if file.exists():
            shutil.copyfile(file, folder / file.name)
    return [picture.name for picture in pictures]
