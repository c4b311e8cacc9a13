"""An emulator says in a line, and in a notebook's table, what it is of."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from simfer.stages.emulator.description import relative_errors
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from tests import helpers

KEPT = helpers.ROOT / "tests" / "emulator" / "kept"


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return load_emulator(KEPT / "format4" / "residual")


def test_it_says_what_goes_in_and_out_and_not_what_is_within(emulator: Emulator) -> None:
    said = repr(emulator)
    assert "\n" not in said and len(said) < 300
    for part in ("residual", "alpha [1/time]", "prey", f"{emulator.layout.outputs['prey'].shape}", "of the spread"):
        assert part in said


def test_a_notebook_shows_units_shapes_and_errors(emulator: Emulator) -> None:
    shown = emulator._repr_html_()
    errors = relative_errors(emulator)
    assert set(errors) == set(emulator.layout.outputs) and all(0 < each < 1 for each in errors.values())
    for part in ("alpha", "1/time", "LogNormal", f"time: {emulator.layout.outputs['prey'].size}", "residual"):
        assert part in shown
    assert all(f"{each:.2g}" in shown for each in errors.values())
    assert shown.count("<tr>") == shown.count("</tr>") == 2 + 3 + len(emulator.space.fixed) + 2


def test_names_cannot_end_a_tag() -> None:
    folder, unit = KEPT / "format3" / "random", "<b>"
    emulator = load_emulator(folder)
    object.__setattr__(emulator.layout.outputs["x"], "unit", unit)
    assert unit not in emulator._repr_html_() and "&lt;b&gt;" in emulator._repr_html_()


def test_errors_are_those_of_rows_that_were_not_seen(emulator: Emulator) -> None:
    at = emulator.layout.slices["prey"]
    squared = (np.asarray(emulator.residuals)[:, at] ** 2).mean()
    variance = np.asarray(emulator.training_y)[:, at].var(axis=0).mean()
    assert relative_errors(emulator)["prey"] == pytest.approx(np.sqrt(squared / variance))


def test_it_has_a_repr_where_arrays_have_no_values(emulator: Emulator) -> None:
    said: list[Any] = []

    @jax.jit
    def traced(leaves: Any) -> Any:
        said.append(repr(eqx.combine(leaves, static)))
        return leaves.location

    leaves, static = eqx.partition(emulator, eqx.is_array)
    traced(leaves)
    assert said == [repr(static)] and "of the spread" not in said[0] and "alpha" in said[0]


def test_headers_are_equal_where_they_read_alike(emulator: Emulator) -> None:
    again, other = load_emulator(KEPT / "format4" / "residual"), load_emulator(KEPT / "format4" / "cosmopower")
    assert again.header is not emulator.header
    assert again.header == emulator.header and hash(again.header) == hash(emulator.header)
    assert other.header != emulator.header and emulator.header != "a header"
    # `jit` compiles once for emulators that differ in their arrays alone.
    count = 0

    @eqx.filter_jit
    def evaluate(emulator: Emulator, z: Any) -> Any:
        nonlocal count
        count += 1
        return emulator.members(z)

    for each in (emulator, again):
        evaluate(each, np.zeros(emulator.space.size))
    assert count == 1
