"""The settings of every stage: frozen, checked, and free of JAX, so that a plan or a cache hit is instant.

A config file has one table for each section below. A stage sees only its own slice of them (`SimulateConfig`, ...):
what is not in its slice cannot change its result, and so is not in its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from stages.architectures import ARCHITECTURES, AUTO, CANDIDATES
from stages.priors import PRIORS, Argument
from stages.simulators import SIMULATORS

# Raised when an unchanged config would give other numbers.
VERSIONS = {
    "simulate": 2,
    "dataset": 1,
    "train": 2,
    "infer": 2,
    "check": 2,
    "contrast": 1,
    "calibrate": 1,
    "ranking": 1,
    "curve": 1,
    "tune": 1,
    "sensitivity": 1,
}


class Marker:
    """How a field enters the fingerprint, if not by its value."""


class NotInKey(Marker):
    """The field changes how the work is done and never what comes out (batch size, workers, verbosity)."""


class AddedLater(Marker):
    """The field enters the fingerprint only where it is not at its default, which does what was done before it."""


class InputFile(Marker):
    """The field is the path of a file: its content enters the fingerprint, not its place."""


class Code(Marker):
    """The field is a name from a table or "file.py:Name": for the latter the code enters the fingerprint."""


def _below_config(path: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder", Path.cwd())
    return str((Path(folder) / path).resolve())


def _existing_file(path: str, info: ValidationInfo) -> str:
    full = _below_config(path, info)
    if not Path(full).is_file():
        raise ValueError(f"no such file: {full} (paths are relative to the config file)")
    return full


def _table_or_code(table: Callable[[], Any]) -> Callable[[str, ValidationInfo], str]:
    def check(name: str, info: ValidationInfo) -> str:
        if ":" in name:
            file, _, attribute = name.rpartition(":")
            if not file.endswith(".py") or not attribute.isidentifier():
                raise ValueError(f'got "{name}", expected "file.py:Name"')
            return f"{_existing_file(file, info)}:{attribute}"
        known = sorted(table())
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            raise ValueError(f'got "{name}", expected one of {", ".join(known)}, or "file.py:Name".{hint}')
        return name

    return check


ExistingFile = Annotated[str, AfterValidator(_existing_file), InputFile()]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(given: Any) -> int:
    number, _, unit = given.partition(" ") if isinstance(given, str) else (str(given), "", "")
    try:
        size = float(number) * _UNITS[unit] if unit else int(number)
    except (ValueError, KeyError):
        size = 0
    if size <= 0:
        raise ValueError(f'got {given}, expected a number of bytes, or one with its unit: "2 GB"')
    return int(size)


Memory = Annotated[Any, AfterValidator(_bytes)]


Architecture = Annotated[str, AfterValidator(_table_or_code(lambda: [*ARCHITECTURES, AUTO])), Code()]
Candidate = Annotated[str, AfterValidator(_table_or_code(lambda: ARCHITECTURES)), Code()]


def short_name(architecture: str) -> str:
    """Return the name of an architecture without the folder of a user's own file: "my_net.py:MyNet"."""
    file, colon, name = architecture.rpartition(":")
    return f"{Path(file).name}{colon}{name}"


def _told_apart(names: list[str]) -> list[str]:
    short = [short_name(name) for name in names]
    if twice := sorted({name for name in short if short.count(name) > 1}):
        raise ValueError(f"got {twice[0]} twice, expected names that tell architectures apart")
    return names


Candidates = Annotated[list[Candidate], AfterValidator(_told_apart)]


class Settings(BaseModel):
    """A frozen table of settings: unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class Prior(Settings):
    """One distribution of the table in `stages.priors`, with its arguments."""

    dist: str
    unit: str = ""
    label: str = ""

    @property
    def arguments(self) -> dict[str, float]:
        """The distribution's own arguments, those left out not among them."""
        values = self.model_dump(exclude={"dist", "unit", "label"})
        return {name: value for name, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Prior:
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        if low is not None and high is not None and not low < high:
            raise ValueError(f"got low = {low} and high = {high}, expected low < high")
        if self.dist.startswith("Truncated") and low is None and high is None:
            raise ValueError("expected low, high or both: without them there is nothing to truncate")
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


def _number_or_prior(value: Any) -> str:
    return "prior" if isinstance(value, (dict, Prior)) else "number"


# A number is a fixed value; a table is a prior, and then the value is inferred.
NumberOrPrior = Annotated[
    Annotated[Finite, Tag("number")] | Annotated[AnyPrior, Tag("prior")], Discriminator(_number_or_prior)
]
PositiveOrPrior = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[AnyPrior, Tag("prior")], Discriminator(_number_or_prior)
]
Parameters = dict[str, NumberOrPrior]


