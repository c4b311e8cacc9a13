"""A function at many rows: the same values whatever the batch, and one program for all of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages import batches
from simfer.stages.batches import in_batches


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


def test_other_weights_and_other_numbers_of_rows_make_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, evaluate = [], batches._evaluate

    def noted(*given: Any) -> Any:
        programs.append(evaluate.lower(*given).as_text())
        return evaluate(*given)

    monkeypatch.setattr(batches, "_evaluate", noted)
    for weights, count in ((jnp.arange(3.0), 300), (jnp.arange(3.0) + 1, 513)):
        in_batches(lambda x, weights=weights: jnp.tanh(x @ weights), np.ones((count, 3)))
    assert len(programs) == 5 and len(set(programs)) == 1
