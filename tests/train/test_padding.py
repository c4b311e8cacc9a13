"""Rows that only fill up: they change no loss, no median and no step, whatever is in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.train.feed import Rows, padded_size
from simfer.stages.train.losses import loss_of, mean_of, median_of, robust_mean
from simfer.stages.train.phases import _slope


def test_few_sizes_stand_for_all_and_none_is_much_larger() -> None:
    counts = np.arange(1, 200_000, 37)
    sizes = np.array([padded_size(int(count)) for count in counts])
    assert (sizes >= counts).all() and (sizes < 2 * counts + 1).all()
    assert (sizes[counts > 4096] <= 1.126 * counts[counts > 4096]).all()
    assert len(set(sizes.tolist())) <= 13 + 8 * 6
    assert padded_size(230) == padded_size(256) == 256 and padded_size(257) == 512


@pytest.mark.parametrize("count", [1, 2, 7, 10])
@pytest.mark.parametrize("robust", [False, True, 3.0])
def test_means_and_medians_are_those_of_the_rows_that_count(count: int, robust: bool | float) -> None:
    each = np.random.default_rng(count).exponential(size=count) ** 3
    filled, real = np.concatenate([each, [np.inf, 0.0, 1e9]]), np.arange(count + 3) < count
    assert float(median_of(jnp.asarray(filled), jnp.asarray(real))) == pytest.approx(float(np.median(each)))
    assert float(mean_of(jnp.asarray(filled), jnp.asarray(real))) == pytest.approx(float(each.mean()))
    filled[-3] = 1e12  # finite, as rows that are there again are
    got = robust_mean(jnp.asarray(filled), robust, jnp.asarray(real))
    assert float(got) == pytest.approx(float(robust_mean(jnp.asarray(each), robust)))


@pytest.mark.parametrize("count", [5, 192, 193, 500])
def test_a_slope_over_parts_is_that_over_all_rows_at_once(count: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 2)), rng.normal(size=(600, 1))
    rows, trains = Rows(jnp.asarray(x), jnp.asarray(y)), rng.permutation(600)
    weights = jnp.asarray(rng.normal(size=(2, 1)))

    def loss(weights: jax.Array, at: jax.Array, count: jax.Array | None = None) -> jax.Array:
        real = None if count is None else jnp.arange(len(at)) < count
        return loss_of()(lambda x: jnp.tanh(x @ weights), rows.pick(at)._replace(real=real))

    exact = jax.value_and_grad(loss)(weights, jnp.asarray(trains[:count]))
    found = jax.jit(lambda count: _slope(loss, jnp.asarray(trains), count)(weights))(jnp.asarray(count))
    for one, other in zip(exact, found, strict=True):
        assert np.allclose(one, other, rtol=1e-12)
