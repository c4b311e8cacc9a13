"""The families of noise: how data scatter around an output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args

from pydantic import ConfigDict, Discriminator, Tag, model_validator

from simfer.stages.settings.arguments import Argument, Column, CountArgument, PositiveArgument
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.fields import Code, Positive, Settings, TableFile, Unit
from simfer.stages.settings.priors import Prior


class Noise(Settings):
    """How data scatter around an output: a family and its arguments.

    An argument is a number, a prior, a column of the data, the name of a shared one, or a formula of such.
    """

    dist: str
    """A family (`simfer list noise`), or your own function in a file beside the config."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The family's arguments; of a covariance, the file."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "dist"} | (
            self.__pydantic_extra__ or {}
        )


class NoNoise(Noise):
    """Nothing is added by measuring; a datum is the output itself, of a random simulator."""

    dist: Literal["none"]


class NormalNoise(Noise):
    """Gaussian; the output is its mean."""

    dist: Literal["Normal"]
    scale: Annotated[PositiveArgument, Unit("of the output")]
    """Standard deviation, or a prior for it."""


class LogNormalNoise(Noise):
    """Gaussian in the logarithm; the output is its median."""

    dist: Literal["LogNormal"]
    scale: PositiveArgument
    """Standard deviation of the logarithm, or a prior for it."""


class StudentTNoise(Noise):
    """Gaussian with outliers; the output is its centre."""

    dist: Literal["StudentT"]
    df: PositiveArgument
    """Degrees of freedom: the fewer, the heavier the tails."""
    scale: Annotated[PositiveArgument, Unit("of the output")]
    """Width of the middle, or a prior for it."""


class PoissonNoise(Noise):
    """Counts; the output is the expected count."""

    dist: Literal["Poisson"]


class NegativeBinomial2Noise(Noise):
    """Counts with more scatter than Poisson: variance = mean + mean^2 / concentration; the output is the mean."""

    dist: Literal["NegativeBinomial2"]
    concentration: PositiveArgument | None = None
    """Large is close to Poisson; give it or its inverse."""
    inverse_concentration: PositiveArgument | None = None
    """1 / concentration: 0 is Poisson."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> NegativeBinomial2Noise:
        if (self.concentration is None) == (self.inverse_concentration is None):
            raise ValueError("expected either concentration or inverse_concentration (1 / concentration)")
        return self


class BinomialNoise(Noise):
    """Successes out of total_count; the output divided by `population` is the probability."""

    dist: Literal["Binomial"]
    total_count: Annotated[CountArgument, Unit("trials")]
    """Trials behind each datum."""
    population: Annotated[Positive, Unit("of the output")] = 1.0
    """What the output is divided by to be a probability."""


class MultivariateNormalNoise(Noise):
    """Gaussian with a covariance matrix from a CSV file, a row for each observed datum; the output is the mean."""

    dist: Literal["MultivariateNormal"]
    covariance: TableFile
    """A CSV file without a header: the covariance matrix, a row for each observed datum."""
    offset_scale: Annotated[Positive | None, Unit("of the output")] = None
    """Standard deviation of an offset common to all these data, integrated over; none if left out."""


class CustomNoise(Noise):
    """The user's own: a function of the output and these arguments that returns a NumPyro distribution."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Argument]
    dist: Annotated[str, Code(tuple)]
    """Your own function in a file beside the config: "file.py:name"."""


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
    )
}


COUNTS = frozenset({"Poisson", "NegativeBinomial2", "Binomial"})  # whose data are whole numbers: they have no density


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
    """Return the arguments that a distribution takes, those left out not among them; a covariance is not of these."""
    if isinstance(noise, MultivariateNormalNoise):
        return {}
    return {key: value for key, value in noise.arguments.items() if value is not None}


def names_used(output: str, noise: Noise) -> list[str]:
    """List what the arguments name beside the output itself: shared quantities, or columns of the data."""
    formulas = [parse(value) for value in arguments(noise).values() if isinstance(value, str)]
    columns = [value.column for value in arguments(noise).values() if isinstance(value, Column)]
    named = [name for formula in formulas for name in formula.names if name != output]
    return list(dict.fromkeys([*columns, *named]))
