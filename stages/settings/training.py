"""How rows become a training set, and a training set an emulator."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from simfer.stages.settings.fields import (
    AddedLater,
    Code,
    Count,
    ExistingFile,
    Memory,
    Natural,
    NotInKey,
    Positive,
    Seed,
    Settings,
    Unit,
)
from simfer.stages.settings.names import ARCHITECTURES, AUTO, CANDIDATES, SEEDLESS

Architecture = Annotated[str, Code(lambda: [*ARCHITECTURES, AUTO])]
Candidate = Annotated[str, Code(lambda: ARCHITECTURES)]

_FEW_ROWS = 100  # which no optimizer fits badly


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


Transform = Literal["none", "log", "sqrt", "asinh"]


def _number_or_share(wanted: Any) -> float:
    if type(wanted) is int and wanted > 0:
        return wanted
    if type(wanted) is float and 0 < wanted < 1:
        return wanted
    raise ValueError(f"got {wanted}, expected a number of components (40) or the share of variance to keep (0.9999)")


_NUMBER_OR_SHARE = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]
}
Components = Annotated[Any, AfterValidator(_number_or_share), WithJsonSchema(_NUMBER_OR_SHARE)]


class Dataset(Settings):
    """How rows become a training set: which are held out, and what is done to each output first."""

    test_fraction: Annotated[float, Field(gt=0, lt=0.5), Unit("share")] = 0.1
    """Share of the rows that no network sees: the emulator's error is measured on them."""
    folds: Annotated[int, Field(ge=2, le=100), Unit("parts")] = 5
    """Parts of the training rows; network m is stopped by part m, and trains on the others."""
    transform: dict[str, Transform] = {}
    """By output, what networks learn in its place; "none" where not named."""
    floor: Annotated[Positive, Unit("of the output")] = 1e-10
    """Smallest value that "log" and "sqrt" see; the default shrinks with outputs that stay below 1e-3."""
    pca: Annotated[dict[str, Components], AddedLater()] = {}
    """By output, after its transform: how many principal components are learnt, or the share of variance they keep."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""


class Flow(Settings):
    """The normalizing flow of a random simulator whose scatter is not Gaussian (`train.scatter`)."""

    layers: Count = 3
    """Layers of splines, the outputs in another order in each."""
    width: Annotated[Count, Unit("units")] = 48
    """Units of the network that gives a layer its splines."""
    bins: Annotated[int, Field(ge=2)] = 8
    """Pieces of a spline."""
    steps: Annotated[Count, Unit("steps")] = 2000
    """Gradient steps at most."""
    learning_rate: Positive = 2e-3
    """Learning rate at its highest."""


class Train(Settings):
    """Which network, how many of them, and how they are trained."""

    architecture: Architecture = "residual"
    """A name (`simfer list architectures`), your own class in a file, or "auto", the best of `candidates`."""
    candidates: Annotated[Candidates, AddedLater()] = []
    """What "auto" chooses from; those that suit most problems, if left out."""
    options: dict[str, Any] = {}
    """Arguments of this architecture's own; the next three are of any that has such."""
    width: Annotated[Annotated[Count, Field(le=100_000)] | None, AddedLater(), Unit("units")] = None
    """Units of a layer."""
    depth: Annotated[Annotated[Count, Field(le=1000)] | None, AddedLater(), Unit("layers")] = None
    """Layers, or blocks of them."""
    activation: Annotated[str | None, AddedLater()] = None
    """What a unit does: "learned" by each for itself, "silu", "gelu", "softplus" or "tanh"."""
    ensemble_size: Annotated[Count, Field(le=1000), Unit("networks")] = 5
    """Networks that are trained; how far they differ is a part of the emulator's error."""
    dtype: Literal["float32", "float64"] = "float32"
    """Numbers of the networks while they train; scaling and likelihood are float64."""
    optimizer: str | None = None
    """One of Optax's, by its own name; if left out "muon", but "adam" for fewer than 100 rows, a random simulator, or a
    learning rate that is given alone."""
    learning_rate: Positive | None = None
    """Learning rate at its highest; 2e-2 with "muon" and 1e-2 with any other, if left out."""
    schedule: Literal["cosine", "constant", "exponential"] = "cosine"
    """How the learning rate falls; "cosine" has a short warm-up."""
    optimizer_options: dict[str, Any] = {}
    """The optimizer's own arguments, beside its learning rate."""
    steps: Annotated[Count, Unit("steps")] = 5000
    """Gradient steps at most."""
    batch_size: Annotated[Count | None, Unit("rows")] = None
    """Rows of a gradient step; 64 with "muon" and 256 with any other, if left out."""
    memory: Annotated[Memory, AddedLater(), Unit("bytes")] = 4 * 10**9
    """Rows that take more (in float64) are read from disk in shuffled pieces while training goes on; no finish then."""
    patience: Annotated[Count, Unit("steps")] = 2000
    """Steps without a better validation loss before training stops."""
    finish_steps: Annotated[Natural, Unit("steps")] = 0
    """Quasi-Newton steps (L-BFGS) on all rows at the end, in float64."""
    loss: Annotated[Literal["scaled", "whitened", "chi_squared"], AddedLater()] = "scaled"
    """What an error is measured in: each output's spread, the covariance of all outputs, or a noise that is known."""
    robust: Annotated[bool | Positive, AddedLater(), Unit("times the median")] = False
    """Rows whose error is so many times the median's count by it and no longer by its square; true is 10.

    Training is always stopped so: a single wild row would otherwise choose the weights that are kept.
    """
    derivative_weight: Annotated[float, Field(ge=0, allow_inf_nan=False), AddedLater()] = 1.0
    """Weight of the derivatives' squared error beside the values', where rows carry them (`simulate.derivatives`)."""
    scatter: Annotated[Literal["gaussian", "flow", "auto"], AddedLater()] = "gaussian"
    """Random simulators: how data scatter at given parameters. A Gaussian; any shape, learned by a normalizing flow; or
    ("auto") a flow where rows that were not trained on show that the scatter is not Gaussian."""
    flow: Annotated[Flow, AddedLater()] = Flow()
    """The flow, where there is one."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""
    depends_on: list[ExistingFile] = []
    """Files that your own code depends on beyond what its imports show: when one changes, so does the result."""

    def options_for(self, known: Collection[str]) -> dict[str, Any]:
        """Return the options of a network that takes those `known`: `train.width` and its like are only for some."""
        shared = {name: getattr(self, name) for name in ("width", "depth", "activation") if name in known}
        return {name: value for name, value in shared.items() if value is not None} | self.options

    def descending(self, num_rows: int, random: bool = False) -> Train:
        """Return how so many rows are descended on: the optimizer, its rate and its batch, each as it is if left out.

        Muon leaves half of Adam's error or less where that is one of fitting (docs/measured.md). Of few rows it is not,
        and of random outputs Adam in larger batches is what has been tried.
        """
        by_adam = self.learning_rate is not None or random or num_rows < _FEW_ROWS
        optimizer = self.optimizer or ("adam" if by_adam else "muon")
        rate, batch = (2e-2, 64) if optimizer == "muon" else (1e-2, 256)
        rate, batch = self.learning_rate or rate, self.batch_size or batch
        return self.model_copy(update={"optimizer": optimizer, "learning_rate": rate, "batch_size": batch})

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

    def seeds(self, most: int) -> range:
        """Return the seeds, beside the config's own, that are worth training from: where nothing is drawn only one."""
        return range(most if set(self.tried) - set(SEEDLESS) else 1)

    def alone(self, architecture: str, seed: int = 0) -> Train:
        """Return how one architecture is trained, as if the config named it and no other; `options` are one's own."""
        options = self.options if architecture == self.architecture else {}
        seed = self.seed + (0 if architecture in SEEDLESS else seed)
        changed = {"architecture": architecture, "candidates": [], "options": options, "seed": seed}
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _options_are_of_one_architecture(self) -> Train:
        if self.chooses and self.options:
            raise ValueError(
                f'got options {sorted(self.options)} and architecture = "auto", expected options of one architecture: '
                "leave them out (width, depth and activation may stay, as train.width and so on), or name it"
            )
        return self