class Solver(Settings):
    """How an ODE is solved: a Diffrax solver by its own name, its tolerances, and when to give up."""

    solver: str = "Tsit5"
    rtol: Positive = 1e-6
    atol: Positive = 1e-6
    max_steps: Count = 16384
    dt0: Positive | None = None  # first step (or the step, where `fixed_step`); chosen by the solver if left out
    fixed_step: bool = False

    @model_validator(mode="after")
    def _a_fixed_step_has_a_length(self) -> Solver:
        if self.fixed_step and self.dt0 is None:
            raise ValueError("fixed_step = true needs dt0, the length of the step")
        return self


class Simulate(Settings):
    """Where to simulate, with what, and how many times."""

    simulator: Annotated[str, AfterValidator(_table_or_code(lambda: SIMULATORS)), Code()]
    num_simulations: Count
    design: Literal["sobol", "prior", "latin_hypercube"] = "sobol"
    seed: Seed = 0
    max_failed: Fraction = 0.1
    options: dict[str, Any] = {}
    solver: Solver = Solver()
    retry: Annotated[Solver | None, AddedLater()] = None  # how rows that fail are solved once more
    derivatives: Annotated[bool, AddedLater()] = False  # of the outputs by the free parameters, in every row
    depends_on: list[ExistingFile] = []
    batch_size: Annotated[Count | None, NotInKey()] = None  # lanes, or rows of a block; chosen if left out

    @field_validator("retry", mode="before")
    @classmethod
    def _what_is_left_out_stays(cls, given: Any, info: ValidationInfo) -> Any:
        """Let the keys that [simulate.retry] leaves out be those of [simulate.solver]."""
        solver = info.data.get("solver")
        return solver.model_dump() | given if solver and isinstance(given, dict) else given

    @field_validator("retry")
    @classmethod
    def _a_retry_is_another_way(cls, retry: Solver | None, info: ValidationInfo) -> Solver | None:
        if retry is not None and retry == info.data.get("solver"):
            raise ValueError(
                "got the settings of simulate.solver, with which a row fails again; give more max_steps, or another "
                'solver (a stiff one: "Rodas5P")'
            )
        return retry


Transform = Literal["none", "log", "sqrt", "asinh"]


def _number_or_share(wanted: Any) -> float:
    if type(wanted) is int and wanted > 0:
        return wanted
    if type(wanted) is float and 0 < wanted < 1:
        return wanted
    raise ValueError(f"got {wanted}, expected a number of components (40) or the share of variance to keep (0.9999)")


Components = Annotated[Any, AfterValidator(_number_or_share)]


class Dataset(Settings):
    """How rows become a training set: which are held out, and what is done to each output first."""

    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1  # rows that no network sees
    folds: Annotated[int, Field(ge=2, le=100)] = 5  # network m is stopped by fold m, and trains on the others
    transform: dict[str, Transform] = {}  # per output; "none" where not named
    floor: Positive = 1e-10  # "log" and "sqrt" see no value below it
    # Per output, after its transform: networks learn this many principal components, or as many as keep this share.
    pca: Annotated[dict[str, Components], AddedLater()] = {}
    seed: Seed = 0


