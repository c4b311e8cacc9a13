"""Priors of the table in `stages.priors`, as settings: a model of each, with its own arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model, model_validator

from simfer.stages.settings.fields import AddedLater, Finite, NotInKey, Positive, ReadLater, Settings
from simfer.stages.settings.prior_table import PRIORS, Argument


class Prior(Settings):
    """One distribution of the table in `stages.priors`, with its arguments."""

    dist: str
    """A distribution by NumPyro's name; `simfer list priors` has all, with their arguments."""
    unit: Annotated[str, ReadLater()] = ""
    """Unit, for pictures and tables."""
    label: Annotated[str, ReadLater()] = ""
    """How pictures write the name, such as "$\\alpha$"."""
    periodic: Annotated[bool, AddedLater()] = False
    """Whether `low` and `high` are the same place, as of an angle: of a Uniform alone."""
    edge: Annotated[Literal["watched", "meant"], NotInKey()] = "watched"
    """Whether a posterior may lie at a bound: `meant`, where physics ends there and not only what one believed."""

    @property
    def unsaid(self) -> set[str]:
        """What is not written into artifacts: what says nothing there, and what only a verdict asks for."""
        return {"edge"} if self.periodic else {"edge", "periodic"}

    @property
    def arguments(self) -> dict[str, float]:
        """The distribution's own arguments, those left out not among them."""
        values = self.model_dump(exclude={"dist", "unit", "label", "periodic", "edge"})
        return {name: value for name, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Prior:
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        if low is not None and high is not None and not low < high:
            raise ValueError(f"got low = {low} and high = {high}, expected low < high")
        if self.dist.startswith("Truncated") and low is None and high is None:
            raise ValueError("expected low, high or both: without them there is nothing to truncate")
        if self.periodic and self.dist != "Uniform":
            raise ValueError(f'got periodic = true for "{self.dist}", expected "Uniform", from low to high once around')
        return self


_DOMAINS: dict[str, Any] = {
    "real": Finite,
    "positive": Positive,
    "unit": Annotated[float, Field(gt=0, lt=1)],
}


def _field(argument: Argument) -> Any:
    kind = _DOMAINS[argument.domain]
    if argument.optional:
        return (kind | None, None)
    return (kind, ... if argument.default is None else argument.default)


_PRIOR_MODELS: dict[str, Any] = {
    name: create_model(
        name,
        __base__=Prior,
        dist=(Literal[name], ...),  # type: ignore[arg-type]
        **{argument: _field(spec) for argument, spec in family.arguments.items()},
    )
    for name, family in PRIORS.items()
}
if TYPE_CHECKING:
    AnyPrior = Prior
else:
    AnyPrior = Annotated[Union[tuple(_PRIOR_MODELS.values())], Field(discriminator="dist")]  # noqa: UP007


# Those that are positive whatever their arguments; others have a bound that says so, or reach below zero.
_POSITIVE = {
    *("Beta", "BetaProportion", "Chi2", "Dagum", "DoublyTruncatedPowerLaw", "Exponential", "Gamma", "Gompertz"),
    *("HalfCauchy", "HalfNormal", "InverseGamma", "LogNormal", "LogUniform", "LowerTruncatedPowerLaw", "Pareto"),
    "Weibull",
}


def is_positive(prior: Prior) -> bool:
    """Say whether a prior holds positive numbers alone."""
    bound = getattr(prior, "loc" if prior.dist == "Levy" else "low", None)
    bounded = prior.dist in ("Levy", "Uniform", "TruncatedNormal", "TruncatedCauchy")
    return prior.dist in _POSITIVE or (bounded and isinstance(bound, (int, float)) and bound >= 0)


def _surely_positive(prior: Prior) -> Prior:
    if not is_positive(prior):
        what = 'take one on positive numbers, such as { dist = "HalfNormal", scale = 1.0 }'
        raise ValueError(
            f"the prior {prior.dist} reaches below zero here, where only a positive number makes sense; {what}"
        )
    return prior


def _number_or_prior(value: Any) -> str:
    return "prior" if isinstance(value, (dict, Prior)) else "number"


# A number is a fixed value; a table is a prior, and then the value is inferred.
NumberOrPrior = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[AnyPrior, Tag("prior")], Discriminator(_number_or_prior)
]
PositivePrior = Annotated[AnyPrior, AfterValidator(_surely_positive)]
PositiveOrPrior = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[PositivePrior, Tag("prior")],
    Discriminator(_number_or_prior),
]
Parameters = dict[str, NumberOrPrior]
