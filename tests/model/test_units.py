"""The same problem in another unit has the same likelihood: no constant of ours floors data."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from simfer.stages.model import noise as noises
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import read
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.prediction import Prediction
from simfer.stages.model.transforms import scaled_floor
from simfer.stages.model.units import contradict
from simfer.stages.settings import AnyNoise, Noise, Observation

YEAST = np.array([9.6, 29.0, 71.1, 174.6, 350.7, 513.3, 594.8, 640.8, 655.9, 661.8])  # Carlson (1913)
UNIT = 1e-13  # cells in mol/ml, say


def likelihood(folder: Path, unit: float) -> Likelihood:
    """Return the likelihood of the yeast in some unit, its noise log-normal."""
    rows = "".join(f"{2 * i},{float(y * unit)!r}\n" for i, y in enumerate(YEAST))
    (folder / "yeast.csv").write_text("time,yeast\n" + rows)
    layout = Layout({"yeast": Output(("time",), {"time": np.arange(0.0, 20.0, 2.0)})})
    noise: Noise = TypeAdapter(AnyNoise).validate_python({"dist": "LogNormal", "scale": 0.05})
    return Likelihood(
        {"yeast": noise}, read(Observation(file=str(folder / "yeast.csv")), layout), layout, {"yeast": "log"}
    )


def test_a_likelihood_does_not_depend_on_the_unit(tmp_path: Path) -> None:
    """But for the density's own unit, a constant: by the outputs themselves, and by an emulator with an error."""
    curves = YEAST * np.exp(0.1 * np.random.default_rng(0).normal(size=(5, 10)))
    values = []
    for unit in (1.0, UNIT):
        made = likelihood(tmp_path, unit)
        floor = scaled_floor(1e-10, {"yeast": "log"}, {"yeast": float((curves * unit).max())})
        mean = jnp.asarray(made.to_transformed(curves * unit, floor))
        error = (jnp.zeros((0, 10)), jnp.full(10, 1e-3))
        by_output = jax.vmap(lambda m, made=made: made.exact(m, {"yeast_scale": 0.05}))(mean)
        by_emulator = jax.vmap(lambda m, made=made, e=error: made.marginal(Prediction(m, *e), {"yeast_scale": 0.05}))(
            mean
        )
        values.append(np.stack([by_output, by_emulator]) + len(YEAST) * np.log(unit))
    assert np.ptp(values[0], axis=1).min() > 10.0
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)


def test_the_default_floor_shrinks_with_small_outputs_alone() -> None:
    """Well-scaled outputs, other transforms and a floor that was given are left as they are."""
    kinds = {"a": "log", "b": "none"}
    assert scaled_floor(1e-10, kinds, {"a": 5.0, "b": 1e-12}) == 1e-10
    assert scaled_floor(1e-10, kinds, {"a": 1e-3, "b": 1.0}) == 1e-10
    assert scaled_floor(1e-10, kinds, {"a": 6e-11, "b": 1.0}) == pytest.approx(6e-21)
    assert scaled_floor(1e-12, kinds, {"a": 6e-11, "b": 1.0}) == 1e-12
    assert scaled_floor(1e-10, {}, {"a": 6e-11}) == 1e-10


def test_what_a_median_is_not_let_below_is_far_below_the_data() -> None:
    """And what it was where data are of ordinary size."""
    assert noises.smallest(YEAST) == noises.SMALLEST
    assert noises.smallest(np.zeros(3)) == noises.SMALLEST
    assert noises.smallest(YEAST * UNIT) == pytest.approx(noises.SMALLEST * 661.8 * UNIT)
    assert noises.smallest(np.array([1.0, 1e-9])) == pytest.approx(1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/h", "h^-1"), ("1/h", "h-1"), ("mg / L", "mg/L"), ("L/(mol s)", "L/mol/s"), ("um^2", "µm²"),
        ("um/s^(1/2)", "um s^-0.5"), ("m/s", "m s**-1"), ("%", " %"), ("1/min", "min^-1"), ("s", ""), ("", "1/day"),
        ("g/l", "g/L"), ("h⁻¹", "1/h"), ("1", "dimensionless"), ("-", "1"), ("1/day", "day^{-1}"), ("$h^{-1}$", "1/h"),
        ("kg.m^-3", "kg m^-3"), ("kg·m⁻³", "kg/m3"), ("°C", "degC"), ("days", "day"), ("d", "day"),
        ("1/hr", "hours^-1"),
        ("10^3 cells", "1e3 cells"), ("1.5e3 cell/mL", "1500 cells ml-1"), ("per day", "1/d"), ("[mg/L]", "mg/l"),
        ("m/s/", "m/s"), ("#/mL", "cells/mL"),
    ],
)  # fmt: skip
def test_how_a_unit_is_written_does_not_matter(one: str, other: str) -> None:
    assert not contradict(one, other) and not contradict(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ms", "s"), ("1/h", "h"), ("%", "°"), ("m2", "m"), ("1/h", "1/day"), ("mM", "M"), ("gs", "g"), ("ms", "m"),
        ("hours", "days"), ("1", "h"), ("-", "%"), ("K", "°C"), ("1e3 m", "m"),
    ],
)  # fmt: skip
def test_another_unit_contradicts(one: str, other: str) -> None:
    assert contradict(one, other) and contradict(other, one)
