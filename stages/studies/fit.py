"""Beside the chain: the parameters of highest posterior density, by the emulator and then by the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from scipy.optimize import minimize

from simfer.stages.artifacts.verdict import Verdict
from simfer.stages.errors import StageError
from simfer.stages.infer.posterior import named_draws
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.starts import choose_starts
from simfer.stages.infer.target import Target, build_target
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress, Silent, until_the_first
from simfer.stages.settings import FitConfig
from simfer.stages.simulate.rows import fill
from simfer.stages.summary import Summary, Table

_WIDEST = 8.0  # standard normal: where a search through whitened points ends
_SAME = 0.05  # nats within which two searches have come to the same density
_STEP = 0.02  # standard normal: over which slopes are measured
_BEST = "fit"


class Found(NamedTuple):
    """A best fit: its whitened point, its log posterior density, and what the simulator gives there at the data."""

    z: Float[np.ndarray, " size"]
    density: float
    y: Float[np.ndarray, " n"]


def run(config: FitConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Search from many starts through the emulator, correct it by the simulator there, and search on."""
    exact = config.infer.model_copy(update={"emulator_error": "none"})
    config = config.model_copy(update={"infer": exact})
    target = build_target(config, load_predictor(config, inputs["emulator"][0]))
    if target.predictor.random is not None or target.predictor.flow is not None:
        raise StageError("the simulator is random: a single run of it is no likelihood; infer, and take the posterior")
    objective = _objective(target)
    size, count = target.predictor.space.size, len(target.likelihood.index)
    none = Correction(np.zeros(count), np.zeros((count, size)), np.zeros(size))
    ends = [_search(objective, start, none) for start in choose_starts(target, config.fit.num_starts)]
    z, density = max(ends, key=lambda end: end[1])
    same = sum(end[1] > density - _SAME for end in ends)
    polished = _polish(config, target, objective, z, folder, progress) if config.simulate.kind != "table" else None
    if polished:
        progress.note(f"  fit: corrected by {len(polished)} runs of the simulator")
    best = (
        polished[-1] if polished else Found(z, density, np.asarray(target.errors.mean(jnp.asarray(target.split(z)[0]))))
    )
    return _summary(target, best, same, len(ends), polished)


def load(folder: Path, config: FitConfig) -> Verdict:
    """Refuse: what a best fit is stands in its summary."""
    raise StageError("a best fit has no artifact of its own to open; its numbers are in the summary")


class Correction(NamedTuple):
    """What the emulator's outputs at the data are corrected by: shift + slopes (z - center)."""

    shift: Float[np.ndarray, " n"]
    slopes: Float[np.ndarray, "n parameters"]
    center: Float[np.ndarray, " parameters"]

    @classmethod
    def onto(cls, target: Target, best: Found, slopes: Float[np.ndarray, "n parameters"]) -> Correction:
        """Return the one by which the emulator gives, at a point, what the simulator gave there."""
        theta_z = target.split(best.z)[0]
        return cls(best.y - np.asarray(target.errors.mean(jnp.asarray(theta_z))), slopes, theta_z)

    def at(self, theta_z: Any) -> Any:
        """Return it at a whitened point."""
        return self.shift + self.slopes @ (theta_z - self.center)

    def learned(self, target: Target, tried: Found) -> Float[np.ndarray, "n parameters"]:
        """Return the slopes that a run at another point asks for, changed as little as can be (Broyden 1965)."""
        theta_z = target.split(tried.z)[0]
        step = theta_z - self.center
        wrong = tried.y - np.asarray(target.errors.mean(jnp.asarray(theta_z))) - self.at(theta_z)
        return np.asarray(self.slopes + np.outer(wrong, step) / max(float(step @ step), 1e-300))


Objective = Callable[[Array, Correction], tuple[Array, Array]]


def _objective(target: Target) -> Objective:
    """Return the log posterior density and its slope at a whitened point, the emulator's outputs corrected.

    The density is that of the parameters in their own units, of whose whitened values it is not the highest.
    """
    likelihood, errors, at = target.likelihood, target.errors, target.predictor.space.size

    def density(z: Array, correction: Correction) -> Array:
        values = likelihood.noise_space.values(z[at:])
        return likelihood.exact(errors.mean(z[:at]) + correction.at(z[:at]), values) + log_prior(target, z)

    return jax.jit(jax.value_and_grad(density))


