"""Several models of the same data: which predicts what it has not seen better, and how their predictions differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from jaxtyping import Float
from scipy.optimize import minimize

from simfer.stages import plots
from simfer.stages.errors import SimferError
from simfer.stages.report.gallery import Gallery
from simfer.stages.settings import Problem
from simfer.stages.summary import Summary, Table

_GOOD_K = 0.7  # beyond which the tail of the weights has no variance to rely on (Vehtari et al. 2024)
_EVIDENCE = "log_evidence", "log_evidence_standard_error"


class Model(NamedTuple):
    """One model: its config, and the folders of its stages."""

    problem: Problem
    folders: Mapping[str, Path]


class Loo(NamedTuple):
    """Leave-one-out by Pareto-smoothed importance sampling (Vehtari, Gelman & Gabry 2017), datum by datum."""

    elpd: Float[np.ndarray, " data"]
    effective: Float[np.ndarray, " data"]  # parts of the effective number of parameters
    k_hat: Float[np.ndarray, " data"]


def compare(models: Mapping[str, Model], file: Path) -> Summary:
    """Compare models by name, and draw their predictions into a file.

    Raises:
        SimferError: Their data are not the same, or a noise has no log likelihood of each datum.
    """
    galleries = {name: Gallery(model.folders, model.problem) for name, model in models.items()}
    trees = {name: gallery.tree for name, gallery in galleries.items()}
    _hold_same_data(trees)
    loos = {name: loo(pointwise(name, tree)) for name, tree in trees.items()}
    table, evidence = rank(loos), _evidence(trees)
    _draw(galleries, file)
    tables = {"by what each predicts of data that it has not seen (PSIS-LOO)": table}
    if evidence:
        tables["by evidence (from the tempered population, its standard error beside it)"] = evidence
    words = [_doubt(name, each.k_hat) for name, each in loos.items() if (each.k_hat > _GOOD_K).any()]
    facts = {"data": len(next(iter(loos.values())).elpd), "best": table[0]["model"]}
    return {"facts": facts, "tables": tables, "warnings": words, "pictures": [file.name]}


def pointwise(name: str, tree: xr.DataTree) -> Float[np.ndarray, "draws data"]:
    """Return each datum's log likelihood at each draw."""
    logs = tree["log_likelihood"].to_dataset()
    parts = []
    for output in sorted(map(str, logs.data_vars)):
        values = np.asarray(logs[output])
        observed = tree["observed_data"].to_dataset()
        if values.ndim == 2 and (output not in observed or observed[output].size > 1):
            raise SimferError(
                f"{name}: the noise of {output} has one log likelihood for all of its data together (they are "
                "correlated), and leaving one out needs one for each; compare by their predictive p, or by evidence"
            )
        parts.append(values.reshape(values.shape[0] * values.shape[1], -1))
    return np.concatenate(parts, axis=1)


def loo(logs: Float[np.ndarray, "draws data"]) -> Loo:
    """Estimate the log density of each datum by the posterior of all others."""
    elpd, k_hat, effective = array_stats.loo(logs.T[:, None, :])
    return Loo(np.asarray(elpd), np.asarray(effective), np.asarray(k_hat))


def rank(loos: Mapping[str, Loo]) -> Table:
    """Tabulate models, the best first: expected log density, differences with their errors, stacking weights."""
    weights = dict(zip(loos, stacking(np.stack([each.elpd for each in loos.values()], axis=1)), strict=True))
    order = sorted(loos, key=lambda name: -float(loos[name].elpd.sum()))
    best = loos[order[0]].elpd
    return [
        {
            "model": name,
            "elpd_loo": float(loos[name].elpd.sum()),
            "se": _error(loos[name].elpd),
            "difference": float((loos[name].elpd - best).sum()),
            "se_of_difference": _error(loos[name].elpd - best),
            "effective_parameters": float(loos[name].effective.sum()),
            "stacking_weight": float(weights[name]),
            "largest_k_hat": float(loos[name].k_hat.max()),
            "k_hats_beyond_0.7": int((loos[name].k_hat > _GOOD_K).sum()),
        }
        for name in order
    ]


