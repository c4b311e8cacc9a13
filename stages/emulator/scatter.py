"""How a random simulator scatters about its mean: a Gaussian, whose covariance is a function of the parameters.

Outputs at neighbouring times go up and down together; a variance for each alone would count them as that many
independent data, and the posterior would be far too narrow. So the whole covariance is learned.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from simfer.stages.batches import in_batches

MOST_OUTPUTS = 64  # of which a covariance has 2,080 entries to be learned


class Scatter(eqx.Module):
    """An ensemble of networks that gives the Cholesky factor of the scatter's covariance, in the transformed scale.

    A residual r is `base` q, with `base` the Cholesky factor of all training rows' residuals together, and M q is
    standard normal. The lower triangular M is what the networks give: the identity, were the scatter the same
    everywhere. As the members' mean it is one in the log-Cholesky metric (Lin 2019).
    """

    networks: PyTree  # every leaf with a leading axis over the members
    base: Float[Array, "outputs size"]  # the rows of outputs that never vary are zero
    whitened: Float[Array, "rows size"]  # M q of training rows, by members that did not see them
    spread: Float[Array, "rows size"]  # the members' variance about their mean, there and in these directions
    excess: Float[Array, " size"]  # of the variance of `whitened` beyond 1: the emulator's error in these directions

    def whitening(self, x: Float[Array, " inputs"]) -> Float[Array, "size size"]:
        """Return M at a network's input."""
        raw = eqx.filter_vmap(lambda network: network(x))(self.networks).mean(axis=0)
        return lower(raw.astype(self.base.dtype), self.base.shape[1])

    def factor(self, x: Float[Array, " inputs"]) -> Float[Array, "size outputs"]:
        """Return F with F^T F the covariance of the scatter, in the transformed scale."""
        return self._factor(self.whitening(x))

    def factors(self, x: Float[Array, " inputs"]) -> Float[Array, "members size outputs"]:
        """Return the same of every member."""
        raw = eqx.filter_vmap(lambda network: network(x))(self.networks).astype(self.base.dtype)
        return jax.vmap(lambda raw: self._factor(lower(raw, self.base.shape[1])))(raw)

    def _factor(self, whitening: Float[Array, "size size"]) -> Float[Array, "size outputs"]:
        return jax.scipy.linalg.solve_triangular(whitening, self.base.T, lower=True, trans=1)


def make_scatter(networks: PyTree, base: Float[np.ndarray, "outputs size"], num_rows: int) -> Scatter:
    """Put networks and their base together, what cross-validation says still blank."""
    rows = jnp.zeros((num_rows, base.shape[1]))
    return Scatter(networks, jnp.asarray(base), rows, rows, jnp.zeros(base.shape[1]))


def num_entries(size: int) -> int:
    """Return the number of entries of a lower triangle."""
    return size * (size + 1) // 2


def lower(raw: Float[Array, " entries"], size: int) -> Float[Array, "size size"]:
    """Arrange what a network gives as a lower triangle with a positive diagonal."""
    at = np.tril_indices(size)
    # An untrained network's entries are of order 1 and `size` of them are summed: divided, all sizes start alike.
    entries = jnp.where(at[0] == at[1], jnp.exp(raw), raw / np.sqrt(size).astype(raw.dtype))
    return jnp.zeros((size, size), raw.dtype).at[at].set(entries)


def cross_validated(
    scatter: Scatter,
    x: Float[np.ndarray, "rows inputs"],
    unseen_by: Int[np.ndarray, " rows"],
    residuals: Float[np.ndarray, "rows outputs"],
    members: Float[np.ndarray, "rows members outputs"],
    keep: int,
) -> Scatter:
    """Return the scatter with what cross-validation says of it; `unseen_by` is a member that did not see the row."""
    base = np.asarray(scatter.base)
    active = base.any(axis=1)
    to_q = np.linalg.inv(base[active]).T
    factors = (members - members.mean(axis=1, keepdims=True)) / np.sqrt(max(members.shape[1] - 1, 1))
    q, spread = residuals[:, active] @ to_q, factors[:, :, active] @ to_q

    def one(row: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        x, member, q, spread = row
        raw = eqx.filter_vmap(lambda network: network(x))(scatter.networks).astype(q.dtype)
        whitening = lower(raw.mean(axis=0), len(q))
        return lower(raw[member], len(q)) @ q, ((spread @ whitening.T) ** 2).sum(axis=0)

    whitened, spread = in_batches(one, (x, unseen_by, q, spread))
    even = np.full(len(x), 1.0 / len(x))
    left_over = jnp.asarray(excess(whitened, spread, even))
    return Scatter(
        scatter.networks, scatter.base, jnp.asarray(whitened[-keep:]), jnp.asarray(spread[-keep:]), left_over
    )


def excess(
    whitened: Float[np.ndarray, "rows size"],
    spread: Float[np.ndarray, "rows size"],
    weights: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " size"]:
    """Return what whitened cross-validated residuals vary beyond the scatter and the members' spread (weighted means).

    A row's residual holds the simulator's scatter, whose variance here is 1, and the error of the mean that was
    predicted for it. The scatter stands in the likelihood already: only what is left over is the emulator's error.
    It is read direction by direction in which the scatter is independent, since an error that is learned from
    scattered rows is shaped as their scatter (in a linear regression it is the leverage times it), and since a
    variance added to each output alone would drown the differences of outputs that scatter together.
    """
    return np.maximum(_beyond(whitened, spread, weights), 0.0)


def excess_of_few(
    whitened: Float[np.ndarray, "rows size"],
    spread: Float[np.ndarray, "rows size"],
    weights: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " size"]:
    """Return the same of rows that are few, as those near the data are: directions take after what they have in common.

    A mean of fifty squares has a standard error of a fifth of it, and what is below one is no excess: taken one by one,
    half of all directions would be widened by chance alone. They keep what they differ by beyond that (empirical Bayes,
    Efron & Morris 1973).
    """
    each = _beyond(whitened, spread, weights)
    if len(each) < 2:
        return np.maximum(each, 0.0)
    chance = 2.0 * float((weights**2).sum()) * (1.0 + each.mean()) ** 2
    real = max(float(each.var(ddof=1)) - chance, 0.0)
    return np.maximum(each.mean() + real / (real + chance) * (each - each.mean()), 0.0)


def _beyond(
    whitened: Float[np.ndarray, "rows size"],
    spread: Float[np.ndarray, "rows size"],
    weights: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " size"]:
    return np.asarray(weights @ (whitened**2 - spread) - 1.0)
