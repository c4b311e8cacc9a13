"""How the posterior is drawn, held against the simulator, and asked what it rests on."""

from __future__ import annotations

from math import log2
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from simfer.stages.settings.fields import AddedLater, Count, ExistingFile, Fraction, Positive, Seed, Settings


class Observation(Settings):
    """The data: a CSV file of coordinates and outputs."""

    file: ExistingFile


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

    num_draws: Annotated[int, Field(ge=25)] = 256  # with fewer, weights have no tail to smooth
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
