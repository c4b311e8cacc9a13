"""Parameters: their priors, units, and the whitened space in which every prior is a standard normal.

A point there is z = Phi^-1(F(theta)), with F the prior's cumulative distribution function and Phi the standard
normal's. Designs are drawn, networks are trained and NUTS moves in z. A periodic quantity has two components
of z, whose direction from the origin it is: a circle has no seam there, and what lies on both sides of it is one mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float

from simfer.stages.batches import in_batches
from simfer.stages.model import parts
from simfer.stages.model.quantiles import distribution, from_normal, standard, to_normal
from simfer.stages.settings import Prior
from simfer.stages.settings.parameters import order, prior_of
from simfer.stages.settings.parts import Part

_FLAT = ("Uniform", "LogUniform")
_RADIUS = float(np.sqrt(2.0))  # at which cosine and sine have variance one
_RING_SD = 0.25  # of the distance from the origin: it is all but never near it
_TURN = 2.0 * np.pi


def _num_components(prior: Prior) -> int:
    return 2 if prior.periodic else 1


def from_components(prior: Prior, z: Float[Array, "... k"], values: Mapping[str, Any] = {}) -> Float[Array, "..."]:
    """Map a prior's components of a whitened point to its own scale, given the values that it depends on."""
    if not prior.periodic:
        return _quantile(prior, z[..., 0], values)
    flat: Any = distribution(prior)
    turns = jnp.arctan2(z[..., 1], z[..., 0]) / _TURN
    return flat.low + (flat.high - flat.low) * jnp.where(turns < 0.0, turns + 1.0, turns)


def _quantile(prior: Prior, z: Float[Array, "..."], values: Mapping[str, Any]) -> Float[Array, "..."]:
    """Map standard normal values to a prior's own scale, given those of the quantities that it depends on."""
    if isinstance(prior, Part):
        return parts.quantile(prior, z, values)
    if not prior.needs:
        return from_normal(distribution(prior), z)
    plain, loc, scale = standard(prior, values)
    return loc + scale * from_normal(plain, z)


def _to_components(prior: Prior, value: Any, values: Mapping[str, Any]) -> list[Float[Array, "..."]]:
    value = jnp.asarray(value, float)
    if isinstance(prior, Part):
        return [parts.score(prior, value, values)]
    if not prior.periodic:
        plain, loc, scale = standard(prior, values)
        return [to_normal(plain, (value - loc) / scale if prior.needs else value)]
    flat: Any = distribution(prior)
    angle = _TURN * (value - flat.low) / (flat.high - flat.low)
    return [_RADIUS * jnp.cos(angle), _RADIUS * jnp.sin(angle)]


def _excludes(prior: Prior, value: Any, values: Mapping[str, Any]) -> Bool[Array, "..."]:
    """Say which values a prior gives no density, those beyond its bounds, given what it depends on."""
    if prior.periodic:
        return jnp.zeros(jnp.shape(value), bool)
    if isinstance(prior, Part):
        return parts.excludes(prior, jnp.asarray(value, float), values)
    support: Any = distribution(prior, values).support
    return jnp.logical_not(support(jnp.asarray(value, float)))


def _unit(pair: Float[Array, "... 2"]) -> Float[Array, "... 2"]:
    return pair * jax.lax.rsqrt((pair**2).sum(axis=-1, keepdims=True) + 1e-60)  # finite at the origin, its slope too


