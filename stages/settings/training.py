"""How rows become a training set, and a training set an emulator."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

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
    table_or_code,
)
from simfer.stages.settings.names import ARCHITECTURES, AUTO, CANDIDATES

Architecture = Annotated[str, AfterValidator(table_or_code(lambda: [*ARCHITECTURES, AUTO])), Code()]
Candidate = Annotated[str, AfterValidator(table_or_code(lambda: ARCHITECTURES)), Code()]


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
    learning_rate: Positive = 1e-2
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
    # Rows whose error is so many times the median's count by it and no longer by its square; 10 if true. Training is
    # always stopped so: a single wild row would otherwise choose the weights that are kept.
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
