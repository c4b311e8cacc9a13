"""The priors that a config may name: NumPyro distributions by their own names and argument names.

This table is plain data, so that a config is checked without importing JAX. A test holds every entry against NumPyro.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Domain = Literal["real", "positive", "unit"]


@dataclass(frozen=True)
class Argument:
    """One argument of a distribution: where it may lie, and its default (None: required)."""

    domain: Domain
    default: float | None = None
    optional: bool = False  # may be left out altogether, as a truncation bound may


@dataclass(frozen=True)
class Family:
    """One distribution: a line of description and its arguments."""

    summary: str
    arguments: dict[str, Argument]


_real, _positive, _unit = Argument("real"), Argument("positive"), Argument("unit")
_loc, _scale, _bound = Argument("real", 0.0), Argument("positive", 1.0), Argument("real", None, optional=True)

PRIORS: dict[str, Family] = {
    "AsymmetricLaplace": Family(
        "double exponential with two widths", {"loc": _loc, "scale": _scale, "asymmetry": Argument("positive", 1.0)}
    ),
    "AsymmetricLaplaceQuantile": Family(
        "double exponential placed by a quantile", {"loc": _loc, "scale": _scale, "quantile": Argument("unit", 0.5)}
    ),
    "Beta": Family("on (0, 1)", {"concentration1": _positive, "concentration0": _positive}),
    "BetaProportion": Family("Beta by its mean and concentration", {"mean": _unit, "concentration": _positive}),
    "Cauchy": Family("on the line, very heavy tails", {"loc": _loc, "scale": _scale}),
    "Chi2": Family("positive, df degrees of freedom", {"df": _positive}),
    "Dagum": Family(
        "positive, power-law tail", {"concentration": _positive, "sharpness": _positive, "scale": _positive}
    ),
    "DoublyTruncatedPowerLaw": Family(
        "x^alpha between low and high", {"alpha": _real, "low": _positive, "high": _positive}
    ),
    "Exponential": Family("positive, mean 1 / rate", {"rate": _scale}),
    "Gamma": Family("positive, mean concentration / rate", {"concentration": _positive, "rate": _scale}),
    "Gompertz": Family("positive, of lifetimes", {"concentration": _positive, "rate": _scale}),
    "Gumbel": Family("of maxima", {"loc": _loc, "scale": _scale}),
    "HalfCauchy": Family("positive, very heavy tail", {"scale": _scale}),
    "HalfNormal": Family("positive half of a normal", {"scale": _scale}),
    "InverseGamma": Family("positive, 1 / Gamma", {"concentration": _positive, "rate": _scale}),
    "Laplace": Family("double exponential", {"loc": _loc, "scale": _scale}),
    "Levy": Family("above loc, extremely heavy tail", {"loc": _real, "scale": _positive}),
    "LogNormal": Family("exp of a normal: loc and scale are those of the log", {"loc": _loc, "scale": _scale}),
    "LogUniform": Family("log uniform between low and high", {"low": _positive, "high": _positive}),
    "Logistic": Family("on the line, exponential tails", {"loc": _loc, "scale": _scale}),
    "LowerTruncatedPowerLaw": Family("x^alpha above low, alpha < -1", {"alpha": _real, "low": _positive}),
    "Normal": Family("Gaussian", {"loc": _loc, "scale": _scale}),
    "Pareto": Family("power law above scale", {"scale": _positive, "alpha": _positive}),
    "SoftLaplace": Family("Laplace with a smooth peak", {"loc": _real, "scale": _positive}),
    "StudentT": Family("on the line, power-law tails", {"df": _positive, "loc": _loc, "scale": _scale}),
    "TruncatedCauchy": Family(
        "Cauchy cut at low, high or both", {"loc": _loc, "scale": _scale, "low": _bound, "high": _bound}
    ),
    "TruncatedNormal": Family(
        "normal cut at low, high or both", {"loc": _loc, "scale": _scale, "low": _bound, "high": _bound}
    ),
    "Uniform": Family("flat between low and high", {"low": Argument("real", 0.0), "high": Argument("real", 1.0)}),
    "Weibull": Family("positive, of lifetimes", {"scale": _positive, "concentration": _positive}),
}
