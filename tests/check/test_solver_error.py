"""The solver's own error at posterior draws, in units of the data's sigma."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.check.solver_error import solver_figures
from simfer.stages.check.verdict import Figure, advice
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import read
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import CheckConfig
from simfer.stages.simulate.ensemble import build_ensemble
from tests import helpers
from tests.preflight.test_numerical import table


def figures(folder: Any, shift: float, solver: dict[str, Any], drawn: int = 40) -> list[Figure]:
    """Return the figures of draws whose simulated outputs are all off by `shift`; some of them have failed."""
    problem = helpers.problem(table(folder, "Announced", **solver))
    config, space = helpers.link(problem, "check-0").config, Space(problem.parameters)
    assert isinstance(config, CheckConfig)
    ensemble = build_ensemble(config.simulate, space)
    layout = Layout(ensemble.simulator.outputs())
    draws = np.asarray(jax.random.normal(jax.random.key(1), (drawn, space.size)))
    y = ensemble(draws, np.arange(drawn), "check-0").outputs["y"] + shift
    likelihood = Likelihood(config.noise, read(config.observation, layout), layout, {"y": "none"})
    target: Any = SimpleNamespace(
        predictor=SimpleNamespace(space=space, floor=1e-10),
        likelihood=likelihood,
        split=lambda z: (z, jnp.zeros((len(z), 0)), z[:, :0]),
    )
    return solver_figures(config, target, draws, y, np.arange(drawn) % 3 > 0)


def test_the_error_is_in_sigma_and_over_all_data(tmp_path: Any) -> None:
    """Twenty-one data, each off by 0.05 of sigma = 2: 0.05 sqrt(21), more than a mean may move by."""
    (figure,) = figures(tmp_path, 0.1, {"rtol": 1e-10, "atol": 1e-10})
    assert figure.value == pytest.approx(0.05 * np.sqrt(21.0), rel=1e-4)
    assert not figure.passed
    assert "numerical error" in figure.name and "jumps and doses" in advice([figure])


def test_a_sound_solver_passes_by_far(tmp_path: Any) -> None:
    """At the default tolerances, where the simulator says when it jumps."""
    (figure,) = figures(tmp_path, 0.0, {})
    assert figure.passed and 0.0 < figure.value < 1e-3