def log_prior(target: Target, z: Float[Array, " size"]) -> Float[Array, ""]:
    """Return the log of the prior's density, of the parameters in their own units (around a circle, a constant)."""
    at, total = target.predictor.space.size, jnp.zeros(())
    for space, part in ((target.predictor.space, z[:at]), (target.likelihood.noise_space, z[at:])):
        total += _log_density(space, part)
    return total


def _log_density(space: Space, z: Float[Array, " size"]) -> Float[Array, ""]:
    total = jnp.zeros(())
    for i, name in enumerate(space.names):
        place = space.places[name]
        if place.stop - place.start > 1:
            # Only the direction of a circle's two components means anything: held near it, and even around it.
            total += -0.5 * jnp.square(jnp.sqrt(jnp.square(z[place]).sum() + 1e-60) - jnp.sqrt(2.0))
            continue
        value = z[place.start]
        own = lambda v, at=place.start, i=i: space.theta(z.at[at].set(v))[i]  # noqa: E731
        total += norm.logpdf(value) - jnp.log(jnp.abs(jax.grad(own)(value)))
    return total


def _search(
    objective: Objective, start: np.ndarray, correction: Correction
) -> tuple[Float[np.ndarray, " size"], float]:
    """Climb from a start; where there is no density the search is turned back."""

    def downhill(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = (np.asarray(each) for each in objective(jnp.asarray(z), correction))
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return 1e25, np.zeros_like(z)
        return -float(value), -slope

    bounds = [(-_WIDEST, _WIDEST)] * len(start)
    options = {"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8}
    found = minimize(downhill, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x, -float(found.fun)


def _polish(
    config: FitConfig,
    target: Target,
    objective: Objective,
    z: Float[np.ndarray, " size"],
    folder: Path,
    progress: Progress,
) -> list[Found]:
    """Run the simulator where the best fit is, shift the emulator onto what it gives, and search on from there.

    The emulator is then exact at the best fit, and its slopes there are learned from one run to the next (space
    mapping: Bandler et al. 1995). Where that comes to rest they are measured, by a run along each parameter, and the
    search goes on: a place is a best fit only by the simulator's own slopes. The best of all runs is what counts.
    """
    best = _simulated(config, target, objective, z, folder / "run-0", progress)
    if best is None:
        raise StageError(f"the simulator has no answer at the emulator's best fit: {_named(target, z)}")
    found, slopes = [best], np.zeros((len(best.y), target.predictor.space.size))
    measured = False
    for number in range(1, config.fit.max_simulations):
        correction = Correction.onto(target, best, slopes)
        end, promised = _search(objective, best.z, correction)
        tried = _simulated(config, target, objective, end, folder / f"run-{number}", progress)
        if tried is None:
            break
        found.append(tried)
        slopes = correction.learned(target, tried)
        settled = abs(promised - best.density) < config.fit.tolerance
        best = max(best, tried, key=lambda each: each.density)
        if settled and measured:
            break
        if settled:
            runs = _along(config, target, objective, best, folder / f"slopes-{number}", progress)
            found += runs
            slopes, measured = _slopes(target, best, runs, slopes), True
            best = max(best, *runs, key=lambda each: each.density)
    return [*(each for each in found if each is not best), best]


def _along(
    config: FitConfig, target: Target, objective: Objective, best: Found, folder: Path, progress: Progress
) -> list[Found]:
    """Run the simulator a little along each of its parameters; where it has no answer, none is given."""
    steps = [best.z + _STEP * np.eye(len(best.z))[i] for i in range(target.predictor.space.size)]
    runs = [_simulated(config, target, objective, z, folder / str(i), progress) for i, z in enumerate(steps)]
    return [each for each in runs if each is not None]


def _slopes(
    target: Target, best: Found, runs: Sequence[Found], known: Float[np.ndarray, "n parameters"]
) -> Float[np.ndarray, "n parameters"]:
    """Return by how much the simulator's slopes differ from the emulator's, as known where nothing was measured."""
    slopes = known.copy()
    wrong = [each.y - np.asarray(target.errors.mean(jnp.asarray(target.split(each.z)[0]))) for each in (best, *runs)]
    for each, there in zip(runs, wrong[1:], strict=True):
        along = int(np.argmax(np.abs(each.z - best.z)))
        slopes[:, along] = (there - wrong[0]) / (each.z - best.z)[along]
    return slopes


def _simulated(
    config: FitConfig,
    target: Target,
    objective: Objective,
    z: Float[np.ndarray, " size"],
    folder: Path,
    progress: Progress,
) -> Found | None:
    """Run the simulator at a point; None where it has no answer."""
    theta_z = target.split(z)[0]
    folder.mkdir(parents=True, exist_ok=True)
    space = target.predictor.space
    with until_the_first(progress, "a run where the best fit is"):  # each by itself, of which a bar would say nothing
        filled = fill(folder, config.simulate, space, 1, lambda a, b: theta_z[None][a:b], Silent(), _BEST)
    simulations = filled.simulations
    _, rows, solved = simulations.rows(0, 1)
    if not solved[0]:
        return None
    y = target.likelihood.to_transformed(rows, target.predictor.floor)[0]
    found = Found(z, np.nan, y)
    there = Correction.onto(target, found, np.zeros((len(y), len(theta_z))))
    return found._replace(density=float(objective(jnp.asarray(z), there)[0]))


def _summary(target: Target, best: Found, same: int, starts: int, polished: Sequence[Found] | None) -> Summary:
    squared, count = chi_squared(target, best)
    facts: dict[str, Any] = {
        "chi_squared": squared,
        "data": count,
        "free_parameters": len(best.z),
        "log_posterior_density": best.density,
        "starts_that_came_to_it": f"{same} of {starts}",
        "simulations": len(polished or ()),
        "by": "the simulator" if polished else "the emulator alone: there is no simulator",
    }
    if polished and len(polished) > 1:
        facts["last_change_by_the_simulator"] = best.density - max(each.density for each in polished[:-1])
    warnings = []
    if same < starts / 4:
        warnings.append(
            f"only {same} of {starts} searches came to this place: another may be as good; raise fit.num_starts"
        )
    edge = [name for name, at in zip(_components(target), best.z, strict=True) if abs(at) > _WIDEST - 1e-6]
    if edge:
        warnings.append(
            f"the best fit lies at the end of the prior of {', '.join(edge)}: it says little of a maximum there"
        )
    return {"facts": facts, "tables": {"best fit": _table(target, best.z)}, "warnings": warnings, "pictures": []}


def chi_squared(target: Target, best: Found) -> tuple[float | None, int]:
    """Return twice what the log likelihood lacks to that of data just as predicted, and the number of data.

    Of Gaussian noise, also in the logarithm or with a covariance, that is chi-squared; None where noise is another.
    """
    likelihood = target.likelihood
    values = likelihood.noise_space.values(jnp.asarray(target.split(best.z)[1]))
    total, count = 0.0, 0
    for blocks, distribution in likelihood.parts(jnp.asarray(best.y), values):
        if likelihood.is_censored:
            return None, len(likelihood.index)
        observed = jnp.concatenate([jnp.asarray(block.values) for block in blocks])
        if isinstance(distribution, dist.LogNormal):
            distribution, observed = dist.Normal(distribution.loc, distribution.scale), jnp.log(observed)
        if not isinstance(distribution, (dist.Normal, dist.MultivariateNormal)):
            return None, len(likelihood.index)
        total += 2.0 * float((distribution.log_prob(distribution.mean) - distribution.log_prob(observed)).sum())
        count += len(observed)
    return total, count


def _table(target: Target, z: Float[np.ndarray, " size"]) -> Table:
    priors = target.predictor.space.priors | target.likelihood.noise_space.priors
    return [
        {"parameter": name, "best_fit": float(value), "unit": priors[name].unit}
        for name, value in named_draws(target, z[None]).items()
        for value in np.asarray(value).ravel()
    ]


def _components(target: Target) -> list[str]:
    return [*target.predictor.space.components, *target.likelihood.noise_space.components]


def _named(target: Target, z: Float[np.ndarray, " size"]) -> str:
    return ", ".join(f"{row['parameter']} = {row['best_fit']:.4g}" for row in _table(target, z))