class Compare(Settings):
    """Which architectures are held against one another, and how often each of them is trained."""

    architectures: Candidates = []
    """What is compared; the config's own and those that suit most problems, if left out."""
    seeds: Annotated[Count, Unit("trainings")] = 3
    """How often each is trained; one that is fitted in closed form draws nothing, and is fitted once."""


def _shares(shares: list[float]) -> list[float]:
    if shares and (len(set(shares)) < 3 or not all(0 < share <= 1 for share in shares)):
        raise ValueError(f"got {shares}, expected three or more shares of the rows, above 0 and up to 1")
    return sorted(set(shares))


class Curve(Settings):
    """Which shares of the simulations to train on, how often, and the error to reach."""

    shares: Annotated[list[float], AfterValidator(_shares), Unit("share")] = []
    """Shares of the simulations to train on; 1/8, 1/4, 1/2 and 1, those of 20 rows or more, if left out."""
    seeds: Annotated[Count, Unit("trainings")] = 1
    """How often each share is trained on; once where all is fitted in closed form, which draws nothing."""
    target: Annotated[Positive | None, Unit("data sigma")] = None
    """The error to reach, 99th percentile; `check.max_emulator_error` if left out."""


class Tune(Settings):
    """How settings of the training are searched for."""

    trials: Annotated[Count, NotInKey(), Unit("trials")] = 40
    """Trainings to try, those of an earlier search counted."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""
