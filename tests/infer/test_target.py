"""A likelihood takes an emulator's components where it may, and gives what all data give."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.infer.target import ErrorModel
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import Data, Series
from tests import helpers

NORMAL, STUDENT = {"dist": "Normal", "scale": 0.3}, {"dist": "StudentT", "df": 3.0, "scale": 0.3}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return load_emulator(helpers.ROOT / "tests" / "emulator" / "kept" / "format3" / "components")


def model(emulator: Emulator, noise: dict[str, Any], often: int = 10) -> tuple[ErrorModel, Likelihood]:
    """Return the error at data of the first output: all of its values, each several times."""
    name = next(iter(emulator.layout.outputs))
    index = np.tile(np.arange(emulator.layout.outputs[name].size), often)
    y = np.asarray(emulator.training_y)[0, emulator.layout.slices[name]][index % emulator.layout.outputs[name].size]
    checked = helpers.problem(helpers.line() | {"noise": {name: noise}})
    transform = dict.fromkeys(emulator.layout.outputs, "none")
    likelihood = Likelihood(checked.noise, Data({name: Series(y + 0.1, index)}), emulator.layout, transform)
    return ErrorModel(emulator, likelihood), likelihood


def test_an_error_that_is_drawn_is_that_of_the_factors(emulator: Emulator) -> None:
    errors, _ = model(emulator, STUDENT)
    z = jnp.asarray(emulator.training_z[3])
    weights = jnp.asarray(np.random.default_rng(0).normal(size=errors.num_factors))
    prediction = errors.predict(z)
    assert np.allclose(errors.drawn(z, weights), prediction.mean + weights @ prediction.factors, rtol=1e-10)


def test_projected_data_have_the_likelihood_of_all(emulator: Emulator) -> None:
    errors, likelihood = model(emulator, NORMAL)
    projected = errors.project(likelihood)
    assert projected is not None
    values = likelihood.noise_space.values(jnp.zeros(0))
    for z in np.asarray(emulator.training_z)[:3]:
        by_all = jax.jit(lambda z: likelihood.marginal(errors.predict(z), values))(z)
        assert float(projected(jnp.asarray(z), values)) == pytest.approx(float(by_all), rel=1e-9)
