"""Whether a prior can be drawn from: its quantiles tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from simfer.stages.errors import Mistake
from simfer.stages.model.quantiles import distribution, from_normal
from simfer.stages.model.space import Space
from simfer.stages.settings import Prior, Problem
from simfer.stages.settings.earlier import read
from simfer.stages.settings.noise import quantities
from simfer.stages.settings.parts import EarlierPart
from simfer.stages.settings.prior_table import PRIORS

_FAR, _BY_CHANCE = 0.03, 3.0  # a distance of Kolmogorov and Smirnov that is seen, and one of independent draws
_Z = np.linspace(-3.0, 3.0, 7)  # nearly all of the prior


def prior_mistakes(config: Problem) -> list[Mistake]:
    """List the priors, those of the noise too, whose quantiles are no numbers, or do not increase."""
    priors = [(where, prior) for where, prior in _priors(config) if prior.stands_alone]
    made = [_made(prior) for _, prior in priors]
    quantiles = _quantiles([each for each in made if not isinstance(each, str)])
    wrong = [
        each if isinstance(each, str) else _wrong(prior, *next(quantiles))
        for (_, prior), each in zip(priors, made, strict=True)
    ]
    found = [Mistake(where, what) for (where, _), what in zip(priors, wrong, strict=True) if what]
    return found or _dependent(Space(config.parameters))


def prior_remarks(config: Problem) -> list[str]:
    """Say what priors are by default, and how well one holds what an earlier posterior is."""
    found = _by_default(config)
    for key, joint in config.priors.items():
        if joint.file is not None:
            names = [name for name, prior in config.parameters.items() if isinstance(prior, EarlierPart)]
            earlier = read(joint.file, joint.names or names, (), {}, joint.bounds)
            what = (
                f"priors.{key}: marginals and Gaussian copula of {Path(joint.file).name}, {earlier.num_draws:,} draws"
            )
            if earlier.distance > max(_FAR, _BY_CHANCE / earlier.num_effective**0.5):
                what += f"; it is {earlier.distance:.2f} from them (0 to 1), more than chance: the posterior is bent, "
                what += "or has several modes, which is lost here; infer from all data at once"
            else:
                what += f"; {earlier.distance:.3f} from them (0 to 1), no more than chance"
            found.append(what)
    return found


def _by_default(config: Problem) -> list[str]:
    """Say which arguments of priors were left out: NumPyro's defaults know nothing of a parameter's size."""
    places: dict[str, list[str]] = {}
    for where, prior in _priors(config):
        arguments = PRIORS[prior.dist].arguments if prior.dist in PRIORS else {}
        left_out = {name: each.default for name, each in arguments.items() if name not in prior.model_fields_set}
        values = ", ".join(f"{name} = {value}" for name, value in left_out.items() if value is not None)
        if values:
            what = f"{prior.dist} with NumPyro's defaults, {values}; write that if it is meant"
            places.setdefault(what, []).append(where)
    return [f"{', '.join(where)}: {what}" for what, where in places.items()]


def _dependent(space: Space) -> list[Mistake]:
    """List the priors that depend on others and are no numbers where these are at their medians, or at their ends."""
    found = {}
    for i, name in enumerate(space.names):
        if name in space.dependent:
            rows = np.zeros((3 * len(_Z), len(space.names)))
            rows[:, i] = np.tile(_Z, 3)
            others = np.arange(len(space.names)) != i
            rows[:, others] = np.repeat([-2.0, 0.0, 2.0], len(_Z))[:, None]
            for values in np.asarray(space.from_scores(rows))[:, i].reshape(3, -1):
                if not np.isfinite(values).all() or (np.diff(values) <= 0.0).any():
                    found[name] = (
                        f"got quantiles {values[0]:.4g} to {values[-1]:.4g}, expected finite ones that increase"
                    )
    return [Mistake(f"parameters.{name}", f"{what}, wherever those are that it names") for name, what in found.items()]


def _priors(config: Problem) -> Iterator[tuple[str, Prior]]:
    """Yield each prior with its place."""
    for name, value in config.parameters.items():
        if isinstance(value, Prior):
            yield f"parameters.{name}", value
    for each in quantities(config.noise, config.noise_parameters):
        if isinstance(each.value, Prior):
            yield each.place, each.value


def _made(prior: Prior) -> dist.Distribution | str:
    """Return a prior's distribution, or why there is none."""
    try:
        made = distribution(prior)
        jax.eval_shape(lambda z: from_normal(made, z), _Z)
    except ValueError as error:  # NumPyro knows bounds that the table of priors does not
        return f"{prior.dist} cannot be made of these arguments: {error}"
    return made


def _quantiles(priors: Sequence[dist.Distribution]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each distribution's quantiles and their slopes in z, all of them compiled as one."""

    @jax.jit
    def both(z: Array) -> list[tuple[Array, Array]]:
        return [jax.jvp(partial(from_normal, prior), (z,), (jnp.ones_like(z),)) for prior in priors]

    for values, slopes in both(_Z) if priors else ():
        yield np.asarray(values), np.asarray(slopes)


def _wrong(prior: Prior, values: Float[np.ndarray, " 7"], slopes: Float[np.ndarray, " 7"]) -> str:
    if what := _not_increasing(values, slopes):
        return f"{prior.dist} with these arguments {what}; are they in the parameter's unit, and of its size?"
    return ""


def _not_increasing(values: Float[np.ndarray, " 7"], slopes: Float[np.ndarray, " 7"]) -> str:
    """Say what is wrong with quantiles, and with their slope in z."""
    if not np.isfinite(values).all():
        return "has quantiles that are no finite numbers"
    if (np.diff(values) <= 0.0).any():
        return f"is all but a single point: its quantiles from {values[0]:.6g} to {values[-1]:.6g} do not increase"
    if not np.isfinite(slopes).all() or (slopes <= 0.0).any():
        return "has quantiles without a finite slope"
    return ""
