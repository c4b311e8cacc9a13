"""The density of data given the parameters, of any shape: Gaussians that normalizing flows bend, one for each member.

y -> u = M(x) (y - m(x)) -> n = T(u; x), standard normal. The mean m and the lower triangle M are networks, and T is a
masked autoregressive flow of splines (`splines`) that begins as the identity: training begins at the Gaussian.

What is learned is the density of the DATA, measurement noise included: a Gaussian can be marginalised to some of the
outputs and convolved with noise, a flow can be neither. So it is tied to the outputs that were measured and to their
noise, whose free parameters are inputs beside the simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from simfer.stages.emulator.networks import build_networks
from simfer.stages.emulator.scatter import lower, num_entries
from simfer.stages.emulator.splines import Splines

_NETWORK = "residual"  # of means and triangles
_REACH = 5.0  # sd of u beyond which splines are straight
_BEGIN = 0.3  # of an untrained triangle's entries: training begins near the identity


class Density(eqx.Module):
    """The density of one member: `size` scaled data at a network's input."""

    mean: PyTree
    base: Float[Array, "size size"]  # turns what `mean` gives into the units of the data here
    triangle: PyTree
    bend: Splines | None  # None of a Gaussian
    scale_sees: bool = eqx.field(static=True, default=True)  # or the triangle is the same at all inputs

    def moments(self, x: Float[Array, " inputs"]) -> tuple[Float[Array, " size"], Float[Array, "size size"]]:
        """Return m and M at an input."""
        mean = jax.lax.stop_gradient(self.base) @ self.mean(x)
        seen = x if self.scale_sees else jnp.zeros_like(x)
        return mean, lower(_BEGIN * self.triangle(seen), len(mean))

    def log_prob(self, x: Float[Array, " inputs"], y: Float[Array, " size"]) -> Float[Array, ""]:
        """Return the log density of scaled data."""
        mean, triangle = self.moments(x)
        n, volume = triangle @ (y - mean), jnp.log(jnp.diag(triangle)).sum()
        if self.bend is not None:
            n, more = self.bend(n, x)
            volume += more
        return volume - 0.5 * (n**2).sum() - 0.5 * np.log(2.0 * np.pi).astype(n.dtype) * len(n)

    def sample(self, x: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " size"]:
        """Draw scaled data."""
        mean, triangle = self.moments(x)
        n = jax.random.normal(key, mean.shape, mean.dtype)
        u = n if self.bend is None else self.bend.inverse(n, x)
        return mean + jax.scipy.linalg.solve_triangular(triangle, u, lower=True)

    def normal(self, x: Float[Array, " inputs"], y: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return n, which is standard normal where the density is right."""
        mean, triangle = self.moments(x)
        u = triangle @ (y - mean)
        return u if self.bend is None else self.bend(u, x)[0]


class Flow(eqx.Module):
    """An ensemble of densities: their mean is the density of the data, flat and in the scale of `Likelihood.flat`."""

    members: Density  # weights with a leading axis over the members; all else is the same in every one
    center: Float[Array, " inputs"]
    spread: Float[Array, " inputs"]
    location: Float[Array, " size"]
    to_q: Float[Array, "size size"]  # scaled data are to_q (y - location)
    folds: int = eqx.field(static=True, default=5, kw_only=True)  # parts of the rows; a member has not seen one

    def log_prob(self, x: Float[Array, " inputs"], y: Float[Array, " size"]) -> Float[Array, ""]:
        """Return the log density of data, by the members' mean."""
        each = self.each(x, y)
        return jax.scipy.special.logsumexp(each) - np.log(len(each))

    def each(self, x: Float[Array, " inputs"], y: Float[Array, " size"]) -> Float[Array, " members"]:
        """Return the log density of data by every member."""
        logs = self._of_all(lambda member: member.log_prob(self._scaled(x), self._flat(y)))
        return logs.astype(y.dtype) + jnp.linalg.slogdet(self.to_q)[1]

    def sample(self, x: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " size"]:
        """Draw data, from a member that is drawn too."""
        which, key = jax.random.split(key)
        arrays, static = eqx.partition(self.members, eqx.is_inexact_array)
        number = jax.random.randint(which, (), 0, len(jax.tree.leaves(arrays)[0]))
        member: Density = eqx.combine(jax.tree.map(lambda leaf: leaf[number], arrays), static)
        scaled = member.sample(self._scaled(x), key).astype(self.location.dtype)
        return self.location + jnp.linalg.solve(self.to_q, scaled)

    def normal(self, x: Float[Array, " inputs"], y: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return what the first member turns data into: about standard normal where the density is right."""
        arrays, static = eqx.partition(self.members, eqx.is_inexact_array)
        first: Density = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), static)
        return first.normal(self._scaled(x), self._flat(y)).astype(y.dtype)

    def _scaled(self, x: Array) -> Array:
        return ((x - self.center) / self.spread).astype(self._dtype)

    def _flat(self, y: Array) -> Array:
        return (self.to_q @ (y - self.location)).astype(self._dtype)

    @property
    def _dtype(self) -> Any:
        return jax.tree.leaves(eqx.filter(self.members, eqx.is_inexact_array))[0].dtype

    def _of_all(self, evaluate: Any) -> Array:
        arrays, static = eqx.partition(self.members, eqx.is_inexact_array)
        return jax.vmap(lambda arrays: evaluate(eqx.combine(arrays, static)))(arrays)


def build_densities(about: Mapping[str, Any], keys: PRNGKeyArray) -> Density:
    """Build an ensemble of untrained densities, a key each.

    `about` is what an emulator's header says of a flow: `size`, `inputs`, `layers` (0 of a Gaussian), `width`, `bins`,
    whether its shape `sees` the inputs and its scale does (`scale_sees`), and the `dtype`; of the whole, `members` and
    `folds` too.
    """
    size, inputs, dtype = about["size"], about["inputs"], about["dtype"]
    wide = {"width": about["width"]}
    three = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    given = {"families": ("uniform",) * inputs, "layout": None, "varies": (True,) * size}
    build = lambda outputs, keys: build_networks(_NETWORK, wide, (inputs, outputs), keys, dtype, given)  # noqa: E731
    base = jnp.broadcast_to(jnp.eye(size, dtype=dtype), (len(keys), size, size))
    mean, triangle, bend = build(size, three[:, 0]), build(num_entries(size), three[:, 1]), _bend(about, three[:, 2])
    return Density(mean, base, triangle, bend, about.get("scale_sees", True))


def _bend(about: Mapping[str, Any], keys: PRNGKeyArray) -> Splines | None:
    if not about["layers"]:
        return None
    options = {name: about[name] for name in ("layers", "width", "bins")}
    if about["size"] == 1:
        options["layers"] = 1  # there is no order of outputs to change
    seen = about["inputs"] if about["sees"] else 0
    made = eqx.filter_vmap(lambda key: Splines(about["size"], seen, key=key, reach=_REACH, **options))(keys)
    return jax.tree.map(lambda leaf: leaf.astype(about["dtype"]), made)


def blank_flow(about: Mapping[str, Any]) -> Flow:
    """Return a flow whose arrays have their shapes, and are yet to be read."""
    size, inputs = about["size"], about["inputs"]
    keys = jax.random.split(jax.random.key(0), about["members"])
    members = eqx.filter_eval_shape(lambda: build_densities(about, keys))
    scales = jnp.zeros(inputs), jnp.zeros(inputs), jnp.zeros(size), jnp.zeros((size, size))
    return Flow(members, *scales, folds=about.get("folds", 5))
