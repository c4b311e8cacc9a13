"""Data simulated at one draw must find it again among all draws, as often as the likelihood says.

The draws are exchangeable, so that which of them made the data has the likelihood, normalised over them, for its
probabilities: if the likelihood is right, whatever the draws are (simulation-based calibration, Talts et al. 2018, the
posterior being the prior). It is what a posterior is made of: a density that looks right at its own parameters, all of
them together, may still weigh two of them wrongly against each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

_OTHERS = 255  # draws among which data must find their own
_FAR = 4.0  # sd beyond which a value counts as this: no single one is to decide
_AXES, _FOR_EACH = 4, 8  # of the data, and draws for each product of one with a parameter

LogDensities = Callable[
    [Float[np.ndarray, "draws n"], Int[np.ndarray, "draws each"]], Float[np.ndarray, "draws each"]
]  # of rows of data, each at the draws that it is looked for among


def calibration_p(
    named: Float[np.ndarray, "draws p"], simulated: Float[np.ndarray, "draws n"], log_densities: LogDensities
) -> float:
    """Return the p of each row of simulated data finding its own draw, among others, as often as the likelihood says.

    Args:
        named: Parameters at the draws, whitened.
        simulated: What the simulator gave at each, with noise.
        log_densities: The likelihood.
    """
    count = len(named)
    each = min(count, 1 + _OTHERS)
    among = (np.arange(count)[:, None] + (np.arange(each) * count) // each) % count  # its own draw first
    unit = (named - named.mean(axis=0)) / np.maximum(named.std(axis=0), 1e-300)
    return own_draw_p(log_densities(simulated, among), unit[among], simulated)


def own_draw_p(
    logs: Float[np.ndarray, "draws each"],
    unit: Float[np.ndarray, "draws each p"],
    simulated: Float[np.ndarray, "draws n"],
) -> float:
    """Return the p of the first of each row's draws having made its data, from the log densities of all of them.

    Looked at are that probability itself, the parameters, their squares, and their products with the data, by
    Bonferroni. A density that does not see a parameter at all is right about it on average; that the parameter goes
    with the data shows in the products: with the data along their first principal axes, and with their size, for a
    parameter of the scatter alone moves no mean.
    """
    if not np.isfinite(logs).all():
        return float("nan")
    weights, along = softmax(logs, axis=1), _features(simulated, len(logs) // (_FOR_EACH * unit.shape[2]))
    surprise = np.log(np.maximum(weights, 1e-300))[..., None]
    both = (unit[..., None] * along[:, None, None]).reshape(*weights.shape, -1)
    looks = [found_p(values, weights) for values in (surprise, unit, np.clip(unit, -_FAR, _FAR) ** 2, both)]
    return float(min(len(looks) * min(looks), 1.0))


def _features(data: Float[np.ndarray, "draws n"], most: int) -> Float[np.ndarray, "draws k"]:
    """Return data along their first principal axes, one at least and four at most, and their size, all at unit size."""
    away = (data - data.mean(axis=0)) / np.maximum(data.std(axis=0), 1e-300)
    axes = np.linalg.svd(away, full_matrices=False)[0][:, : max(1, min(most, _AXES))] * np.sqrt(len(data))
    size = np.log(np.maximum((away**2).sum(axis=1), 1e-300))
    size = (size - size.mean()) / max(float(size.std()), 1e-300)
    return np.clip(np.concatenate([axes, size[:, None]], axis=1), -_FAR, _FAR)


def found_p(values: Float[np.ndarray, "draws each k"], weights: Float[np.ndarray, "draws each"]) -> float:
    """Return the p of the first of a draw's vectors having been taken by these weights, by their sum over draws."""
    from scipy.stats import chi2

    away = values - np.einsum("re,rei->ri", weights, values)[:, None]
    total, covariance = away[:, 0].sum(axis=0), np.einsum("re,rei,rej->ij", weights, away, away)
    sizes, axes = np.linalg.eigh(covariance)
    known = sizes > 1e-9 * max(sizes[-1], 1e-300)
    return float(chi2.sf(((total @ axes)[known] ** 2 / sizes[known]).sum(), int(known.sum())))
