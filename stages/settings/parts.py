"""Numbers of a vector with a joint prior: each has a distribution given those before it (Rosenblatt 1952)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from simfer.stages.settings.fields import Count, Finite, Natural, Positive, Settings
from simfer.stages.settings.priors import AnyPrior, Prior


class Part(Prior):
    """One number of a vector, or of several parameters with a joint prior, given those before it."""

    after: list[str] = []
    """Those before it, in their order."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The other quantities that it depends on."""
        return tuple(self.after)

    @property
    def stands_alone(self) -> bool:
        """Whether it is a distribution of its own: no, also the first one is not."""
        return False

    @property
    def arguments(self) -> dict[str, Any]:
        """Its own numbers, for what describes it."""
        own = self.model_dump(exclude={"dist", "unit", "label", "periodic", "edge", "after", "base", "margins"})
        return {name: value for name, value in own.items() if isinstance(value, (int, float))}


class DirichletPart(Part):
    """A share, of what those before it leave of one: that times a Beta."""

    dist: Literal["DirichletPart"]
    concentration1: Positive
    """Of this share."""
    concentration0: Positive
    """Of all shares after it."""


def _alone(prior: Prior) -> Prior:
    if prior.periodic:
        raise ValueError("numbers on a circle have no order")
    return prior


class OrderedPart(Part):
    """The next larger one of some numbers, each of which has the prior `base`."""

    dist: Literal["OrderedPart"]
    base: Annotated[AnyPrior, AfterValidator(_alone)]
    """The prior that each would have alone."""
    left: Count
    """How many of them there are from here on."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The other quantities that it depends on: the one before it, and those that the prior names."""
        return tuple(dict.fromkeys([*self.after, *self.base.needs]))


class LKJPart(Part):
    """A correlation, given those of the rows above and to the left of it."""

    dist: Literal["LKJPart"]
    concentration: Positive
    """Of all correlations: 1 is flat over correlation matrices."""
    dimension: Count
    """Of the matrix."""
    row: Natural
    """Where it is, below the diagonal."""
    column: Natural
    """Where it is, below the diagonal."""


class Margin(Settings):
    """A marginal of draws: quantiles at standard normal scores from -4 to 4."""

    knots: list[Finite]
    """The quantiles, the logarithms of what they are above `low`, or the logits of where they are between bounds."""
    low: Finite | None = None
    """Below it there is nothing."""
    high: Finite | None = None
    """Above it there is nothing."""


class EarlierPart(Part):
    """A quantity of an earlier posterior, given those before it by a Gaussian copula."""

    dist: Literal["EarlierPart"]
    margins: list[Margin]
    """Those of the quantities before it, and its own."""
    gain: list[Finite]
    """By how much its score moves with each of those before it."""
    scale: Positive
    """The standard deviation of its score, given those before it."""


PARTS: tuple[type[Part], ...] = (DirichletPart, OrderedPart, LKJPart, EarlierPart)