def stacking(elpd: Float[np.ndarray, "data models"]) -> Float[np.ndarray, " models"]:
    """Return the weights whose mixture predicts best what was left out (Yao et al. 2018, equation 5)."""
    count = elpd.shape[1]
    densities = np.exp(elpd - elpd.max(axis=1, keepdims=True))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(densities @ weights, 1e-300)
        return -float(np.log(mixed).mean()), -(densities / mixed[:, None]).mean(axis=0)

    found = minimize(
        loss,
        np.full(count, 1.0 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = np.clip(found.x, 0.0, 1.0)
    return np.asarray(weights / weights.sum())


def _error(values: Float[np.ndarray, " data"]) -> float:
    return float(np.sqrt(len(values) * values.var()))


def _hold_same_data(trees: Mapping[str, xr.DataTree]) -> None:
    first, *others = trees
    reference = trees[first]["observed_data"].to_dataset()
    for name in others:
        data = trees[name]["observed_data"].to_dataset()
        if set(data.data_vars) != set(reference.data_vars):
            got, expected = (", ".join(sorted(map(str, each.data_vars))) for each in (data, reference))
            raise SimferError(
                f"{name} has data of {got}, and {first} of {expected}: models of different data cannot be compared"
            )
        for output in reference.data_vars:
            _hold_same_series(str(output), first, reference[output], name, data[output])


def _hold_same_series(output: str, first: str, one: xr.DataArray, second: str, other: xr.DataArray) -> None:
    if one.shape != other.shape:
        what = f"{one.size} data in {first} and {other.size} in {second}"
    elif not np.array_equal(np.asarray(one), np.asarray(other)):
        at = int(np.flatnonzero(np.asarray(one) != np.asarray(other))[0])
        what = f"datum {at + 1} is {float(one[at]):g} in {first} and {float(other[at]):g} in {second}"
    elif any(not np.array_equal(one[dim], other[dim]) for dim in set(one.coords) & set(other.coords)):
        what = f"the same values at other coordinates in {first} than in {second}"
    else:
        return
    raise SimferError(f"{output}: {what}; models of different data cannot be compared")


def _evidence(trees: Mapping[str, xr.DataTree]) -> Table:
    """Tabulate evidences, where every posterior has one that its sampler stands for."""
    found = {name: [_attribute(tree, key) for key in _EVIDENCE] for name, tree in trees.items()}
    if any(value is None for values in found.values() for value in values):
        return []
    best = max(float(values[0]) for values in found.values() if values[0] is not None)
    return [
        {"model": name, "log_evidence": value, "standard_error": error, "difference": float(value or 0.0) - best}
        for name, (value, error) in found.items()
    ]


def _attribute(tree: xr.DataTree, key: str) -> float | None:
    groups = (tree["posterior"].attrs, tree["sample_stats"].attrs)
    return next((float(attributes[key]) for attributes in groups if key in attributes), None)


def _doubt(name: str, k_hat: Float[np.ndarray, " data"]) -> str:
    return (
        f"{name}: {int((k_hat > _GOOD_K).sum())} of {len(k_hat)} data have a k-hat beyond 0.7: without them its "
        "posterior is another than with them, and its line of the table is not to be relied on"
    )


def _draw(galleries: Mapping[str, Gallery], file: Path) -> None:
    panels: dict[str, dict[str, Any]] = {}
    for name, gallery in galleries.items():
        for output, panel in gallery.panels().items():
            panels.setdefault(output, {})[name] = panel
    file.parent.mkdir(parents=True, exist_ok=True)
    shown: Sequence[Mapping[str, plots.Panel]] = list(panels.values())
    plots.models(file, shown)
