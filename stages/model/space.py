"""Parameters: their priors, units, and the whitened space in which every prior is a standard normal.

A point there is z = Phi^-1(F(theta)), with F the prior's cumulative distribution function and Phi the standard
normal's. Designs are drawn, networks are trained and NUTS moves in z.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import log_ndtr, ndtr, ndtri
from jaxtyping import Array, Bool, Float
from numpyro.distributions.transforms import biject_to

from simfer.stages.settings import AnyPrior, Prior

# NumPyro inverts these through TensorFlow Probability, or not at all; here their CDFs are inverted by bisection.
_BISECTED = (dist.Beta, dist.BetaProportion, dist.Gamma, dist.Chi2, dist.InverseGamma, dist.StudentT)
_FLAT = ("Uniform", "LogUniform")
_SMALLEST = float(np.finfo(np.float64).tiny)
_LARGEST = 1.0 - float(np.finfo(np.float64).epsneg)


def distribution(prior: Prior) -> dist.Distribution:
    """Build the NumPyro distribution that a prior names."""
    return getattr(dist, prior.dist)(**prior.arguments)


def from_normal(prior: dist.Distribution, z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Map standard normal values to the prior's own scale: theta = F^-1(Phi(z)), monotone and differentiable."""
    if isinstance(prior, dist.Normal):
        return prior.loc + prior.scale * z
    if isinstance(prior, dist.LogNormal):
        return jnp.exp(prior.loc + prior.scale * z)
    if isinstance(prior, dist.Weibull):  # F^-1(u) = scale (-log(1 - u))^(1 / k), with 1 - u = Phi(-z)
        return prior.scale * (-log_ndtr(-z)) ** (1.0 / prior.concentration)
    if isinstance(prior, dist.HalfCauchy):
        return prior.scale * _half_cauchy(z)
    if isinstance(prior, dist.Cauchy):
        return prior.loc + prior.scale * _cauchy(z)
    probability = jnp.clip(ndtr(z), _SMALLEST, _LARGEST)
    if isinstance(prior, _BISECTED):
        return _bisect(prior, probability)
    return prior.icdf(probability)


def to_normal(prior: dist.Distribution, theta: Float[Array, "..."]) -> Float[Array, "..."]:
    """Map values on the prior's own scale to standard normal ones, the inverse of `from_normal`."""
    if isinstance(prior, dist.Normal):
        return (theta - prior.loc) / prior.scale
    if isinstance(prior, dist.LogNormal):
        return (jnp.log(theta) - prior.loc) / prior.scale
    if isinstance(prior, dist.HalfCauchy):
        t = theta / prior.scale
        return _from_tails(t > 1.0, 2.0 / jnp.pi * jnp.arctan2(t, 1.0), 2.0 / jnp.pi * jnp.arctan2(1.0, t))
    if isinstance(prior, dist.Cauchy):
        t = (theta - prior.loc) / prior.scale
        return _from_tails(t > 0.0, jnp.arctan2(1.0, -t) / jnp.pi, jnp.arctan2(1.0, t) / jnp.pi)
    return ndtri(jnp.clip(prior.cdf(theta), _SMALLEST, _LARGEST))


