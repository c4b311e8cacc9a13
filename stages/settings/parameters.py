"""The simulator's parameters: numbers, priors, and numbers of vectors, none before those that it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import AfterValidator, Discriminator, Field, Tag

from simfer.stages.errors import did_you_mean
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.fields import Finite
from simfer.stages.settings.parts import PARTS
from simfer.stages.settings.priors import PRIOR_MODELS, Prior, number_or_prior

if TYPE_CHECKING:
    AnyPriorOrPart = Prior
else:
    AnyPriorOrPart = Annotated[Union[(*PRIOR_MODELS.values(), *PARTS)], Field(discriminator="dist")]

_KINDS: dict[str, type[Prior]] = PRIOR_MODELS | {part.__name__: part for part in PARTS}
_Parameter = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[AnyPriorOrPart, Tag("prior")], Discriminator(number_or_prior)
]


def _in_an_order(parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse priors that name what there is not, or one another in a circle."""
    for name, prior in parameters.items():
        if isinstance(prior, Prior):
            _refuse_unknown(name, prior, parameters)
    order(parameters)
    return parameters


def _refuse_unknown(name: str, prior: Prior, parameters: Mapping[str, Any]) -> None:
    known = [other for other in parameters if other != name]
    for key, value in prior.arguments.items():
        unknown = [used for used in parse(value).names if used not in known] if isinstance(value, str) else []
        if unknown:
            what = f"expected a number, or a formula of other parameters.{did_you_mean(unknown[0], known)}"
            raise ValueError(f'{name}.{key}: got "{value}", {what}')


def order(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names so that each prior follows those that it names; raise ValueError where there is a circle."""
    done: list[str] = []
    waiting = {name: set(value.needs) if isinstance(value, Prior) else set() for name, value in parameters.items()}
    while waiting:
        free = [name for name, needs in waiting.items() if needs.issubset(done)]
        if not free:
            raise ValueError(f"the priors of {', '.join(waiting)} name one another in a circle; one must come first")
        done += free
        waiting = {name: needs for name, needs in waiting.items() if name not in done}
    return done


Parameters = Annotated[dict[str, _Parameter], AfterValidator(_in_an_order)]


def prior_of(table: Mapping[str, Any]) -> Prior:
    """Return a prior, or a part of a joint one, from what `model_dump` made of it.

    Its class's own validator reads it: one for all classes takes Pydantic a third of a second to build.
    """
    return _KINDS[table["dist"]].model_validate(table)
