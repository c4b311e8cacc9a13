"""A function at many rows: the same values whatever the batch, and one program for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages import batches
from simfer.stages.batches import compiled, compiler_options, in_batches, split_keys
from tests.compilations import programs


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 21])
def test_every_row_has_its_own_value(count: int, together: bool) -> None:
    rows = {"x": np.arange(3.0 * count).reshape(count, 3), "n": np.arange(count)}
    found = in_batches(lambda row: (row["x"].sum() * 2, {"n": row["n"] + 1}), rows, size=8, together=together)
    assert np.array_equal(found[0], 2 * rows["x"].sum(axis=1)) and np.array_equal(found[1]["n"], rows["n"] + 1)
    assert isinstance(found[0], np.ndarray)


def test_keys_are_rows_as_well() -> None:
    keys = jax.random.split(jax.random.key(3), 5)
    found = in_batches(lambda key: jax.random.normal(key, (2,)), keys, size=4, together=False)
    assert np.array_equal(found, jnp.stack([jax.random.normal(key, (2,)) for key in keys]))


def test_other_weights_and_other_numbers_of_rows_are_the_same_program() -> None:
    with programs() as names:
        for weights, count in ((np.arange(3.0), 300), (np.arange(3.0) + 1, 513)):
            found = in_batches(lambda x, weights=weights: jnp.tanh(x @ weights), np.ones((count, 3)))
            assert found.shape == (count,) and np.allclose(found, np.tanh(weights.sum()))
    assert len(names) <= 1  # none, if another test had it already


def test_another_function_of_the_same_shapes_is_another_program() -> None:
    double, treble = (in_batches(lambda x, by=by: by * x.sum(), np.ones((3, 2))) for by in (2.0, 3.0))
    assert np.array_equal(double, [4.0] * 3) and np.array_equal(treble, [6.0] * 3)


def test_a_function_of_pythons_is_called_by_whoever_asks() -> None:
    def twice(by: float) -> Callable[[jax.Array], jax.Array]:
        shape = jax.ShapeDtypeStruct((), float)
        return lambda x: jax.pure_callback(lambda x: np.asarray(by * x), shape, x, vmap_method="sequential")

    rows = np.array([1.0, 5.0])
    assert np.array_equal(in_batches(twice(2.0), rows), [2.0, 10.0])
    assert np.array_equal(in_batches(twice(3.0), rows), [3.0, 15.0])


def test_an_argument_that_is_not_used_may_have_another_shape() -> None:
    for size in (3, 4):
        assert compiled(lambda x, _: 7.0 * x, np.ones(2), np.ones(size))(np.ones(2), np.ones(size))[0] == 7.0


def test_a_number_of_pythons_is_an_argument_as_well() -> None:
    double = compiled(lambda x, by, turns: jax.lax.fori_loop(0, turns, lambda _, x: by * x, x), np.ones(2), 2.0, 1)
    assert np.array_equal(double(np.ones(2), 3.0, 2), [9.0, 9.0])


def test_keys_of_rows_are_those_that_jax_splits_off() -> None:
    keys = jax.random.key_data(jax.random.split(jax.random.key(5), 7))
    assert np.array_equal(split_keys(5, 7), keys)


def test_an_option_that_this_jaxlib_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_SPARED", {"cpu": {"xla_cpu_of_another_year": False}})
    monkeypatch.setattr(batches, "_spared", cache(batches._spared.__wrapped__))
    assert compiler_options("usual") == {}
    assert compiled(lambda x: 2.0 * x, np.ones(2), effort="least")(np.ones(2)).tolist() == [2.0, 2.0]


def test_what_runs_for_minutes_is_compiled_as_xla_would_by_itself() -> None:
    assert compiler_options("most") == {}
    assert compiler_options("least").keys() > compiler_options("usual").keys()
