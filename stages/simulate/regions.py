"""The region of parameter space that best tells some rows, the failed ones, from the others.

It is sought in the whitened space, where every prior is a standard normal, and told in the parameters' own units. How
well it tells is Youden's J (1950): the share of the failed rows inside it less that of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from simfer.stages.model.space import Space

FEWEST = 3  # failed rows below which they mark no region
_ANGLES = np.linspace(0.0, np.pi, 60, endpoint=False)[1:]
_PAIRED = 6  # parameters, the best, that are looked at in pairs
_THINNED = 4000  # rows of either kind that a direction is sought with


@dataclass(frozen=True)
class Region:
    """Where a weighted sum of one or two whitened parameters lies between two ends, or outside of them."""

    weights: Mapping[str, float]
    low: float
    high: float
    inside: bool
    separation: float  # Youden's J

    def along(self, z: Float[np.ndarray, "rows size"], space: Space) -> Float[np.ndarray, " rows"]:
        """Return the weighted sum of whitened points."""
        scores = np.asarray(space.scores(z))
        return sum(weight * scores[:, space.names.index(name)] for name, weight in self.weights.items())  # type: ignore[return-value]

    def holds(self, z: Float[np.ndarray, "rows size"], space: Space) -> Bool[np.ndarray, " rows"]:
        """Say which whitened points lie in the region."""
        values = self.along(z, space)
        return ((values > self.low) & (values < self.high)) == self.inside

    def cuts(self, space: Space) -> list[float]:
        """Return the ends that are finite: values of the parameter, or of the weighted sum of two."""
        ends = [end for end in (self.low, self.high) if np.isfinite(end)]
        return [_value(space, next(iter(self.weights)), end) for end in ends] if len(self.weights) == 1 else ends

    @property
    def label(self) -> str:
        """The parameter's name, or the weighted sum of two."""
        if len(self.weights) == 1:
            return next(iter(self.weights))
        (a, u), (b, v) = self.weights.items()
        return f"{u:.2g} {a} {'+' if v > 0 else '-'} {abs(v):.2g} {b}"

    def words(self, space: Space) -> str:
        """Name the region."""
        cuts = [f"{cut:.4g}" for cut in self.cuts(space)]
        if len(self.weights) == 2:
            sides = [f"{name} is {'high' if weight > 0 else 'low'}" for name, weight in self.weights.items()]
            return (
                f"{' and '.join(sides)} together ({self.label} > {cuts[0]}, each in its prior's standard normal units)"
            )
        (name,) = self.weights
        if len(cuts) == 2:
            return f"{cuts[0]} < {name} < {cuts[1]}" if self.inside else f"{name} < {cuts[0]} or {name} > {cuts[1]}"
        return f"{name} > {cuts[0]}" if np.isfinite(self.low) == self.inside else f"{name} < {cuts[0]}"


def _value(space: Space, name: str, z: float) -> float:
    """Return a parameter's value at a point of its standard normal scale."""
    at = space.names.index(name)
    return float(space.from_scores(np.where(np.arange(len(space.names)) == at, z, 0.0))[at])


def by_parameter(
    z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"], space: Space
) -> dict[str, Region]:
    """Return each parameter's best region, the parameter that tells best first; some rows failed, and some did not."""
    scores = np.asarray(space.scores(z))
    found = {name: _best_range(name, scores[:, i], failed) for i, name in enumerate(space.names)}
    return dict(sorted(found.items(), key=lambda item: -item[1].separation))


