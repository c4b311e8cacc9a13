"""How the posterior is drawn, held against the simulator, and asked what it rests on."""

from __future__ import annotations

from math import log2
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from simfer.stages.settings.fields import (
    AddedLater,
    Code,
    Count,
    ExistingFile,
    Fraction,
    NotInKey,
    OpenFraction,
    Positive,
    ReadLater,
    Seed,
    Settings,
    Unit,
)

HANDED = 1000  # draws of each chain, the first ones, that later rounds and the check's simulations are made of


_ACCEPT, _KNOWN, _BOLD = 0.8, 0.85, 0.65  # where nothing is known, where the metric is, and of one like a Gaussian


class Infer(Settings):
    """How the posterior is drawn from."""

    sampler: Annotated[Literal["nuts", "smc", "auto"], AddedLater()] = "auto"
    """What draws: NumPyro's NUTS; a tempered population from prior to posterior, which finds separate modes and their
    weights (`smc`); or NUTS where that population lies in one place and NUTS converges, and the population elsewhere
    (`auto`)."""
    num_warmup: Annotated[Count, Unit("draws")] = 1000
    """Draws in which each chain adapts; they are dropped. At most 200 where a population says where to begin and how
    wide the posterior is (`auto`)."""
    num_samples: Annotated[Count, Unit("draws")] = 1000
    """Draws that each chain keeps."""
    max_samples: Annotated[Count | None, NotInKey(), Unit("draws")] = None
    """Draws of each chain at most: where R-hat or the effective sample size alone fail, chains go on, twice as long
    each time; four times num_samples if left out."""
    num_chains: Annotated[Count, Unit("chains")] = 4
    """Chains, each from a start of its own."""
    chain_method: Literal["parallel", "vectorized", "sequential"] = "parallel"
    """How chains run: side by side (in threads; on an accelerator as one array), as one array, or one after another."""
    target_accept: Annotated[OpenFraction | None, Unit("probability")] = None
    """Acceptance probability that the step is adapted to; raise it where transitions diverge. If left out it is 0.85
    where a population says how wide the posterior is (`auto`), and 0.65 where that is like a Gaussian: fewer leaps, as
    many effective draws. Where nothing is known it is 0.8, which NumPyro's adaptation mostly exceeds."""
    dense_mass: bool = True
    """Whether the mass matrix knows correlations."""
    max_tree_depth: Annotated[Count, Unit("doublings")] = 10
    """Doublings of a trajectory at most: 2^10 leapfrog steps."""
    likelihood: Literal["emulator", "simulator"] = "emulator"
    """What stands in the likelihood: the emulator, or the simulator itself."""
    model: Annotated[str, Code(tuple), AddedLater()] = ""
    """Your own NumPyro model, "file.py:function", in the place of [noise]: `function(simulate, data)` samples what it
    likes, calls `simulate(parameters)` and observes."""
    emulator_error: Literal["full", "none"] = "full"
    """Whether the emulator's error is a part of the likelihood."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""
    depends_on: list[ExistingFile] = []
    """Files that your own code depends on beyond what its imports show: when one changes, so does the result."""

    def accept(self, like_gaussian: bool | None = None) -> float:
        """Return the acceptance probability that steps are adapted to; nothing is known of the posterior by default."""
        by_itself = _ACCEPT if like_gaussian is None else _BOLD if like_gaussian else _KNOWN
        return self.target_accept or by_itself

    @property
    def most_samples(self) -> int:
        """Draws of each chain at most."""
        return 4 * self.num_samples if self.max_samples is None else self.max_samples


class Check(Settings):
    """How the posterior is held against the true simulator, and from where on it fails."""

    num_draws: Annotated[int, Field(ge=25), Unit("draws")] = 256
    """Posterior draws that the true simulator is run at; with fewer than 25, weights have no tail to smooth."""
    reweight: bool = False
    """Whether the checked draws are written with importance weights too."""
    max_emulator_error: Annotated[Positive, ReadLater(), Unit("data sigma")] = 0.5
    """Emulator's error, 99th percentile over draws and data, that passes."""
    max_log_ratio: Annotated[Positive, ReadLater(), Unit("nats")] = 0.5
    """Standard deviation over draws of the log likelihood, by the simulator less by the emulator, that passes."""
    max_k_hat: Annotated[Positive, ReadLater()] = 0.7
    """Pareto k-hat of the importance weights that passes."""
    min_efficiency: Annotated[Fraction, ReadLater(), Unit("share")] = 0.5
    """Efficiency of importance sampling that passes."""
    max_shift: Annotated[Positive, ReadLater(), Unit("posterior sd")] = 0.1
    """Shift of a mean by reweighting that passes."""
    max_width_change: Annotated[Positive, AddedLater(), ReadLater(), Unit("share")] = 0.1
    """Change of a parameter's sd by reweighting that passes."""
    max_correlation_change: Annotated[Positive, AddedLater(), ReadLater()] = 0.1
    """Change of a correlation of two parameters by reweighting that passes."""
    max_member_shift: Annotated[Positive, AddedLater(), ReadLater(), Unit("posterior sd")] = 0.2
    """Flows: error of a mean, as the members of the ensemble tell it, that passes."""
    max_member_mass: Annotated[Fraction, AddedLater(), ReadLater(), Unit("share")] = 0.1
    """Random simulators: posterior mass out of place, as the members of the ensemble tell it, that passes."""
    max_outside: Annotated[Fraction, ReadLater(), Unit("share")] = 0.05
    """Draws outside the training domain, or that cannot be solved, that pass."""
    max_first_error: Annotated[Positive, AddedLater(), ReadLater(), Unit("outputs' own spread")] = 1.0
    """Error of the first round's emulator at rows that it had not seen, that passes; at 1 a constant is as good."""
    max_edge: Annotated[Fraction, ReadLater(), Unit("share")] = 0.05
    """Posterior mass at a prior's edge that passes."""
    max_r_hat: Annotated[Positive, ReadLater()] = 1.01
    """R-hat that passes."""
    min_ess: Annotated[Positive, ReadLater(), Unit("draws")] = 400.0
    """Effective sample size, of bulk and tail, that passes."""
    max_divergent: Annotated[Fraction, ReadLater(), Unit("share")] = 0.005
    """Divergent transitions that pass."""
    min_predictive_p: Annotated[Fraction, ReadLater(), Unit("probability")] = 0.005
    """Posterior predictive p that passes."""
    max_solver_error: Annotated[Positive, AddedLater(), ReadLater(), Unit("data sigma")] = 0.1
    """Solver's own error, root of the summed squares over the data, that passes; no mean moves by more of its sd."""
    max_scatter_error: Annotated[Positive, AddedLater(), ReadLater(), Unit("predicted sd")] = 0.1
    """Random simulators: a standardised residual's sd less 1, beyond chance, that passes."""
    min_scatter_p: Annotated[Fraction, AddedLater(), ReadLater(), Unit("probability")] = 0.005
    """Random simulators: p of standardised residuals being normal that passes."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""


class Calibrate(Settings):
    """How coverage is tested: data sets simulated from known parameters, each inferred anew."""

    replicates: Annotated[int, Field(ge=20), Unit("data sets")] = 200
    """Data sets that are simulated and inferred anew."""
    over: Literal["auto", "prior", "posterior"] = "auto"
    """Where their parameters come from; "auto" is the posterior where the emulator was refined around it."""
    num_warmup: Annotated[Count, Unit("draws")] = 300
    """Draws in which each chain adapts."""
    num_samples: Annotated[Count, Unit("draws")] = 400
    """Draws after that, before thinning."""
    thin: Annotated[Count, Unit("draws")] = 4
    """Every which draw is kept."""
    level: Annotated[float, Field(gt=0.5, lt=1), Unit("probability")] = 0.99
    """Of the simultaneous bands that decide."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""


def _power_of_two(count: int) -> int:
    if count & (count - 1):
        near = 2 ** round(log2(count))
        raise ValueError(f"got {count}, expected a power of two, which Sobol's sequence is balanced at; take {near}")
    return count


class Sensitivity(Settings):
    """How each output's variance over the prior is shared out among the parameters."""

    num_points: Annotated[int, Field(ge=64), AfterValidator(_power_of_two), Unit("points")] = 4096
    """Points of Saltelli's design, a power of two; it evaluates 2 + parameters times as many."""
    scale: Literal["transformed", "natural"] = "transformed"
    """Whose variance: the output's as `dataset.transform` has it, or in its own unit."""
    num_resamples: Annotated[int, Field(ge=20), Unit("resamples")] = 200
    """Resamples of the bootstrap."""
    level: Annotated[float, Field(gt=0.5, lt=1), Unit("probability")] = 0.95
    """Of the intervals."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""
