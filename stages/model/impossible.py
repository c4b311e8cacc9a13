"""Data that a noise could never have produced, and what of a noise does not fit its data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.covariance import has_header, joint_covariance
from simfer.stages.model.noise import LOGARITHMIC, limits_of_record
from simfer.stages.model.observation import Series
from simfer.stages.model.tails import MOST_COUNTS
from simfer.stages.settings import Column, CustomNoise, MultivariateNormalNoise, Noise, TruncatedNoise
from simfer.stages.settings.noise import COUNTS, SHARES

# Where data of each family can lie; anything else has no likelihood at all.
_SUPPORT: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    **{name: ("numbers above 0", lambda x: x > 0) for name in LOGARITHMIC},
    **{name: ("whole numbers of at least 0", lambda x: (x >= 0) & (x == np.round(x))) for name in COUNTS},
}

_WIDTHS = frozenset({"scale", "df", "concentration"})  # arguments that are nothing at zero


def mistakes(output: str, noise: Noise, series: Series) -> list[Mistake]:
    """List the data that the noise could never have produced, and a covariance that does not fit them."""
    found, data = [], series.values
    place = f"observation.file: column {output}"
    expected, allowed = _SUPPORT.get(noise.dist, ("", lambda x: np.ones(len(x), bool)))
    measured = np.ones(len(data), bool) if series.side is None else series.side == 0  # a bound may be any number
    if not (fine := allowed(data) | ~measured).all():
        got = ", ".join(f"{x:g}" for x in data[~fine][:4])
        found.append(Mistake(place, f"got {got}; {noise.dist} noise needs {expected}"))
    total = getattr(noise, "total_count", None)
    if isinstance(total, Column):
        total = series.columns[total.column]
    if isinstance(total, (int, np.ndarray)) and (beyond := data > total).any():
        most = total if isinstance(total, int) else f"{total[beyond][0]:g}"
        found.append(Mistake(place, f"got {data[beyond].max():g}, above noise.{output}.total_count = {most}"))
    found += _columns_mistakes(output, noise, series)
    found += _too_many(output, noise, series) if noise.dist in COUNTS else []
    found += _beyond_record(output, noise, series) if isinstance(noise, TruncatedNoise) else []
    if isinstance(noise, MultivariateNormalNoise):
        if series.side is not None:
            found.append(
                Mistake(f"noise.{output}", "a joint distribution has no censored data; take independent noise")
            )
        try:
            if not has_header(noise.covariance):
                joint_covariance(noise, len(data))
        except ConfigError as error:
            found += error.mistakes
    return found


def _columns_mistakes(output: str, noise: Noise, series: Series) -> list[Mistake]:
    """List columns with numbers that no argument of a family can have; one's own may have any."""
    if isinstance(noise, CustomNoise):
        return []
    found = []
    shares = {value.column for key, value in noise.arguments.items() if key in SHARES and isinstance(value, Column)}
    limits = {value.column for value in (getattr(noise, "low", None), getattr(noise, "high", None))
              if isinstance(value, Column)}  # fmt: skip
    above = {value.column for key, value in noise.arguments.items() if key in _WIDTHS and isinstance(value, Column)}
    for column, numbers in series.columns.items():
        where = f"observation.file: column {column}"
        if column not in limits and (numbers < 0.0).any():
            what = f"got {numbers.min():g}, which no noise.{output} can have; expected numbers of at least 0"
            found.append(Mistake(where, what))
        elif column in above and (numbers == 0.0).any():
            count = int((numbers == 0.0).sum())
            what = (
                f"got 0 for {count} of {len(numbers)} data, which then could lie nowhere else; expected numbers above 0"
            )
            found.append(Mistake(where, f"{what}. Leave a datum out that is exact, as where a simulation begins"))
        if column in shares and (numbers > 1.0).any():
            found.append(Mistake(where, f"got {numbers.max():g}, expected shares of at most 1"))
    return found


def _too_many(output: str, noise: Noise, series: Series) -> list[Mistake]:
    """List bounds of counts up to which too many probabilities would have to be added up."""
    bounds = [] if series.side is None else [series.values[series.side != 0]]
    bounds += list(limits_of_record(noise, series)) if isinstance(noise, TruncatedNoise) else []
    most = max((float(each[np.isfinite(each)].max(initial=0.0)) for each in bounds), default=0.0)
    if most <= MOST_COUNTS:
        return []
    what = f"got the bound {most:g} of counts, whose probabilities are added up one by one to {MOST_COUNTS:,} at most"
    return [Mistake(f"noise.{output}", f"{what}; so many scatter as a Normal or LogNormal does, which has no such end")]


def _beyond_record(output: str, noise: TruncatedNoise, series: Series) -> list[Mistake]:
    """List data that could not be on record: a datum beyond the limits of a truncated family."""
    limits, data = limits_of_record(noise, series), series.values
    side = np.zeros(len(data), int) if series.side is None else series.side
    beyond = {
        "low": (data < limits.lower) | ((side < 0) & (data <= limits.lower)),
        "high": (data > limits.upper) | ((side > 0) & (data >= limits.upper)),
    }
    found = []
    for key, strange in beyond.items():
        if strange.any():
            what = f"got {data[strange][0]:g}, beyond noise.{output}.{key}, where by that no datum would be on record"
            hint = "; data of which a bound is known are censored: write <BOUND or >BOUND, and take a plain family"
            found.append(Mistake(f"observation.file: column {output}", what + hint))
    return found