def best_region(z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"], space: Space) -> Region | None:
    """Return the region that tells best, of two parameters if clearly better so; None if nothing tells.

    By chance alone two samples differ as Kolmogorov and Smirnov say; what is not beyond that (at 5 %, over all
    parameters) tells nothing.
    """
    if failed.all() or failed.sum() < FEWEST:
        return None
    ranges = by_parameter(z, failed, space)
    best = next(iter(ranges.values()))
    pair = _best_direction(z, failed, space, list(ranges)[:_PAIRED])
    if pair is not None and pair.separation > best.separation + _margin(failed):
        best = pair
    effective = failed.sum() * (~failed).sum() / len(failed)
    by_chance = np.sqrt(-0.5 * np.log(0.025 / len(ranges)) / effective)
    is_cut = len(best.weights) == 1 and not np.isfinite([best.low, best.high]).all()
    # With one more number to fit, chance reaches further (Kuiper 1960: 1.75 where Kolmogorov has 1.36).
    return best if best.separation > (1.0 if is_cut else 1.3) * by_chance else None


def _margin(failed: Bool[np.ndarray, " rows"]) -> float:
    """Return by how much a region with one more number to it must be better: what chance alone may gain."""
    return 0.05 + 1.0 / np.sqrt(failed.sum())


def _best_range(name: str, values: Float[np.ndarray, " rows"], failed: Bool[np.ndarray, " rows"]) -> Region:
    gain, ends = _running(values, failed)
    at = int(np.argmax(np.abs(gain)))
    one = Region({name: 1.0}, -np.inf, ends[at], True, gain[at])
    if gain[at] < 0:
        one = Region({name: 1.0}, ends[at], np.inf, True, -gain[at])
    between = [_between(name, sign * gain, ends, sign > 0) for sign in (1.0, -1.0)]
    two = max(between, key=lambda region: region.separation)
    return two if two.separation > one.separation + 0.5 * _margin(failed) else one


def _running(
    values: Float[np.ndarray, " rows"], failed: Bool[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return J of "below this end" at every end between two rows, those before and after all rows among them."""
    order = np.argsort(values, kind="stable")
    ordered, hit = values[order], failed[order]
    gain = np.concatenate([[0.0], np.cumsum(np.where(hit, 1.0 / hit.sum(), -1.0 / (~hit).sum()))])
    ends = np.concatenate([[-np.inf], 0.5 * (ordered[1:] + ordered[:-1]), [np.inf]])
    apart = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    return gain[apart], ends[apart]


def _between(name: str, gain: Float[np.ndarray, " k"], ends: Float[np.ndarray, " k"], inside: bool) -> Region:
    """Return the range with the largest rise of `gain` from its low end to its high one."""
    rise = gain - np.minimum.accumulate(gain)
    high = int(np.argmax(rise))
    low = int(np.argmin(gain[: high + 1]))
    return Region({name: 1.0}, ends[low], ends[high], inside, float(rise[high]))


def _best_direction(
    z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"], space: Space, names: Sequence[str]
) -> Region | None:
    """Return the half-plane of two whitened parameters that tells best, as a product of log-normal ones would."""
    kinds = [np.flatnonzero(failed), np.flatnonzero(~failed)]
    few, scores = np.concatenate([rows[:: -(-len(rows) // _THINNED)] for rows in kinds]), np.asarray(space.scores(z))
    best: tuple[float, str, str, float] = (0.0, "", "", 0.0)
    for a, b in combinations(names, 2):
        x, y = (scores[few, space.names.index(name)] for name in (a, b))
        for angle in _ANGLES:
            gain, _ = _running(np.cos(angle) * x + np.sin(angle) * y, failed[few])
            best = max(best, (float(np.abs(gain).max()), a, b, float(angle)))
    if not best[0]:
        return None
    _, a, b, angle = best
    weights = np.array([np.cos(angle), np.sin(angle)])
    values = weights[0] * scores[:, space.names.index(a)] + weights[1] * scores[:, space.names.index(b)]
    gain, ends = _running(values, failed)
    at = int(np.argmax(np.abs(gain)))
    sign = -np.sign(gain[at])  # so that failures lie above the cut
    named = dict(zip((a, b), (sign * weights).tolist(), strict=True))
    return Region(named, float(sign * ends[at]), np.inf, True, float(abs(gain[at])))