class Train(Settings):
    """Which network, how many of them, and how they are trained."""

    architecture: Architecture = "residual"  # or "auto": the best of `candidates`
    candidates: Annotated[Candidates, AddedLater()] = []  # those that suit most problems, if left out
    options: dict[str, Any] = {}  # of this architecture; the next three are of any that has such
    width: Annotated[Count | None, AddedLater()] = None
    depth: Annotated[Count | None, AddedLater()] = None
    activation: Annotated[str | None, AddedLater()] = None
    ensemble_size: Count = 5
    dtype: Literal["float32", "float64"] = "float32"  # of the networks; scaling and likelihood are float64
    optimizer: str = "adam"
    learning_rate: Positive = 3e-3
    schedule: Literal["cosine", "constant", "exponential"] = "cosine"
    optimizer_options: dict[str, Any] = {}
    steps: Count = 5000
    batch_size: Count = 256
    # Rows that take more (in float64) are read from disk while training goes on, in shuffled pieces; no finish then.
    memory: Annotated[Memory, AddedLater()] = 4 * 10**9
    patience: Count = 2000  # steps without a better validation loss before training stops
    finish_steps: Natural = 0  # full-batch quasi-Newton (L-BFGS) steps after it, in float64
    # What an error is measured in: each output's spread, the covariance of all outputs, or the noise that is known.
    loss: Annotated[Literal["scaled", "whitened", "chi_squared"], AddedLater()] = "scaled"
    # Rows whose error is so many times the median's count by it and no longer by its square; 10 if true.
    robust: Annotated[bool | Positive, AddedLater()] = False
    # Of the derivatives' squared error beside that of the values, where rows carry them (simulate.derivatives).
    derivative_weight: Annotated[float, Field(ge=0, allow_inf_nan=False), AddedLater()] = 1.0
    seed: Seed = 0
    depends_on: list[ExistingFile] = []

    def options_for(self, known: Collection[str]) -> dict[str, Any]:
        """Return the options of a network that takes those `known`: `train.width` and its like are only for some."""
        shared = {name: getattr(self, name) for name in ("width", "depth", "activation") if name in known}
        return {name: value for name, value in shared.items() if value is not None} | self.options

    @property
    def chooses(self) -> bool:
        """Whether the best of several architectures is taken."""
        return self.architecture == AUTO

    @property
    def tried(self) -> list[str]:
        """The architectures that are trained: one, or the candidates for being the best."""
        if not self.chooses:
            return [self.architecture]
        return self.candidates or [name for name in CANDIDATES if name in ARCHITECTURES]

    def alone(self, architecture: str, seed: int = 0) -> Train:
        """Return how one architecture is trained, as if the config named it and no other; `options` are one's own."""
        options = self.options if architecture == self.architecture else {}
        changed = {"architecture": architecture, "candidates": [], "options": options, "seed": self.seed + seed}
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _options_are_of_one_architecture(self) -> Train:
        if self.chooses and self.options:
            raise ValueError(
                f'got options {sorted(self.options)} and architecture = "auto", expected options of one architecture: '
                "leave them out (width, depth and activation may stay, as train.width and so on), or name it"
            )
        return self


class Observation(Settings):
    """The data: a CSV file of coordinates and outputs."""

    file: ExistingFile


class Noise(Settings):
    """How data scatter around an output: a family and its arguments, each a number or a prior."""

    dist: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The family's arguments: numbers, priors, and (for a covariance) a file."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "dist"} | (
            self.__pydantic_extra__ or {}
        )


class NormalNoise(Noise):
    """Gaussian; the output is its mean."""

    dist: Literal["Normal"]
    scale: PositiveOrPrior


class LogNormalNoise(Noise):
    """Gaussian in the logarithm; the output is its median."""

    dist: Literal["LogNormal"]
    scale: PositiveOrPrior


class StudentTNoise(Noise):
    """Gaussian with outliers; the output is its centre."""

    dist: Literal["StudentT"]
    df: PositiveOrPrior
    scale: PositiveOrPrior


class PoissonNoise(Noise):
    """Counts; the output is the expected count."""

    dist: Literal["Poisson"]


class NegativeBinomial2Noise(Noise):
    """Counts with more scatter than Poisson: variance = mean + mean^2 / concentration; the output is the mean."""

    dist: Literal["NegativeBinomial2"]
    concentration: PositiveOrPrior | None = None
    inverse_concentration: PositiveOrPrior | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> NegativeBinomial2Noise:
        if (self.concentration is None) == (self.inverse_concentration is None):
            raise ValueError("expected either concentration or inverse_concentration (1 / concentration)")
        return self


class BinomialNoise(Noise):
    """Successes out of total_count; the output divided by `population` is the probability."""

    dist: Literal["Binomial"]
    total_count: Count
    population: Positive = 1.0


class MultivariateNormalNoise(Noise):
    """Gaussian with a covariance matrix from a CSV file, a row for each observed datum; the output is the mean."""

    dist: Literal["MultivariateNormal"]
    covariance: ExistingFile
    offset_scale: Positive | None = None  # sd of an offset common to all these data, integrated over; none if left out


