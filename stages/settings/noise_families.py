"""The families of noise: how data scatter around an output, with what each family takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, model_validator

from simfer.stages.settings.arguments import (
    Argument,
    CountArgument,
    Limit,
    PositiveArgument,
    ShareArgument,
)
from simfer.stages.settings.fields import Code, Positive, Settings, TableFile, Unit


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
    """Gaussian with a covariance matrix from a CSV file, of one output or of several; the output is the mean."""

    dist: Literal["MultivariateNormal"]
    covariance: TableFile
    """A CSV file: a row for each datum in the data's order, or with a header (`output`, coordinates, a name a row).

    With a header, rows are found by output and coordinates, and outputs that name the same file scatter together.
    """
    offset_scale: Annotated[Positive | None, Unit("of the output")] = None
    """Standard deviation of an offset common to all these data, integrated over; none if left out."""


class CustomNoise(Noise):
    """The user's own: a function of the output and these arguments that returns a NumPyro distribution."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Argument]
    dist: Annotated[str, Code(tuple)]
    """Your own function in a file beside the config: "file.py:name"."""


class TruncatedNoise(Noise):
    """A family of which data beyond a limit are not on record at all: nobody knows how many there were."""

    low: Annotated[Limit | None, Unit("of the data")] = None
    """Below it no datum is recorded: a number, or a column; none if left out."""
    high: Annotated[Limit | None, Unit("of the data")] = None
    """Above it no datum is recorded: a number, or a column; none if left out."""

    @model_validator(mode="after")
    def _a_limit(self) -> TruncatedNoise:
        low, high = self.low, self.high
        if low is None and high is None:
            raise ValueError("expected low, high or both: without them there is nothing to truncate")
        if isinstance(low, float) and isinstance(high, float) and not low < high:
            raise ValueError(f"got low = {low:g} and high = {high:g}, expected low < high")
        return self


class TruncatedNormalNoise(TruncatedNoise, NormalNoise):
    """Gaussian about the output, without what lies beyond low or high."""

    dist: Literal["TruncatedNormal"]  # type: ignore[assignment]


class TruncatedLogNormalNoise(TruncatedNoise, LogNormalNoise):
    """Gaussian in the logarithm about the output, without what lies beyond low or high."""

    dist: Literal["TruncatedLogNormal"]  # type: ignore[assignment]


class TruncatedStudentTNoise(TruncatedNoise, StudentTNoise):
    """Student's t about the output, without what lies beyond low or high."""

    dist: Literal["TruncatedStudentT"]  # type: ignore[assignment]


class TruncatedPoissonNoise(TruncatedNoise, PoissonNoise):
    """Poisson counts about the output, without those beyond low or high: low = 1 where zeros are not on record."""

    dist: Literal["TruncatedPoisson"]  # type: ignore[assignment]


class TruncatedNegativeBinomial2Noise(TruncatedNoise, NegativeBinomial2Noise):
    """Negative binomial counts about the output, without those beyond low or high."""

    dist: Literal["TruncatedNegativeBinomial2"]  # type: ignore[assignment]


class TruncatedBinomialNoise(TruncatedNoise, BinomialNoise):
    """Binomial counts, the output over `population` their probability, without those beyond low or high."""

    dist: Literal["TruncatedBinomial"]  # type: ignore[assignment]


class ZeroInflatedNoise(Noise):
    """A family of counts of which some are zero for another reason."""

    gate: ShareArgument
    """Share of data that are zero whatever the output is, or a prior for it."""


class ZeroInflatedPoissonNoise(ZeroInflatedNoise, PoissonNoise):
    """Poisson counts about the output, a share `gate` of them zero instead."""

    dist: Literal["ZeroInflatedPoisson"]  # type: ignore[assignment]


class ZeroInflatedNegativeBinomial2Noise(ZeroInflatedNoise, NegativeBinomial2Noise):
    """Negative binomial counts about the output, a share `gate` of them zero instead."""

    dist: Literal["ZeroInflatedNegativeBinomial2"]  # type: ignore[assignment]


class ZeroInflatedBinomialNoise(ZeroInflatedNoise, BinomialNoise):
    """Binomial counts, the output over `population` their probability, a share `gate` of them zero instead."""

    dist: Literal["ZeroInflatedBinomial"]  # type: ignore[assignment]


class NoiseWithOutliers(Noise):
    """A family of which some data are outliers: wider by far, about the same output."""

    outlier_share: ShareArgument
    """Share of outliers among the data, or a prior for it."""
    outlier_scale: PositiveArgument
    """What outliers scatter beyond the others, added to `scale` in quadrature, or a prior for it."""


class NormalWithOutliersNoise(NoiseWithOutliers, NormalNoise):
    """Gaussian about the output, but for a share of outliers about it."""

    dist: Literal["NormalWithOutliers"]  # type: ignore[assignment]


class LogNormalWithOutliersNoise(NoiseWithOutliers, LogNormalNoise):
    """Gaussian in the logarithm about the output, but for a share of outliers about it."""

    dist: Literal["LogNormalWithOutliers"]  # type: ignore[assignment]
