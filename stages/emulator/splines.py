"""A flow of standard normals: rational quadratic splines, each output's a function of those before it and of theta.

Masked autoregressive (Papamakarios et al. 2017; Durkan et al. 2019). It begins as the identity, exactly: what it is put
upon, a Gaussian, is where its training begins. All that is fixed (masks, orders) is made of static sizes: members
stack, and an untrained flow has shapes without a number being drawn. (FlowJAX's flows keep numbers in a function, so
that to load one took five seconds, and what is saved would be in a format of its own.)
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

_LEAST = 1e-3  # width, height and slope of a bin, the first two in shares of all


def spline(
    x: Float[Array, ""], raw: Float[Array, " parameters"], reach: float, back: bool = False
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Evaluate a monotone spline through bins within +-reach, the identity beyond, or its inverse; and its log slope.

    `raw` holds logits of the bins' widths and heights, and the logarithms of the slopes between them; zeros are the
    identity.
    """
    bins = (len(raw) + 1) // 3
    left, right = (_knots(each, reach) for each in (raw[:bins], raw[bins : 2 * bins]))
    one = jnp.ones(1, raw.dtype)
    slope = jnp.concatenate([one, _slopes(raw[2 * bins :]), one])
    own = right if back else left
    inside = jnp.clip(x, -reach, reach)
    at = jnp.clip(jnp.sum(inside >= own[1:-1]), 0, bins - 1)
    x0, x1, y0, y1, d0, d1 = left[at], left[at + 1], right[at], right[at + 1], slope[at], slope[at + 1]
    s, bend = (y1 - y0) / (x1 - x0), d0 + d1 - 2 * (y1 - y0) / (x1 - x0)
    t = _place(inside - y0, y1 - y0, s, d0, bend) if back else (inside - x0) / (x1 - x0)
    u = t * (1 - t)
    value = x0 + t * (x1 - x0) if back else y0 + (y1 - y0) * (s * t**2 + d0 * u) / (s + bend * u)
    log = 2 * jnp.log(s) + jnp.log(d1 * t**2 + 2 * s * u + d0 * (1 - t) ** 2) - 2 * jnp.log(s + bend * u)
    beyond = jnp.abs(x) >= reach
    return jnp.where(beyond, x, value), jnp.where(beyond, 0.0, -log if back else log)


def _place(
    rise: Float[Array, ""], height: Float[Array, ""], s: Float[Array, ""], d0: Float[Array, ""], bend: Float[Array, ""]
) -> Float[Array, ""]:
    """Return how far into a bin a spline has risen so much (Durkan et al. 2019, equations 6 to 8)."""
    a, b, c = height * (s - d0) + rise * bend, height * d0 - rise * bend, -s * rise
    return 2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0.0)))


def _slopes(raw: Float[Array, " inner"]) -> Float[Array, " inner"]:
    one = float(np.log(np.expm1(1.0 - _LEAST)))  # softplus of which, and the least, is 1
    return _LEAST + jax.nn.softplus(raw + one)


def _knots(logits: Float[Array, " bins"], reach: float) -> Float[Array, " edges"]:
    share = _LEAST + (1 - _LEAST * len(logits)) * jax.nn.softmax(logits)
    inner = jnp.cumsum(share)[:-1] * (2 * reach) - reach
    end = jnp.full(1, reach, logits.dtype)
    return jnp.concatenate([-end, inner, end])


class Layer(eqx.Module):
    """Splines of all outputs, whose bins a masked network gives: output i sees those before it, and theta if at all."""

    first: Float[Array, "width size"]
    given: Float[Array, "width inputs"]
    bias: Float[Array, " width"]
    last: Float[Array, "size parameters width"]
    offset: Float[Array, "size parameters"]
    reach: float = eqx.field(static=True)

    def __init__(self, size: int, inputs: int, *, key: PRNGKeyArray, width: int, bins: int, reach: float) -> None:
        keys = jax.random.split(key, 3)
        # As equinox.nn.Linear has them. Wider, they are rough functions of theta that learn few rows by heart.
        most = float(1.0 / np.sqrt(size + inputs))
        shapes = (width, size), (width, inputs), (width,)
        self.first, self.given, self.bias = (
            jax.random.uniform(key, shape, minval=-most, maxval=most) for key, shape in zip(keys, shapes, strict=True)
        )
        self.last, self.offset = jnp.zeros((size, 3 * bins - 1, width)), jnp.zeros((size, 3 * bins - 1))
        self.reach = reach

    def _bins(self, u: Float[Array, " size"], x: Float[Array, " inputs"]) -> Float[Array, "size parameters"]:
        width, size = self.first.shape
        # A unit of degree k sees outputs below k; output i hears units of degree i at most.
        degree, output = np.arange(width) % size, np.arange(size)
        sees, hears = degree[:, None] > output, output[:, None] >= degree
        hidden = jax.nn.silu(jnp.where(sees, self.first, 0.0) @ u + self.given @ x[: self.given.shape[1]] + self.bias)
        return jnp.einsum("ipw,w->ip", jnp.where(hears[:, None], self.last, 0.0), hidden) + self.offset

    def __call__(self, u: Float[Array, " size"], x: Float[Array, " inputs"]) -> tuple[Array, Array]:
        """Return the transformed outputs and the log determinant."""
        values, logs = jax.vmap(lambda u, raw: spline(u, raw, self.reach))(u, self._bins(u, x))
        return values, logs.sum()

    def inverse(self, v: Float[Array, " size"], x: Float[Array, " inputs"]) -> Float[Array, " size"]:
        """Return what is transformed to v, one output after another."""

        def one(i: Array, u: Array) -> Array:
            return u.at[i].set(spline(v[i], self._bins(u, x)[i], self.reach, back=True)[0])

        return jax.lax.fori_loop(0, len(v), one, jnp.zeros_like(v))


class Splines(eqx.Module):
    """Layers, the outputs in the opposite order in every other one."""

    layers: list[Layer]

    def __init__(
        self, size: int, inputs: int, *, key: PRNGKeyArray, layers: int, width: int, bins: int, reach: float
    ) -> None:
        keys = jax.random.split(key, layers)
        self.layers = [Layer(size, inputs, key=k, width=width, bins=bins, reach=reach) for k in keys]

    def __call__(self, u: Float[Array, " size"], x: Float[Array, " inputs"]) -> tuple[Array, Array]:
        """Return what is standard normal, and the log determinant."""
        total = jnp.zeros((), u.dtype)
        for layer in self.layers:
            u, log = layer(u, x)
            u, total = u[::-1], total + log
        return u, total

    def inverse(self, n: Float[Array, " size"], x: Float[Array, " inputs"]) -> Float[Array, " size"]:
        """Return the outputs that a standard normal stands for."""
        for layer in self.layers[::-1]:
            n = layer.inverse(n[::-1], x)
        return n