class CustomNoise(Noise):
    """The user's own: a function of the output and these arguments that returns a NumPyro distribution."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NumberOrPrior]
    dist: Annotated[str, AfterValidator(_table_or_code(lambda: NOISE)), Code()]


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


class Infer(Settings):
    """How NumPyro's NUTS draws from the posterior."""

    num_warmup: Count = 1000
    num_samples: Count = 1000  # of each chain
    num_chains: Count = 4
    chain_method: Literal["parallel", "vectorized", "sequential"] = "parallel"
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.8
    dense_mass: bool = True
    max_tree_depth: Count = 10
    likelihood: Literal["emulator", "simulator"] = "emulator"
    emulator_error: Literal["full", "none"] = "full"
    seed: Seed = 0
    depends_on: list[ExistingFile] = []


class Check(Settings):
    """How the posterior is held against the true simulator, and from where on it fails."""

    num_draws: Count = 256
    reweight: bool = False
    max_emulator_error: Positive = 0.5  # 99th percentile over draws and data, in units of the data's sigma
    max_log_ratio: Positive = 0.5  # sd over draws of the log likelihood, by the simulator less by the emulator
    max_k_hat: Positive = 0.7
    min_efficiency: Fraction = 0.5
    max_shift: Positive = 0.2  # of a mean by reweighting, in posterior sd
    max_outside: Fraction = 0.05
    max_edge: Fraction = 0.05
    max_r_hat: Positive = 1.01
    min_ess: Positive = 400.0
    max_divergent: Fraction = 0.005
    min_predictive_p: Fraction = 0.005
    max_scatter_error: Annotated[Positive, AddedLater()] = 0.1  # of a standardised residual's sd, beyond chance
    min_scatter_p: Annotated[Fraction, AddedLater()] = 0.005
    seed: Seed = 0


class Calibrate(Settings):
    """How coverage is tested: data sets simulated from known parameters, each inferred anew."""

    replicates: Annotated[int, Field(ge=20)] = 200
    over: Literal["auto", "prior", "posterior"] = "auto"  # the posterior, where the emulator was refined around it
    num_warmup: Count = 300
    num_samples: Count = 400
    thin: Count = 4
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.99  # of the simultaneous bands that decide
    seed: Seed = 0


class Compare(Settings):
    """Which architectures are held against one another, and how often each of them is trained."""

    architectures: Candidates = []  # the config's own, and those that suit most problems, if left out
    seeds: Count = 3


def _shares(shares: list[float]) -> list[float]:
    if shares and (len(set(shares)) < 3 or not all(0 < share <= 1 for share in shares)):
        raise ValueError(f"got {shares}, expected three or more shares of the rows, above 0 and up to 1")
    return sorted(set(shares))


class Curve(Settings):
    """Which shares of the simulations to train on, how often, and the error to reach."""

    shares: Annotated[list[float], AfterValidator(_shares)] = []  # 1/8, 1/4, 1/2 and 1, those of 20 rows or more
    seeds: Count = 1
    target: Positive | None = None  # 99th percentile, in data sigma; `check.max_emulator_error` if left out


class Tune(Settings):
    """How settings of the training are searched for."""

    trials: Annotated[Count, NotInKey()] = 40  # those of an earlier search count
    seed: Seed = 0


def _power_of_two(count: int) -> int:
    if count & (count - 1):
        near = 2 ** round(log2(count))
        raise ValueError(f"got {count}, expected a power of two, which Sobol's sequence is balanced at; take {near}")
    return count


class Sensitivity(Settings):
    """How each output's variance over the prior is shared out among the parameters."""

    num_points: Annotated[int, Field(ge=64), AfterValidator(_power_of_two)] = (
        4096  # evaluations are 2 + parameters times it
    )
    scale: Literal["transformed", "natural"] = "transformed"  # whose variance: as dataset.transform has it, or in units
    num_resamples: Annotated[int, Field(ge=20)] = 200  # of the bootstrap
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95  # of the intervals
    seed: Seed = 0


class Refine(Settings):
    """Further rounds: simulate where the last round's posterior is, and train again."""

    max_rounds: Annotated[int, Field(ge=0), NotInKey()] = 0  # how far to go changes no round
    simulations_per_round: Count = 200
    stretch: Positive = 1.5  # of the posterior about its median
    keep: Count | None = None  # train on this many rows closest to the data, at least; on all if left out


