"""Noise by its name in the config, and its quantities: numbers, and what is inferred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args

from pydantic import Discriminator, Tag

from simfer.stages.settings.arguments import Column
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.noise_families import (
    BinomialNoise,
    CustomNoise,
    LogNormalNoise,
    LogNormalWithOutliersNoise,
    MultivariateNormalNoise,
    NegativeBinomial2Noise,
    Noise,
    NoNoise,
    NormalNoise,
    NormalWithOutliersNoise,
    PoissonNoise,
    StudentTNoise,
    TruncatedBinomialNoise,
    TruncatedLogNormalNoise,
    TruncatedNegativeBinomial2Noise,
    TruncatedNoise,
    TruncatedNormalNoise,
    TruncatedPoissonNoise,
    TruncatedStudentTNoise,
    ZeroInflatedBinomialNoise,
    ZeroInflatedNegativeBinomial2Noise,
    ZeroInflatedPoissonNoise,
)
from simfer.stages.settings.priors import Prior

NOISE: dict[str, type[Noise]] = {
    get_args(model.model_fields["dist"].annotation)[0]: model
    for model in (
        NoNoise,
        NormalNoise,
        LogNormalNoise,
        StudentTNoise,
        PoissonNoise,
        NegativeBinomial2Noise,
        BinomialNoise,
        MultivariateNormalNoise,
        TruncatedNormalNoise,
        TruncatedLogNormalNoise,
        TruncatedStudentTNoise,
        TruncatedPoissonNoise,
        TruncatedNegativeBinomial2Noise,
        TruncatedBinomialNoise,
        ZeroInflatedPoissonNoise,
        ZeroInflatedNegativeBinomial2Noise,
        ZeroInflatedBinomialNoise,
        NormalWithOutliersNoise,
        LogNormalWithOutliersNoise,
    )
}


_COUNTS = "Poisson", "NegativeBinomial2", "Binomial"
# Whose data are whole numbers: they have no density.
COUNTS = frozenset(before + name for before in ("", "Truncated", "ZeroInflated") for name in _COUNTS)
UNLEARNED = COUNTS | {name for name in NOISE if name.startswith("Truncated")}  # whose density no flow can learn
SHARES = "gate", "outlier_share"  # arguments between 0 and 1
LIMITS = "low", "high"  # of what is on record; no quantities of the noise


def _noise_tag(value: Any) -> str | None:
    dist = value.get("dist") if isinstance(value, dict) else getattr(value, "dist", None)
    if isinstance(dist, str) and ":" in dist:
        return "custom"
    return dist if isinstance(dist, str) else None


if TYPE_CHECKING:
    AnyNoise = Noise
else:
    _tagged = [*(Annotated[model, Tag(name)] for name, model in NOISE.items()), Annotated[CustomNoise, Tag("custom")]]
    AnyNoise = Annotated[Union[tuple(_tagged)], Discriminator(_noise_tag)]  # noqa: UP007


class Quantity(NamedTuple):
    """A number of the noise: where the config has it, what it is called, and its value or its prior."""

    place: str
    name: str
    value: float | Prior


def quantities(noise: Mapping[str, Noise], shared: Mapping[str, float | Prior]) -> list[Quantity]:
    """List the numbers and priors of these outputs' noise, the shared ones that they use after their own."""
    own = [each for output, each_noise in noise.items() for each in _own(output, each_noise)]
    used = {name for output, each in noise.items() for name in names_used(output, each)}
    return own + [Quantity(f"noise_parameters.{name}", name, shared[name]) for name in shared if name in used]


def _own(output: str, noise: Noise) -> Iterator[Quantity]:
    for key, value in arguments(noise).items():
        place, name = f"noise.{output}.{key}", f"{output}_{key}"
        if isinstance(value, Column):
            more = {"times": value.times, "plus": value.plus}
            yield from (Quantity(f"{place}.{k}", f"{name}_{k}", v) for k, v in more.items() if v is not None)
        elif not isinstance(value, str):
            yield Quantity(place, name, value)


def arguments(noise: Noise) -> dict[str, Any]:
    """Return the arguments that a distribution takes, those left out not among them; neither covariance nor limits."""
    if isinstance(noise, MultivariateNormalNoise):
        return {}
    limits = LIMITS if isinstance(noise, TruncatedNoise) else ()
    return {key: value for key, value in noise.arguments.items() if value is not None and key not in limits}


def names_used(output: str, noise: Noise) -> list[str]:
    """List what the arguments name beside the output itself: shared quantities, or columns of the data."""
    formulas = [parse(value) for value in arguments(noise).values() if isinstance(value, str)]
    columns = [value.column for value in noise.arguments.values() if isinstance(value, Column)]
    named = [name for formula in formulas for name in formula.names if name != output]
    return list(dict.fromkeys([*columns, *named]))
