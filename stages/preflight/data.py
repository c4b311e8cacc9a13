"""Whether data and noise belong together: every number of the one must be possible by the other."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.infer.derived import arguments_of
from simfer.stages.model import impossible
from simfer.stages.model import noise as noises
from simfer.stages.model.block import Block
from simfer.stages.model.likelihood import Likelihood, read_data
from simfer.stages.model.outputs import Layout
from simfer.stages.model.plugins import resolve
from simfer.stages.model.vectors import of_names
from simfer.stages.preflight.noise import noise_mistakes
from simfer.stages.preflight.scatter import series_mistakes
from simfer.stages.settings import CustomNoise, Derived, Problem
from simfer.stages.settings.expressions import parse
from simfer.stages.settings.noise import quantities


def loss_mistakes(config: Problem) -> list[Mistake]:
    """List the outputs in units of whose noise no error can be had beforehand."""
    if config.train.loss != "chi_squared":
        return []
    transforms = {name: config.dataset.transform.get(name, "none") for name in config.noise}
    what = 'needs noise that is Gaussian where the network learns it, its scale a number; take "scaled" or "whitened"'
    return [
        Mistake("train.loss", f'got "chi_squared", which {what} (noise.{name}, dataset.transform.{name})')
        for name, noise in config.noise.items()
        if noises.known_scale(noise, transforms[name]) is None
    ]


def derived_mistakes(config: Problem, layout: Layout) -> list[Mistake]:
    """List the derived quantities whose formula names what there is not."""
    noise = {each.name for each in quantities(config.noise, config.noise_parameters)}
    known = {*config.parameters, *of_names(config.parameters), *noise, *layout.outputs}
    found = []
    for name, each in config.derived.items():
        try:
            names = _names_in(name, each)
        except ConfigError as error:
            found += error.mistakes
            continue
        found += [
            Mistake(
                f"derived.{name}",
                f'"{each.words}" names {used}, expected parameters, quantities of the noise, or outputs: '
                f"{', '.join(sorted(known))}.{did_you_mean(used, sorted(known))}",
            )
            for used in names
            if used not in known
        ]
    return found


def _names_in(name: str, derived: Derived) -> Sequence[str]:
    """List the names in a formula, or those that a function takes."""
    if derived.formula:
        return parse(derived.formula).names
    function = resolve(derived.function, {}, f"derived.{name}")
    if not callable(function):
        what = f"got {function!r}, expected a function of parameters and outputs"
        raise ConfigError([Mistake(f"derived.{name}", what)])
    return arguments_of(function)


def data_mistakes(config: Problem, layout: Layout) -> list[Mistake]:
    """List what is wrong with the data, with the noise, and with either beside the other."""
    try:
        data = read_data(config, layout)
    except ConfigError as error:
        return error.mistakes
    found = [
        Mistake(f"noise.{name}", f"missing: the data hold {name}; say how they scatter around the output")
        for name in data.series
        if name not in config.noise
    ]
    for name, noise in config.noise.items():
        if name not in data.series:
            if name in layout.outputs and not config.experiments:  # of which each need not observe everything
                found.append(Mistake(f"noise.{name}", f"the data hold no column {name}"))
            continue
        found += impossible.mistakes(name, noise, data.series[name])
        found += series_mistakes(config, name, data.series[name])
        transform = config.dataset.transform.get(name, "none")
        if noises.needs_log(noise) and transform != "log":
            what = f'got "{transform}"; {noise.dist} noise needs "log", or the emulator can give it a negative median'
            found.append(Mistake(f"dataset.transform.{name}", what))
        if isinstance(noise, CustomNoise):
            found += noise_mistakes(name, noise, data.series[name], config.noise_parameters)
    if found or any(name not in config.noise for name in data.series):
        return found
    transforms = {name: config.dataset.transform.get(name, "none") for name in layout.outputs}
    try:
        likelihood = Likelihood(config.noise, data, layout, transforms, config.noise_parameters)
    except ConfigError as error:  # a covariance that does not fit them
        return error.mistakes
    return [mistake for block in likelihood.blocks for mistake in _tried(likelihood, block)]


def _tried(likelihood: Likelihood, block: Block) -> list[Mistake]:
    """Take the log probability of an output's data, and its derivatives, once without computing it."""
    where, count = f"noise.{block.name}", len(block.values)

    def total(y: Array, z: Array) -> Array:
        made = likelihood.distribution(block, y, likelihood.noise_space.values(z))
        if not isinstance(made, dist.Distribution):
            raise TypeError(f"got {type(made).__name__} from it, expected a NumPyro distribution")
        terms = block.log_prob(made, jnp.asarray(block.coded))
        if terms.shape not in ((), (count,)):
            raise TypeError(
                f"got log probabilities of shape {terms.shape} from it, expected ({count},): one for each datum"
            )
        return terms.sum()

    z = np.zeros(likelihood.noise_space.size)
    try:
        jax.eval_shape(jax.grad(total, argnums=(0, 1)), np.ones(count), z)
    except Exception as error:  # whatever the user's code, or a family without a CDF, has in it
        reason = str(error).partition("\n")[0]
        what = f"its log probability cannot be taken: {type(error).__name__}: {reason}"
        if block.is_censored:
            what += " (of censored data it needs a CDF with derivatives: a df that is inferred has none, say)"
        return [Mistake(where, what)]
    return []
