"""What a training came to: the error on test rows, which no network saw, in a table and in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from simfer.stages import plots
from simfer.stages.artifacts.training_set import TEST, TrainingSet
from simfer.stages.batches import in_batches
from simfer.stages.emulator.emulator import Emulator, predict
from simfer.stages.model.outputs import Layout
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.summary import Summary, Table
from simfer.stages.train.assemble import blocks
from simfer.stages.train.descent import History
from simfer.stages.train.fitting import Fitted
from simfer.stages.train.losses import value_and_slopes

_MOST_ROWS = 2000
_SLOPE_BYTES = 2**27  # of derivatives that are held at a time, with all that they are made of
_UNUSED = (
    "the rows carry derivatives, and this architecture takes no notice of them: leave simulate.derivatives out, or "
    "take a Gaussian process, or a network that is trained by descent (residual, mlp)"
)


class _Tested(NamedTuple):
    """Test rows and their predictions, flat: in the transformed scale, and (`truth`, `emulated`) in natural units."""

    rows: Int[np.ndarray, " n"]  # their numbers in the training set
    y: Float[np.ndarray, "n outputs"]
    mean: Float[np.ndarray, "n outputs"]
    truth: Float[np.ndarray, "n outputs"]
    emulated: Float[np.ndarray, "n outputs"]
    sd: Float[np.ndarray, "n outputs"]  # of error and scatter together, in natural units
    scatter: Float[np.ndarray, "n outputs"]  # of a random simulator's scatter alone


def report(
    folder: Path, emulator: Emulator, fitted: Fitted, scatter: History | None, dataset: TrainingSet, memory: int
) -> Summary:
    """Write pictures and the history of the losses into a folder, and return the rest; `scatter` has losses too."""
    tested, losses = _test(emulator, dataset, memory), {"losses.png": fitted.history, "losses_scatter.png": scatter}
    slopes = _slope_errors(emulator, dataset, tested.rows)
    title = "held-out error" + (", of which the simulator's own scatter is a part" if scatter else "")
    if fitted.history:
        _write_history(folder / "history.csv", fitted.history)
    return {
        "facts": {"architecture": emulator.header.architecture} | _size(fitted),
        "tables": {title: _table(emulator, dataset, tested, slopes)},
        "warnings": [_UNUSED] if slopes and fitted.twins and not fitted.networks.learns_derivatives else [],
        "pictures": _draw_losses(folder, losses) + _draw_errors(folder, emulator, tested),
    }


def _write_history(file: Path, history: History) -> None:
    members = range(history.train.shape[1])
    names = ["step", *[f"train_{i}" for i in members], *[f"validation_{i}" for i in members]]
    table = np.column_stack([history.steps, history.train, history.validation])
    np.savetxt(file, table, delimiter=",", header=",".join(names), comments="", fmt="%.8g")


def _test(emulator: Emulator, dataset: TrainingSet, memory: int) -> _Tested:
    z, fold = dataset.points()
    rows = blocks(np.flatnonzero(fold == TEST)[:_MOST_ROWS], emulator, memory)[0]
    y, z = dataset.outputs(rows[0], rows[-1] + 1)[rows - rows[0]], z[rows]
    members = predict(emulator, z)
    mean = members.mean(axis=1)
    variance = in_batches(emulator.variance, members)
    scatter = _scatter_variance(emulator, z)
    (truth, _), (emulated, slope) = (_natural(emulator, each) for each in (y, mean))
    sd, own = (np.sqrt(each) * np.abs(slope) for each in (variance + scatter, scatter))
    return _Tested(rows, y, mean, truth, emulated, sd, own)


def _scatter_variance(emulator: Emulator, z: Float[np.ndarray, "n size"]) -> Float[np.ndarray, "n outputs"]:
    if emulator.random is None:
        return np.zeros((len(z), emulator.layout.size))
    factors = in_batches(emulator.scatter_factor, z)
    return np.asarray(((1.0 + emulator.random.excess)[:, None] * factors**2).sum(axis=1))


def _natural(
    emulator: Emulator, y: Float[np.ndarray, "n outputs"]
) -> tuple[Float[np.ndarray, "n outputs"], Float[np.ndarray, "n outputs"]]:
    """Return flat rows in natural units, and the slope there by the transformed scale."""

    def one(y: Float[jax.Array, " outputs"]) -> tuple[jax.Array, jax.Array]:
        slices, kinds = emulator.layout.slices.items(), emulator.transform
        slopes = [TRANSFORMS[kinds[name]].slope(y[at]) for name, at in slices]
        return jnp.concatenate([part.ravel() for part in emulator.natural(y).values()]), jnp.concatenate(slopes)

    found: tuple[np.ndarray, np.ndarray] = in_batches(one, y)
    return found


def _table(emulator: Emulator, dataset: TrainingSet, tested: _Tested, slopes: dict[str, float]) -> Table:
    table = []
    for name, at in emulator.layout.slices.items():
        error, scale = tested.emulated[:, at] - tested.truth[:, at], dataset.scale[at]
        scattered = float(np.sqrt(np.mean(tested.scatter[:, at] ** 2)))
        squared = np.mean((tested.mean - tested.y)[:, at] ** 2)
        table.append(
            {
                "output": name,
                "unit": emulator.layout.outputs[name].unit,
                "error_rms": float(np.sqrt(np.mean(error**2))),
                "error_median": float(np.median(np.abs(error))),
                **({} if emulator.random is None else {"scatter_predicted": scattered}),
                "spread": float(tested.truth[:, at].std(axis=0).mean()),
                # In the transformed scale, where the network learns and the error is about the same everywhere.
                "unexplained_variance": float(squared / max(np.mean(scale**2), 1e-300)),
                **({"slopes_unexplained": slopes[name]} if slopes else {}),
            }
        )
    return table


def _slope_errors(emulator: Emulator, dataset: TrainingSet, rows: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Return which share of the mean square of each output's derivatives at some rows is error; none if not known."""
    rows = rows[: max(_SLOPE_BYTES // (80 * emulator.space.size * emulator.layout.size), 1)]
    truth = dataset.derivatives(rows[0], rows[-1] + 1)
    if truth is None:
        return {}
    truth, z = truth[rows - rows[0]], jnp.asarray(dataset.points()[0][rows])

    def slopes(z: Float[jax.Array, " size"]) -> Float[jax.Array, "size outputs"]:
        return value_and_slopes(lambda z: emulator.members(z).mean(axis=0), z)[1]

    by_z = in_batches(slopes, z, size=64)
    error = np.asarray(by_z / emulator.space.input_speeds(z)[:, :, None]) - truth
    return {
        name: float(np.sum(error[:, :, at] ** 2) / max(np.sum(truth[:, :, at] ** 2), 1e-300))
        for name, at in emulator.layout.slices.items()
    }


def _size(fitted: Fitted) -> dict[str, Any]:
    weights = jax.tree.leaves(eqx.filter(fitted.networks, eqx.is_inexact_array))
    if fitted.history is None:
        return {"weights": sum(leaf.size for leaf in weights)}
    return {
        "members": len(fitted.unseen_folds),
        "weights": sum(leaf.size // len(leaf) for leaf in weights),
        "steps": int(fitted.history.steps[-1]),
        "validation_loss": float(np.median(fitted.history.validation.min(axis=0))),
    }


def _draw_losses(folder: Path, losses: dict[str, History | None]) -> list[str]:
    drawn = {name: history for name, history in losses.items() if history is not None}
    for name, history in drawn.items():
        plots.losses(folder / name, history.steps, history.train, history.validation, history.best)
    return list(drawn)


def _draw_errors(folder: Path, emulator: Emulator, tested: _Tested) -> list[str]:
    logs = [name for name, transform in emulator.transform.items() if transform == "log"]
    plots.held_out(folder / "held_out.png", emulator.layout, tested.truth, tested.emulated, tested.sd, logs)
    if not (fields := _fields(emulator.layout, tested.truth, tested.emulated)):
        return ["held_out.png"]
    plots.fields(folder / "fields.png", fields, len(tested.truth))
    return ["held_out.png", "fields.png"]


def _fields(layout: Layout, truth: np.ndarray, emulated: np.ndarray) -> list[plots.Field]:
    """Return every output over two dimensions, those with a single entry not counted, at its row of median error."""
    fields = []
    for name, output in layout.outputs.items():
        long = [dim for dim in output.dims if len(output.coords[dim]) > 1]
        if len(long) == 2:
            one, other = truth[:, layout.slices[name]], emulated[:, layout.slices[name]]
            row = np.argsort(((other - one) ** 2).sum(axis=1))[len(one) // 2]
            y, x = (np.asarray(output.coords[dim], float) for dim in long)
            both = (values[row].reshape(len(y), len(x)) for values in (one, other))
            fields.append(plots.Field(name, output.unit, (long[0], long[1]), y, x, *both))
    return fields
