"""The families of noise: how data scatter around an output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import ConfigDict, Discriminator, Tag, model_validator

from simfer.stages.settings.fields import Code, Count, ExistingFile, Positive, Settings, Unit
from simfer.stages.settings.priors import NumberOrPrior, PositiveOrPrior


class Noise(Settings):
    """How data scatter around an output: a family and its arguments, each a number or a prior."""

    dist: str
    """A family (`simfer list noise`), or your own function in a file beside the config."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The family's arguments: numbers, priors, and (for a covariance) a file."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "dist"} | (
            self.__pydantic_extra__ or {}
        )


class NormalNoise(Noise):
    """Gaussian; the output is its mean."""

    dist: Literal["Normal"]
    scale: Annotated[PositiveOrPrior, Unit("of the output")]
    """Standard deviation, or a prior for it."""


class LogNormalNoise(Noise):
    """Gaussian in the logarithm; the output is its median."""

    dist: Literal["LogNormal"]
    scale: PositiveOrPrior
    """Standard deviation of the logarithm, or a prior for it."""


class StudentTNoise(Noise):
    """Gaussian with outliers; the output is its centre."""

    dist: Literal["StudentT"]
    df: PositiveOrPrior
    """Degrees of freedom: the fewer, the heavier the tails."""
    scale: Annotated[PositiveOrPrior, Unit("of the output")]
    """Width of the middle, or a prior for it."""


class PoissonNoise(Noise):
    """Counts; the output is the expected count."""

    dist: Literal["Poisson"]


class NegativeBinomial2Noise(Noise):
    """Counts with more scatter than Poisson: variance = mean + mean^2 / concentration; the output is the mean."""

    dist: Literal["NegativeBinomial2"]
    concentration: PositiveOrPrior | None = None
    """Large is close to Poisson; give it or its inverse."""
    inverse_concentration: PositiveOrPrior | None = None
    """1 / concentration: 0 is Poisson."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> NegativeBinomial2Noise:
        if (self.concentration is None) == (self.inverse_concentration is None):
            raise ValueError("expected either concentration or inverse_concentration (1 / concentration)")
        return self


class BinomialNoise(Noise):
    """Successes out of total_count; the output divided by `population` is the probability."""

    dist: Literal["Binomial"]
    total_count: Annotated[Count, Unit("trials")]
    """Trials behind each datum."""
    population: Annotated[Positive, Unit("of the output")] = 1.0
    """What the output is divided by to be a probability."""


class MultivariateNormalNoise(Noise):
    """Gaussian with a covariance matrix from a CSV file, a row for each observed datum; the output is the mean."""

    dist: Literal["MultivariateNormal"]
    covariance: ExistingFile
    """A CSV file without a header: the covariance matrix, a row for each observed datum."""
    offset_scale: Annotated[Positive | None, Unit("of the output")] = None
    """Standard deviation of an offset common to all these data, integrated over; none if left out."""


class CustomNoise(Noise):
    """The user's own: a function of the output and these arguments that returns a NumPyro distribution."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NumberOrPrior]
    dist: Annotated[str, Code(tuple)]
    """Your own function in a file beside the config: "file.py:name"."""


NOISE: dict[str, type[Noise]] = {
    model.__name__.removesuffix("Noise"): model
    for model in (
        NormalNoise,
        LogNormalNoise,
        StudentTNoise,
        PoissonNoise,
        NegativeBinomial2Noise,
        BinomialNoise,
        MultivariateNormalNoise,
    )
}


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
