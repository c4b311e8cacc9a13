"""Priors of the table in `stages.priors`, as settings: a model of each, with its own arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model, model_validator

from simfer.stages.settings.expressions import parse
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
    def needs(self) -> tuple[str, ...]:
        """The other quantities that its arguments name."""
        formulas = [parse(value) for value in self.arguments.values() if isinstance(value, str)]
        return tuple(dict.fromkeys(name for formula in formulas for name in formula.names))

    @property
    def stands_alone(self) -> bool:
        """Whether it is a distribution of its own, and not one given other quantities."""
        return not self.needs

    @property
    def arguments(self) -> dict[str, Any]:
        """The distribution's own arguments, numbers or formulas of others, those left out not among them."""
        values = self.model_dump(exclude={"dist", "unit", "label", "periodic", "edge"})
        return {name: value for name, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Prior:
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and not low < high:
            raise ValueError(f"got low = {low} and high = {high}, expected low < high")
        if self.dist.startswith("Truncated") and low is None and high is None:
            raise ValueError("expected low, high or both: without them there is nothing to truncate")
        if self.needs and self.periodic:
            raise ValueError("a periodic prior goes from a number to a number; it names no other parameter")
        by_formula = {name for name, value in self.arguments.items() if isinstance(value, str)}
        if fixed := sorted(by_formula - _MOVABLE.get(self.dist, by_formula)):
            what = "may not depend on another parameter: its quantiles are found by bisection"
            raise ValueError(f"{', '.join(fixed)} of {self.dist} {what}; LogNormal, Normal, Uniform and the like may")
        if self.periodic and self.dist != "Uniform":
            raise ValueError(f'got periodic = true for "{self.dist}", expected "Uniform", from low to high once around')
        return self


# What of the priors whose quantiles are found by bisection moves or stretches them, and no more.
_MOVABLE: dict[str, set[str]] = {
    "Beta": set(),
    "BetaProportion": set(),
    "Chi2": set(),
    "Gamma": {"rate"},
    "InverseGamma": {"rate"},
    "StudentT": {"loc", "scale"},
}


def _formula(text: str) -> str:
    parse(text)
    return text


def _by_formula(value: Any) -> str:
    return "formula" if isinstance(value, str) else "value"


_DOMAINS: dict[str, Any] = {
    "real": Finite,
    "positive": Positive,
    "unit": Annotated[float, Field(gt=0, lt=1)],
}


def _field(argument: Argument) -> Any:
    domain: Any = _DOMAINS[argument.domain]
    number: Any = Annotated[domain, Tag("value")]
    formula: Any = Annotated[str, AfterValidator(_formula), Tag("formula")]
    kind: Any = Annotated[number | formula, Discriminator(_by_formula)]
    if argument.optional:
        return (kind | None, None)
    return (kind, ... if argument.default is None else argument.default)


PRIOR_MODELS: dict[str, Any] = {
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
    AnyPrior = Annotated[Union[tuple(PRIOR_MODELS.values())], Field(discriminator="dist")]  # noqa: UP007


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


def is_share(prior: Prior) -> bool:
    """Say whether a prior holds numbers between 0 and 1 alone."""
    low, high = getattr(prior, "low", None), getattr(prior, "high", None)
    between = isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= 0 and high <= 1
    return prior.dist in ("Beta", "BetaProportion") or between


def _surely_share(prior: Prior) -> Prior:
    if not is_share(prior):
        what = 'take one on (0, 1), such as { dist = "Beta", concentration1 = 1.0, concentration0 = 9.0 }'
        raise ValueError(f"the prior {prior.dist} reaches beyond 0 to 1 here, where only a share makes sense; {what}")
    return prior


def number_or_prior(value: Any) -> str:
    """Say which of the two a config has."""
    return "prior" if isinstance(value, (dict, Prior)) else "number"


# A number is a fixed value; a table is a prior, and then the value is inferred.
NumberOrPrior = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[AnyPrior, Tag("prior")], Discriminator(number_or_prior)
]
PositivePrior = Annotated[AnyPrior, AfterValidator(_surely_positive)]
SharePrior = Annotated[AnyPrior, AfterValidator(_surely_share)]
PositiveOrPrior = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[PositivePrior, Tag("prior")],
    Discriminator(number_or_prior),
]
