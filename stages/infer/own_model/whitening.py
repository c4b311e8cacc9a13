"""How whitened points become what a model samples: by the quantiles of its distribution, where these are known.

Where they are not, any smooth map will do, and the density of what it gives beside that of a standard normal counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import digamma, polygamma
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, Transform, biject_to

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.model.quantiles import from_normal, to_normal

WHERE = "infer.model"
_BY_QUANTILES = (
    dist.Normal,
    dist.LogNormal,
    dist.HalfNormal,
    dist.Uniform,
    dist.LogUniform,
    dist.Exponential,
    dist.HalfCauchy,
    dist.Cauchy,
    dist.Laplace,
    dist.Logistic,
    dist.Gumbel,
    dist.Weibull,
    dist.LeftTruncatedDistribution,
    dist.RightTruncatedDistribution,
    dist.TwoSidedTruncatedDistribution,
)  # of each the quantile has derivatives by the distribution's own arguments
_WRAPPERS = dist.Independent, dist.ExpandedDistribution


class Whitening(NamedTuple):
    """The map of one site: `size` components of a whitened point to a value."""

    size: int
    value: Callable[[Float[Array, " size"]], Array]
    log_ratio: Callable[[Float[Array, " size"], Array], Array]
    """The density of the value by its distribution, over the standard normal one of the components."""
    point: Callable[[Array], Float[Array, " size"]]  # the inverse of `value`


class Centre(NamedTuple):
    """Where a site lies under its prior, whatever that depends on: its middle and width, or those of its logarithm."""

    is_log: bool
    middle: float
    width: float

    @classmethod
    def of(cls, drawn: Float[np.ndarray, "..."], is_log: bool) -> Centre:
        """Read it off draws."""
        low, middle, high = np.quantile(np.log(drawn) if is_log else drawn, [0.16, 0.5, 0.84])
        return cls(is_log, float(middle), max(float(0.5 * (high - low)), 1e-300))

    @property
    def transform(self) -> Transform:
        """The map from standard normals to it."""
        along = AffineTransform(self.middle, self.width)
        return ComposeTransform([along, dist.transforms.ExpTransform()]) if self.is_log else along


def scale_of(fn: Any) -> bool | None:
    """Say whether a site can be centred, and if so, whether in the logarithm; None where it cannot."""
    base = fn
    while isinstance(base, _WRAPPERS):
        base = base.base_dist
    by_itself = isinstance(base, _BY_QUANTILES) and base.event_dim == 0
    if by_itself and base.support is dist.constraints.real:
        return False
    return True if by_itself and base.support is dist.constraints.positive else None


def whitening(name: str, fn: Any, centre: Centre | None = None) -> Whitening:
    """Return the map of a site that samples from `fn`; raise ConfigError where a site cannot be sampled.

    One with a `centre` moves by itself, and not relative to what its prior depends on: where the data know each of
    several sites far better than the population that these are of, that is what a sampler gets along in.
    """
    base = fn
    while isinstance(base, _WRAPPERS):
        base = base.base_dist
    shape = tuple(fn.shape())
    if base.is_discrete:
        what = f'it samples "{name}" from {type(base).__name__}, which is discrete; NUTS needs numbers that can move. '
        raise ConfigError([Mistake(WHERE, what + "Sum over it (numpyro.distributions has mixtures), or observe it")])
    if centre is not None:
        return _by_density(fn, centre.transform, shape)
    if isinstance(base, _BY_QUANTILES):
        return Whitening(
            int(np.prod(shape)),
            lambda x: jnp.broadcast_to(from_normal(base, x.reshape(shape)), shape),
            lambda x, value: jnp.zeros(()),
            lambda value: to_normal(base, value).reshape(-1),
        )
    if isinstance(base, dist.MultivariateNormal):
        root = base.scale_tril
        return Whitening(
            int(np.prod(shape)),
            lambda x: base.loc + (root @ x.reshape(*shape, 1))[..., 0],
            lambda x, value: jnp.zeros(()),
            lambda value: jnp.linalg.solve(root, (value - base.loc)[..., None])[..., 0].reshape(-1),
        )
    return _by_density(fn, _near(base), shape)


def _by_density(fn: Any, transform: Transform, shape: tuple[int, ...]) -> Whitening:
    inner = tuple(transform.inverse_shape(shape))

    def log_ratio(x: Array, value: Array) -> Array:
        volume = transform.log_abs_det_jacobian(x.reshape(inner), value)
        return jnp.sum(fn.log_prob(value)) + jnp.sum(volume) - norm.logpdf(x).sum()

    return Whitening(
        int(np.prod(inner)),
        lambda x: jnp.broadcast_to(transform(x.reshape(inner)), shape),
        log_ratio,
        lambda value: transform.inv(value).reshape(-1),
    )


def _near(base: Any) -> Transform:
    """Return a map from standard normals to where a distribution lies, about as wide as it is."""
    onto = biject_to(base.support)
    if isinstance(base, dist.StudentT):
        return AffineTransform(base.loc, base.scale)
    if isinstance(base, (dist.Gamma, dist.InverseGamma)):  # the logarithm's mean and variance
        sign = 1.0 if isinstance(base, dist.Gamma) else -1.0
        loc = sign * (digamma(base.concentration) - jnp.log(base.rate))
        spread = jnp.sqrt(polygamma(1, base.concentration))
        return ComposeTransform([AffineTransform(loc, spread), dist.transforms.ExpTransform()])
    if isinstance(base, dist.Beta):  # those of the logit
        a, b = base.concentration1, base.concentration0
        spread = jnp.sqrt(polygamma(1, a) + polygamma(1, b))
        return ComposeTransform([AffineTransform(digamma(a) - digamma(b), spread), onto])
    return onto
