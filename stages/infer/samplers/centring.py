"""Parameters of a hierarchy that the data know better than their population: they move by themselves.

A point of the whitened space says where a parameter lies relative to what its prior depends on. Where the data know the
parameter itself, those two are tied to one another: a curved ridge, along which no sampler gets far. The parameter, but
for a fixed shift and stretch, is free of that (Papaspiliopoulos, Roberts & Skold 2007).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from simfer.stages.batches import in_batches
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.model.quantiles import distribution
from simfer.stages.model.space import Space, from_components
from simfer.stages.settings import Prior

_KNOWN = 0.5  # of the width of a prior, given what it depends on: below it the data know better
_DRAWS = 1000  # of the prior
_FAMILIES = {"Normal": False, "LogNormal": True}  # and whether they are centred in the logarithm


class Centre(NamedTuple):
    """Where a parameter, or its logarithm, lies under its prior, whatever it depends on."""

    is_log: bool
    middle: float
    width: float


class Centring(NamedTuple):
    """A map between whitened points and points in which some parameters stand for themselves."""

    space: Space
    centres: dict[str, Centre]

    def to_z(self, x: Float[Array, " size"]) -> tuple[Float[Array, " size"], Float[Array, ""]]:
        """Return a whitened point, and the log of how much volume the map takes."""
        known = {name: jnp.asarray(value) for name, value in self.space.fixed.items()}
        z, volume = jnp.asarray(x), jnp.zeros(())
        for name in self.space.order:
            at = self.space.places[name]
            if name not in self.centres:
                known[name] = from_components(self.space.priors[name], x[at], known)
                continue
            is_log, middle, width = self.centres[name]
            along = middle + width * x[at.start]
            prior: Any = distribution(self.space.priors[name], known)
            z = z.at[at.start].set((along - prior.loc) / prior.scale)
            volume = volume + jnp.log(width / prior.scale)
            known[name] = jnp.exp(along) if is_log else along
        return z, volume

    def to_x(self, z: Float[np.ndarray, "points size"]) -> Float[np.ndarray, "points size"]:
        """Return the points of whitened ones."""
        values, x = self.space.columns(z[:, : self.space.size]), np.array(z)
        for name, (is_log, middle, width) in self.centres.items():
            value = values[name]
            x[:, self.space.places[name].start] = ((np.log(value) if is_log else value) - middle) / width
        return x

    def on(self, target: Target) -> Target:
        """Return a target over such points."""
        size = self.space.size

        def log_likelihood(x: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
            z, volume = self.to_z(x[:size])
            beside = volume + norm.logpdf(z).sum() - norm.logpdf(x[:size]).sum()
            return target.log_likelihood(jnp.concatenate([z, x[size:]]), data) + beside

        return target._replace(log_likelihood=log_likelihood)

    def back(self, draws: Draws) -> Draws:
        """Return draws as whitened points."""
        size, flat = self.space.size, draws.z.reshape(-1, draws.z.shape[-1])
        z = np.asarray(in_batches(lambda x: self.to_z(x)[0], flat[:, :size]))
        return draws._replace(z=np.concatenate([z, flat[:, size:]], axis=1).reshape(draws.z.shape))


def find_centring(target: Target, z: Float[np.ndarray, "points size"]) -> Centring | None:
    """Return which parameters points of the posterior know better than their population does; None if none."""
    space = target.space
    some = [name for name, prior in space.priors.items() if prior.dist in _FAMILIES and _is_spread(prior)]
    if not some:
        return None
    seen = space.columns(z[:, : space.size])
    prior = space.columns(np.random.default_rng(0).standard_normal((_DRAWS, space.size)))
    centres = {}
    for name in some:
        is_log = _FAMILIES[space.priors[name].dist]
        own, drawn = (np.log(each[name]) if is_log else np.asarray(each[name]) for each in (seen, prior))
        given: Any = distribution(space.priors[name], seen)
        if own.std() < _KNOWN * np.median(given.scale):
            low, middle, high = np.quantile(drawn, [0.16, 0.5, 0.84])
            centres[name] = Centre(is_log, float(middle), float(0.5 * (high - low)))
    return Centring(space, centres) if centres else None


def _is_spread(prior: Prior) -> bool:
    """Say whether a prior is as wide as another parameter says: then a whitened point lies on a curve."""
    return isinstance(prior.arguments.get("scale"), str)
