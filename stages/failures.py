"""Where in parameter space a simulator fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float


def where_it_fails(theta: Mapping[str, Float[np.ndarray, " rows"]], failed: Bool[np.ndarray, " rows"]) -> str:
    """Name the one cut in one parameter that best separates failed rows from the others (Youden's J)."""
    if failed.all():
        return "Every row failed."
    best = max((_cut(name, values, failed) for name, values in theta.items()), key=lambda cut: cut[0])
    _, name, sign, at = best
    beyond = sign * theta[name] > sign * at
    side = ">" if sign > 0 else "<"
    return (
        f"The failures lie mostly where {name} {side} {at:.4g}: {beyond[failed].mean():.0%} of the failed rows are "
        f"there, {beyond[~failed].mean():.0%} of the others."
    )


def _cut(
    name: str, values: Float[np.ndarray, " rows"], failed: Bool[np.ndarray, " rows"]
) -> tuple[float, str, int, float]:
    order = np.argsort(values)
    hit = np.cumsum(failed[order]) / failed.sum()
    miss = np.cumsum(~failed[order]) / (~failed).sum()
    below = hit - miss  # J of "values <= this one fail"; its negative is J of "values above fail"
    at = int(np.argmax(np.abs(below)))
    sign = -1 if below[at] > 0 else 1
    ordered = values[order]
    edge = 0.5 * (ordered[at] + ordered[min(at + 1, len(ordered) - 1)])
    return float(abs(below[at])), name, sign, float(edge)
