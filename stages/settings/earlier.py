"""An earlier posterior as a prior: smooth marginals of its draws, and the Gaussian copula that ties them.

The numbers are written into the config's parameters, so that artifacts need no file of another run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

_GRID = [-4.0 + 0.25 * i for i in range(33)]  # of standard normal scores, where a marginal is known
_STIFF = 10.0  # draws' worth of smoothness: far out, where few draws are, a marginal becomes straight
_FEWEST = 200  # draws that a marginal can be read from
_BATCHES = 40  # of draws in a row, whose means say how independent draws are
_DIGITS = 9  # that are kept: the last ones differ from machine to machine


class Margin(NamedTuple):
    """One quantity's quantiles on the grid of scores: of its logarithm above `low`, or of its logit between bounds."""

    knots: list[float]
    low: float | None
    high: float | None


class Earlier(NamedTuple):
    """What was read of an earlier posterior."""

    parts: dict[str, dict[str, Any]]
    num_draws: int
    """How many draws there are."""
    num_effective: float
    """How many independent draws they are worth."""
    distance: float
    """How far draws are from the copula: the largest Kolmogorov-Smirnov distance of what should be standard normal."""


def read(
    file: str,
    names: Sequence[str],
    taken: Sequence[str],
    units: Mapping[str, str],
    bounds: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Earlier:
    """Return the priors of an earlier posterior's quantities, each given those before it.

    Args:
        file: The NetCDF file that `infer` wrote, or any of ArviZ's schema.
        names: The quantities; all but those derived, and those `taken`, if left out.
        taken: Names of this config's own.
        units: Units that are not those in the file.
        bounds: Between what a quantity lies; what has positive draws alone stays positive without.

    Raises:
        ValueError: There is no such quantity, or too few draws of it.
    """
    import numpy as np

    draws, in_file = _draws(file)
    wanted = list(names) or [name for name in draws if name not in taken]
    if lacking := [name for name in wanted if name not in draws]:
        raise ValueError(f"names: got {lacking[0]}, expected some of those in the file: {', '.join(draws)}")
    if len(wanted) < 1 or len(draws[wanted[0]]) < _FEWEST:
        count = len(draws[wanted[0]]) if wanted else 0
        raise ValueError(f"file: got {count} draws of {len(wanted)} quantities, expected at least {_FEWEST} draws")
    theta = np.stack([draws[name] for name in wanted], axis=1)
    if not np.isfinite(theta).all() or (np.ptp(theta, axis=0) == 0.0).any():
        raise ValueError("file: got draws that are not finite, or all the same")
    if unknown := [name for name in bounds if name not in wanted]:
        raise ValueError(f"bounds: got {unknown[0]}, expected some of {', '.join(wanted)}")
    margins = [_margin(name, column, bounds.get(name)) for name, column in zip(wanted, theta.T, strict=True)]
    scores = _scores(theta)
    factor = np.linalg.cholesky(np.corrcoef(scores.T).reshape(len(wanted), len(wanted)))
    parts = {}
    for k, name in enumerate(wanted):
        gain = np.linalg.solve(factor[:k, :k].T, factor[k, :k]) if k else np.zeros(0)
        unit = units.get(name, in_file.get(name, ""))
        parts[name] = {
            "dist": "EarlierPart",
            "after": wanted[:k],
            "gain": [_short(value) for value in gain],
            "scale": _short(factor[k, k]),
            "margins": [margin._asdict() for margin in margins[: k + 1]],
            **({"unit": unit} if unit else {}),
        }
    independent = np.linalg.solve(factor, scores.T).T
    return Earlier(parts, len(theta), _effective(independent), _distance(independent))


def _draws(file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return all draws of each number by name, and their units; what is derived from others is left out."""
    import h5py
    import numpy as np

    found: dict[str, Any] = {}
    units: dict[str, str] = {}
    try:
        stored = h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"file: {Path(file).name} cannot be read as NetCDF: {error}") from None
    with stored:
        if "posterior" not in stored:
            raise ValueError(
                f'file: {Path(file).name} has no group "posterior"; expected posterior.nc of an earlier run'
            )
        for name, values in stored["posterior"].items():
            if name in ("chain", "draw") or name.endswith("_dim_0") or values.ndim < 2 or "formula" in values.attrs:
                continue
            if "period" in values.attrs:
                raise ValueError(f"file: {name} goes round, which this prior does not; leave it out of names")
            array = np.asarray(values, float)
            flat = array.reshape(array.shape[0] * array.shape[1], -1)
            numbers = [name] if array.ndim == 2 else [f"{name}[{i}]" for i in range(flat.shape[1])]
            found |= {number: flat[:, i] for i, number in enumerate(numbers)}
            if unit := values.attrs.get("units"):
                units |= dict.fromkeys(numbers, unit.decode() if isinstance(unit, bytes) else str(unit))
    return found, units


def _scores(theta: Any) -> Any:
    """Return each column as standard normal scores of its ranks."""
    import numpy as np
    from scipy.special import ndtri

    ranks = np.argsort(np.argsort(theta, axis=0), axis=0)
    return ndtri((ranks + 0.5) / len(theta))


def _margin(name: str, values: Any, bounds: Sequence[float] | None) -> Margin:
    """Fit a smooth increasing function of scores to a quantity's ordered draws: lines between knots, bent little."""
    import numpy as np
    from scipy.special import ndtri

    low, high = bounds or ((0.0 if (values > 0.0).all() else None), None)
    if bounds and not ((values > low) & (values < high)).all():
        raise ValueError(f"bounds.{name}: got draws from {values.min():g} to {values.max():g}, beyond {low} to {high}")
    along = values if low is None else np.log(values - low)
    ordered = np.sort(along if high is None else along - np.log(high - values))
    at = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    step, grid = _GRID[1] - _GRID[0], np.array(_GRID)
    hats = np.maximum(1.0 - np.abs(np.clip(at, grid[0], grid[-1])[:, None] - grid) / step, 0.0)
    bends = np.diff(np.eye(len(grid)), n=2, axis=0)
    knots = np.linalg.solve(hats.T @ hats + _STIFF * bends.T @ bends, hats.T @ ordered)
    least = 1e-6 * (knots[-1] - knots[0]) / len(grid)
    rising = np.maximum.accumulate(knots - least * np.arange(len(grid))) + least * np.arange(len(grid))
    return Margin([_short(value) for value in rising], low, high)


def _short(value: float) -> float:
    return float(f"{float(value):.{_DIGITS}g}")


def _effective(scores: Any) -> float:
    """Return the number of independent draws that chains are worth, by the means of batches of them."""
    length = len(scores) // _BATCHES
    means = scores[: _BATCHES * length].reshape(_BATCHES, length, -1).mean(axis=1)
    return float(min(len(scores), len(scores) / max(length * means.var(axis=0).max(), 1e-300)))


def _distance(independent: Any) -> float:
    """Return the largest Kolmogorov-Smirnov distance of sums and differences of two scores, and of all squares.

    Of a Gaussian copula they are standard normal, and a chi-squared.
    """
    import numpy as np
    from scipy.stats import chi2, kstest

    size = independent.shape[1]
    pairs = [(i, j) for i in range(size) for j in range(i)]
    mixed = [(independent[:, i] + sign * independent[:, j]) / np.sqrt(2.0) for i, j in pairs for sign in (1.0, -1.0)]
    distances = [kstest(each, "norm").statistic for each in mixed]
    distances.append(kstest((independent**2).sum(axis=1), chi2(size).cdf).statistic if size > 1 else 0.0)
    return float(max(distances))
