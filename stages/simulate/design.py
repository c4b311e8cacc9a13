"""Where to simulate: designs in the whitened space, whose row i depends on the seed and i alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

if TYPE_CHECKING:
    from scipy.stats import qmc


def rows(kind: str, start: int, stop: int, total: int, size: int, seed: int) -> Float[np.ndarray, "rows size"]:
    """Return rows `start` to `stop` of a design of `total` rows in `size` dimensions.

    "sobol" (scrambled; Owen 1998) and "prior" keep their first rows when `total` grows; "latin_hypercube" cannot.
    """
    if kind == "prior":
        draw = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), (size,)))
        return np.asarray(draw(jnp.arange(start, stop)))
    from scipy.stats import qmc

    if kind == "latin_hypercube":
        return _normal(qmc.LatinHypercube(size, rng=np.random.default_rng(seed)).random(total)[start:stop])
    sobol = qmc.Sobol(size, rng=np.random.default_rng(seed))
    if start:
        sobol.fast_forward(start)
    # SciPy warns where a block is not a power of two; the whole sequence is what is balanced, not a block of it.
    return _normal(sobol.random(stop - start) if start else _first(sobol, stop))


def _first(sobol: qmc.Sobol, count: int) -> Float[np.ndarray, "rows size"]:
    exponent = max(int(count - 1).bit_length(), 0)
    return sobol.random_base2(exponent)[:count]


def _normal(uniform: Float[np.ndarray, "rows size"]) -> Float[np.ndarray, "rows size"]:
    # Sobol points carry 30 bits and may be exactly zero: half a bit keeps them inside.
    return ndtri(np.clip(uniform, 2.0**-31, 1.0 - 2.0**-31))


def picked(total: int, num: int, seed: int) -> Int[np.ndarray, " num"]:
    """Pick `num` of `total` rows at random, or all if those are fewer, none of them twice."""
    return np.random.default_rng(seed).permutation(total)[:num]


def saltelli(num: int, size: int, seed: int) -> Float[np.ndarray, "num designs size"]:
    """Return `num` pairs of points A and B, each with what lies between them: A, A with one component of B, ..., B.

    The pairs are a scrambled Sobol sequence in twice the dimensions (Saltelli 2002).
    """
    from SALib.sample import sobol

    problem = {"num_vars": size, "names": [f"z_{i}" for i in range(size)], "bounds": [[0.0, 1.0]] * size}
    uniform = sobol.sample(problem, num, calc_second_order=False, seed=seed)
    return _normal(uniform.reshape(num, size + 2, size))


def stretched(
    draws: Float[np.ndarray, "draws size"],
    places: Int[np.ndarray, " draws"],
    start: int,
    stop: int,
    stretch: float,
    seed: int,
) -> Float[np.ndarray, "rows size"]:
    """Return rows of a design that follows whitened posterior draws, stretched about the median of each one's place.

    The stretch keeps the next emulator's training set wider than the posterior that it must describe. Of separate
    places (modes) each is stretched in itself: about a median between them, rows would lie where neither is.
    """
    numbers, which = np.unique(places, return_inverse=True)
    medians = np.stack([np.median(draws[places == number], axis=0) for number in numbers])
    rows = shuffled(len(draws), start, stop, seed)
    median = medians[which[rows]]
    return median + stretch * (draws[rows] - median)


def shuffled(total: int, start: int, stop: int, seed: int) -> Int[np.ndarray, " rows"]:
    """Return the numbers of the draws that rows of a stretched design come from."""
    order = np.asarray(jax.jit(lambda seed: jax.random.permutation(jax.random.key(seed), total))(seed))
    return order[np.arange(start, stop) % total]