class Space(eqx.Module):
    """Named quantities, some with a prior (free) and some fixed, and the map from whitened points to values."""

    priors: dict[str, Prior] = eqx.field(static=True)
    fixed: dict[str, float] = eqx.field(static=True)

    def __init__(self, values: Mapping[str, Prior | float]) -> None:
        self.priors = {name: value for name, value in values.items() if isinstance(value, Prior)}
        self.fixed = {name: float(value) for name, value in values.items() if not isinstance(value, Prior)}

    @property
    def names(self) -> list[str]:
        """The free quantities, in the order of a whitened point's components."""
        return list(self.priors)

    @property
    def order(self) -> list[str]:
        """The free quantities so that each follows those that its prior depends on."""
        return [name for name in order(self.priors | self.fixed) if name in self.priors]

    @property
    def dependent(self) -> list[str]:
        """The free quantities whose prior depends on others."""
        return [name for name, prior in self.priors.items() if not prior.stands_alone]

    @property
    def size(self) -> int:
        """The number of a whitened point's components: one for each free quantity, two for a periodic one."""
        return len(self.components)

    @property
    def components(self) -> list[str]:
        """What the components of a whitened point are called."""
        ends = {name: ("_cos", "_sin") if prior.periodic else ("",) for name, prior in self.priors.items()}
        return [name + end for name in self.names for end in ends[name]]

    @property
    def places(self) -> dict[str, slice]:
        """Where each free quantity's components lie in a whitened point."""
        ends = np.cumsum([_num_components(prior) for prior in self.priors.values()]).tolist()
        return {name: slice(a, b) for name, a, b in zip(self.priors, [0, *ends], ends, strict=False)}

    @property
    def periodic(self) -> list[str]:
        """The free quantities that are periodic."""
        return [name for name, prior in self.priors.items() if prior.periodic]

    def values(self, z: Float[Array | np.ndarray, "... size"]) -> dict[str, Float[Array, "..."]]:
        """Return every quantity, the fixed ones too, by name and in its own unit."""
        fixed = {name: jnp.full(z.shape[:-1], value) for name, value in self.fixed.items()}
        places, known = self.places, dict(fixed)
        for name in self.order:  # Rosenblatt's (1952) map: each given those that it depends on
            known[name] = from_components(self.priors[name], jnp.asarray(z[..., places[name]]), known)
        return {name: known[name] for name in self.names} | fixed

    def theta(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... names"]:
        """Return the free quantities' values, in their own units."""
        values = self.values(z)
        free = [values[name][..., None] for name in self.names]
        return jnp.concatenate([jnp.zeros((*z.shape[:-1], 0)), *free], axis=-1)

    def columns(self, z: Float[Array | np.ndarray, "... size"]) -> dict[str, Float[np.ndarray, "..."]]:
        """Return `values` of points that are known, by one compiled program whatever their number."""
        points = np.asarray(z, float)
        found = in_batches(self.values, points.reshape(-1, self.size), least=256)
        return {name: values.reshape(points.shape[:-1]) for name, values in found.items()}

    def table(self, z: Float[Array | np.ndarray, "... size"]) -> Float[np.ndarray, "... names"]:
        """Return `theta` of points that are known, by one compiled program whatever their number."""
        columns = self.columns(z)
        return np.stack([columns[name] for name in self.names], axis=-1) if self.names else np.zeros((*z.shape[:-1], 0))

    def whiten(self, values: Mapping[str, Any]) -> Float[Array, "... size"]:
        """Return the whitened point of named values; quantities that are fixed may be left out."""
        known = self.fixed | dict(values)
        parts = [part for name in self.names for part in _to_components(self.priors[name], values[name], known)]
        return jnp.stack(jnp.broadcast_arrays(*parts), axis=-1)

    def whiten_held(self, values: Mapping[str, Any]) -> Float[Array, "... size"]:
        """Return the whitened point of named values, NaN where a prior excludes the value: there nothing is known."""
        known = self.fixed | dict(values)
        held = {
            name: jnp.where(_excludes(prior, values[name], known), jnp.nan, jnp.asarray(values[name], float))
            for name, prior in self.priors.items()
        }
        return self.whiten(held)

    def scores(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array | np.ndarray, "... names"]:
        """Return each free quantity as a standard normal value of its own; of a periodic one, by its place from `low`.

        That is z itself where none is periodic.
        """
        if not self.periodic:
            return z
        values = self.values(z)
        plain = {name: prior.model_copy(update={"periodic": False}) for name, prior in self.priors.items()}
        own = [_to_components(prior, values[name], values)[0][..., None] for name, prior in plain.items()]
        return jnp.concatenate(own, axis=-1)

    def from_scores(self, scores: Float[Array | np.ndarray, "... names"]) -> Float[Array, "... names"]:
        """Return the free quantities, in their own units, of `scores`."""
        scores = jnp.asarray(scores)
        known: dict[str, Any] = {name: jnp.asarray(value) for name, value in self.fixed.items()}
        for name in self.order:
            known[name] = _quantile(self.priors[name], scores[..., self.names.index(name)], known)
        own = [known[name][..., None] for name in self.names]
        return jnp.concatenate([jnp.zeros((*scores.shape[:-1], 0)), *own], axis=-1)

    def on_circle(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array | np.ndarray, "... size"]:
        """Return whitened points with the components of a periodic quantity at one distance from the origin.

        Only their direction means anything. That is z itself where none is periodic.
        """
        if not self.periodic:
            return z
        parts = [jnp.asarray(z)[..., self.places[name]] for name in self.names]
        return jnp.concatenate([_unit(part) * _RADIUS if part.shape[-1] == 2 else part for part in parts], axis=-1)

    def beside_circle(self, z: Float[Array | np.ndarray, "rows size"]) -> list[Float[Array | np.ndarray, "rows size"]]:
        """Return points a little within and beyond `on_circle`: the box about them holds the arc between them."""
        if not self.periodic:
            return [z]
        around = np.isin(self.components, [name + end for name in self.periodic for end in ("_cos", "_sin")])
        return [jnp.where(around, factor, 1.0) * self.on_circle(z) for factor in (0.95, 1.05)]

    def log_ring(self, z: Float[Array, " size"]) -> Float[Array, ""]:
        """Return the log of a ring's density over that of a standard normal, for the components of what is periodic."""
        log_ratio = jnp.zeros(())
        for name in self.periodic:
            square = (z[self.places[name]] ** 2).sum() + 1e-60
            radius = jnp.sqrt(square)
            ring = norm.logpdf(radius, _RADIUS, _RING_SD) - jnp.log(radius)  # a plane has 2 pi r dr at radius r
            log_ratio += ring + 0.5 * square
        return log_ratio

    @property
    def families(self) -> tuple[str, ...]:
        """How the prior lies along each of the `inputs`: "uniform" or "normal"."""
        return tuple(
            "uniform" if prior.dist in _FLAT and not prior.periodic else "normal"
            for prior in self.priors.values()
            for _ in range(_num_components(prior))
        )

    def inputs(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array | np.ndarray, "... size"]:
        """Return what an emulator sees of whitened points, of mean 0 and variance 1 under the prior.

        It is z, but between the bounds of a flat prior the position itself: what is smooth in a parameter need not
        be in z, which runs to infinity there. Of a periodic quantity they are its cosine and sine.
        """
        flat, z = np.asarray([family == "uniform" for family in self.families], bool), self.on_circle(z)
        if not flat.any():
            return z
        return jnp.where(flat, np.sqrt(12.0) * (ndtr(z) - 0.5), z)

    def speeds(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return each free quantity's derivative, in its own unit, by the one of the `inputs` that is its own."""
        z = jnp.asarray(z)
        return jax.jvp(self.theta, (z,), (jnp.ones_like(z),))[1] / self.input_speeds(z)

    def input_speeds(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return the derivative of each of the `inputs` by its own component of z."""
        z = jnp.asarray(z)
        return jax.jvp(self.inputs, (z,), (jnp.ones_like(z),))[1]

    def with_units(self, units: Mapping[str, str]) -> Space:
        """Return the space with units where the priors say none: those that the simulator's class gives."""
        lacking = {name: units.get(name, "") for name, prior in self.priors.items() if not prior.unit}
        told = {name: prior.model_copy(update={"unit": lacking[name]} if lacking.get(name) else {})
                for name, prior in self.priors.items()}  # fmt: skip
        return Space({**told, **self.fixed})

    def to_json(self) -> dict[str, Any]:
        """Describe the space in plain data."""
        # What was added to priors later is written where it says something: stores of before stay as they are.
        priors = {name: prior.model_dump(exclude=prior.unsaid) for name, prior in self.priors.items()}
        return {"order": list(self.priors), "priors": priors, "fixed": self.fixed}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Space:
        """Rebuild a space from `to_json`."""
        return cls({name: prior_of(stored["priors"][name]) for name in stored["order"]} | dict(stored["fixed"]))

    def __hash__(self) -> int:
        return hash((tuple(self.priors), tuple(self.fixed.items())))
