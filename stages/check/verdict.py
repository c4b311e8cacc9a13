"""The figures of a verdict, and what each failure asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simfer.stages.model.space import distribution
from simfer.stages.settings import Prior

_ADVICE = {
    "sampler": "the chains did not converge: raise infer.num_warmup and infer.num_samples, or "
    "infer.target_accept; where they lie in separate places, take infer.sampler = 'auto', which weighs these",
    "model": "the data are improbable under the model: look at predictive.png, then at the simulator and the noise",
    "prior": "the posterior lies at the edge of a prior: widen that prior, or write edge = 'meant' into it if "
    "it is physics that ends there",
    "domain": "draws lie where nothing was simulated: more rounds (refine.max_rounds) or wider priors",
    "solver": "the simulator's own numerical error is too large beside the noise: lower simulate.solver.rtol and atol "
    "(or dt0, where fixed_step is true), give max_step, or let the simulator say when it jumps (jumps and doses)",
    "failures": "the simulator has no answer at posterior draws",
    "border": "the border of what can be solved is not known well enough at the posterior: more rounds "
    "(refine.max_rounds), which simulate on both sides of it, or more simulations",
    "emulator": "the emulator differs from the simulator there: more rounds (refine.max_rounds), more simulations, "
    "longer training (train.steps) or a wider network",
}


@dataclass(frozen=True)
class Figure:
    """One figure with its threshold; `kind` says whose fault a failure is."""

    name: str
    kind: str
    value: float
    threshold: float
    larger_is_better: bool = False

    @property
    def passed(self) -> bool:
        """Whether the value is within the threshold; a value that is not a number is not."""
        within = self.value >= self.threshold if self.larger_is_better else self.value <= self.threshold
        return bool(within)

    def row(self) -> dict[str, Any]:
        """Return the figure as plain data."""
        return {
            "figure": self.name,
            "value": self.value,
            "threshold": self.threshold,
            "passed": self.passed,
            "larger_is_better": self.larger_is_better,
        }

    def line(self) -> dict[str, Any]:
        """Return the figure as a reader wants it in a table."""
        limit = f"{'≥' if self.larger_is_better else '≤'} {self.threshold:g}"
        return {"figure": self.name, "value": self.value, "limit": limit, "passed": self.passed}


_WITHOUT_SIMULATOR = {
    "domain": "draws lie where the table has no runs: more runs there, or narrower priors",
    "emulator": "the emulator is not exact enough there: more runs near the data, longer training (train.steps) or a "
    "wider network",
}


def advice(figures: Sequence[Figure], where: str = "", cure: str = "", simulates: bool = True) -> str:
    """Say in words what failed and what to do next, the cause that hides the others first.

    `where` says which draws the simulator fails at, and `cure` what helps; `simulates` whether there is one to be run.
    """
    told = _ADVICE if simulates else _ADVICE | _WITHOUT_SIMULATOR
    failed = {figure.kind for figure in figures if not figure.passed}
    if "emulator" in failed:
        failed -= {"model"}  # the draws are not yet the model's: what they predict says nothing of it
    more = {"failures": (f" ({where.rstrip('.')})" if where else "") + (f": {cure}" if cure else "")}
    return "; ".join(text + more.get(kind, "") for kind, text in told.items() if kind in failed)


def edge_mass(priors: Mapping[str, Prior], theta: Mapping[str, np.ndarray], z: Mapping[str, np.ndarray]) -> float:
    """Return the largest share of draws, over the priors, that lie at one end of a prior.

    At a hard end (the bound of a Uniform) these are the draws within an eighth of the posterior's own sd of it, however
    narrow that is beside the prior: 12 % of a posterior that falls off exponentially from there, 6 % of half a normal,
    4 % of the prior itself, 3 % where the bound is one sd from the peak. Where a prior has no end, they are those
    beyond 3.5 of its standard normal scale, where it holds 0.02 percent itself. Nothing is counted of a prior whose
    edge is meant, nor around a circle.

    Args:
        priors: By name.
        theta: Draws by name, in the parameters' own units.
        z: The same draws in the priors' standard normal scale.
    """
    shares = [0.0]
    for name, prior in priors.items():
        if prior.periodic or prior.edge == "meant":
            continue
        place = np.log(theta[name]) if prior.dist == "LogUniform" else theta[name]
        near = place.std() / 8.0
        low, high = _bounds(prior)
        shares.append(float(np.mean(z[name] < -3.5 if low is None else place < low + near)))
        shares.append(float(np.mean(z[name] > 3.5 if high is None else place > high - near)))
    return max(shares)


def _bounds(prior: Prior) -> tuple[float | None, float | None]:
    """Return the bounds that somebody chose, in the scale in which a flat prior is flat."""
    support = distribution(prior).support
    low = getattr(support, "lower_bound", None)
    high = getattr(support, "upper_bound", None)
    # A natural zero (of a LogNormal, say), or the ends of a Beta, are no bounds that anyone chose.
    if low is not None and np.asarray(low) == 0.0 and prior.dist != "Uniform":
        low = None
    if prior.dist.startswith("Beta"):
        high = None
    scale = np.log if prior.dist == "LogUniform" else np.asarray
    return None if low is None else float(scale(low)), None if high is None else float(scale(high))