# A heavy tail's digits are in the probability beyond it: Phi(-7) is 1e-12, and of 1 - Phi(7) four digits are left.
# So either half is told by its own tail.
def _half_cauchy(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return tan(pi Phi(z) / 2), the quantile of a half-Cauchy of scale one."""
    return jnp.where(z < 0.0, jnp.tan(0.5 * jnp.pi * _tail(z)), 1.0 / jnp.tan(0.5 * jnp.pi * _tail(-z)))


def _cauchy(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return -cot(pi Phi(z)), the quantile of a Cauchy of scale one."""
    return jnp.where(z < 0.0, -1.0 / jnp.tan(jnp.pi * _tail(z)), 1.0 / jnp.tan(jnp.pi * _tail(-z)))


def _tail(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(ndtr(z), _SMALLEST)


def _from_tails(
    upper: Bool[Array, "..."], below: Float[Array, "..."], above: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the normal quantile with the probability `above` it where `upper`, and with that `below` it elsewhere."""
    inside = [ndtri(jnp.clip(probability, _SMALLEST, _LARGEST)) for probability in (below, above)]
    return jnp.where(upper, -inside[1], inside[0])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _bisect(prior: dist.Distribution, probability: Float[Array, "..."]) -> Float[Array, "..."]:
    unbounded = prior.support is dist.constraints.real
    to_support = (lambda s: jnp.sinh(s)) if unbounded else biject_to(prior.support)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = prior.cdf(to_support(middle)) < probability
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.full(jnp.shape(probability), 700.0)
    low, high = jax.lax.fori_loop(0, 64, halve, (-ends, ends))
    return to_support(0.5 * (low + high))


@_bisect.defjvp
def _bisect_jvp(prior: dist.Distribution, primals: Any, tangents: Any) -> tuple[Array, Array]:
    value = _bisect(prior, *primals)
    return value, tangents[0] * jnp.exp(-prior.log_prob(value))  # d F^-1 / du = 1 / f(F^-1(u))


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
    def size(self) -> int:
        """The number of free quantities."""
        return len(self.priors)

    def values(self, z: Float[Array | np.ndarray, "... size"]) -> dict[str, Float[Array, "..."]]:
        """Return every quantity, the fixed ones too, by name and in its own unit."""
        free = {
            name: from_normal(distribution(prior), jnp.asarray(z[..., i]))
            for i, (name, prior) in enumerate(self.priors.items())
        }
        return free | {name: jnp.full(z.shape[:-1], value) for name, value in self.fixed.items()}

    def theta(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return the free quantities' values, in their own units."""
        values = self.values(z)
        free = [values[name][..., None] for name in self.names]
        return jnp.concatenate([jnp.zeros((*z.shape[:-1], 0)), *free], axis=-1)

    def whiten(self, values: Mapping[str, Any]) -> Float[Array, "... size"]:
        """Return the whitened point of named values; quantities that are fixed may be left out."""
        given = [to_normal(distribution(self.priors[name]), jnp.asarray(values[name], float)) for name in self.names]
        return jnp.stack(jnp.broadcast_arrays(*given), axis=-1)

    @property
    def families(self) -> tuple[str, ...]:
        """How the prior lies along each of the `inputs`: "uniform" or "normal"."""
        return tuple("uniform" if prior.dist in _FLAT else "normal" for prior in self.priors.values())

    def inputs(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return what an emulator sees of whitened points, of mean 0 and variance 1 under the prior.

        It is z, but between the bounds of a flat prior the position itself: what is smooth in a parameter need not
        be in z, which runs to infinity there.
        """
        flat = np.asarray([family == "uniform" for family in self.families], bool)
        if not flat.any():
            return jnp.asarray(z)
        return jnp.where(flat, np.sqrt(12.0) * (ndtr(jnp.asarray(z)) - 0.5), z)

    def speeds(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return each free quantity's derivative, in its own unit, by the one of the `inputs` that is its own."""
        z = jnp.asarray(z)
        return jax.jvp(self.theta, (z,), (jnp.ones_like(z),))[1] / self.input_speeds(z)

    def input_speeds(self, z: Float[Array | np.ndarray, "... size"]) -> Float[Array, "... size"]:
        """Return the derivative of each of the `inputs` by its own component of z."""
        z = jnp.asarray(z)
        return jax.jvp(self.inputs, (z,), (jnp.ones_like(z),))[1]

    def to_json(self) -> dict[str, Any]:
        """Describe the space in plain data."""
        priors = {name: prior.model_dump() for name, prior in self.priors.items()}
        return {"order": list(self.priors), "priors": priors, "fixed": self.fixed}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Space:
        """Rebuild a space from `to_json`."""
        from pydantic import TypeAdapter

        read: Any = TypeAdapter[Prior](AnyPrior).validate_python
        return cls({name: read(stored["priors"][name]) for name in stored["order"]} | dict(stored["fixed"]))

    def __hash__(self) -> int:
        return hash((tuple(self.priors), tuple(self.fixed.items())))