class Slice(Settings):
    """The part of a problem that one stage sees."""


class SimulateConfig(Slice):
    """What `simulate` sees in round 0, where the design covers the prior."""

    parameters: Parameters
    simulate: Simulate


class RefineConfig(Slice):
    """What `simulate` sees in a later round, where the design follows the last posterior."""

    parameters: Parameters
    simulate: Simulate
    refine: Refine
    round: int


class DatasetConfig(Slice):
    """What `dataset` sees in round 0."""

    dataset: Dataset


class SelectConfig(Slice):
    """What `dataset` sees in a later round, where rows far from the data may be left out."""

    dataset: Dataset
    refine: Refine
    observation: Observation
    noise: dict[str, AnyNoise]


class TrainConfig(Slice):
    """What `train` sees; the noise only where its loss is in units of it."""

    train: Train
    fraction: Annotated[float, Field(gt=0, le=1), AddedLater()] = 1.0  # of the rows, the first ones
    failed: Annotated[dict[str, str], NotInKey()] = {}  # candidates that could not be trained, and why
    noise: Annotated[dict[str, AnyNoise], AddedLater()] = {}


class LikelihoodConfig(Slice):
    """What a likelihood is made of; the architecture says where a user's own network is to be loaded from."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []  # a user's own, among which the best was chosen
    exact: SimulateConfig | None = None  # where the simulator itself is the likelihood
    observation: Observation
    noise: dict[str, AnyNoise]
    infer: Infer


class InferConfig(LikelihoodConfig):
    """What `infer` sees."""


class CheckConfig(LikelihoodConfig):
    """What `check` sees."""

    parameters: Parameters
    simulate: Simulate
    check: Check
    round: Annotated[int, NotInKey()] = 0  # told apart by the inputs


class ContrastConfig(Slice):
    """What `contrast` sees."""

    parameters: Parameters


class CalibrateConfig(LikelihoodConfig):
    """What `calibrate` sees."""

    parameters: Parameters
    simulate: Simulate
    refined: bool  # whether the emulator was refined around the data
    calibrate: Calibrate


class RankingConfig(Slice):
    """What `ranking` sees."""

    candidates: Candidates  # each an input by its short name, trained from one seed after another
    observation: Observation
    noise: dict[str, AnyNoise]
    limit: float  # of the emulator's error: `check.max_emulator_error`
    failed: Annotated[dict[str, str], NotInKey()] = {}  # candidates that could not be trained, and why


class CurveConfig(Slice):
    """What `curve` sees."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []
    parts: list[str]  # shares of the rows, each an input of this name
    num_simulations: int
    observation: Observation
    noise: dict[str, AnyNoise]
    target: float
    failed: Annotated[dict[str, str], NotInKey()] = {}  # shares that could not be trained on, and why


class TuneConfig(Slice):
    """What `tune` sees."""

    train: Train
    tune: Tune


class SensitivityConfig(Slice):
    """What `sensitivity` sees; the architecture says where a user's own network is to be loaded from."""

    architecture: Architecture
    candidates: Annotated[Candidates, AddedLater()] = []
    sensitivity: Sensitivity


class ProblemConfig(Settings):
    """A whole config file: one inference problem."""

    parameters: Annotated[Parameters, Field(min_length=1)]
    simulate: Simulate
    dataset: Dataset = Dataset()
    train: Train = Train()
    observation: Observation
    noise: Annotated[dict[str, AnyNoise], Field(min_length=1)]
    infer: Infer = Infer()
    check: Check = Check()
    refine: Refine = Refine()
    calibrate: Calibrate = Calibrate()
    compare: Compare = Compare()
    curve: Curve = Curve()
    tune: Tune = Tune()
    sensitivity: Sensitivity = Sensitivity()

    @model_validator(mode="after")
    def _something_to_infer(self) -> ProblemConfig:
        if not any(isinstance(value, Prior) for value in self.parameters.values()):
            raise ValueError("parameters: every one is a fixed number; give at least one a prior")
        return self

    def slice(self, kind: type[Slice], **more: Any) -> Slice:
        """Return the part of this problem that `kind` names; `more` gives the fields that are not sections."""
        sections = {name: getattr(self, name) for name in kind.model_fields if name not in more}
        return kind(**sections, **more)
