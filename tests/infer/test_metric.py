"""The step of NUTS where the metric is known: it is accepted as often as was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.hmc import HMCState
from numpyro.infer.hmc_util import HMCAdaptState

from simfer.stages.infer.samplers import nuts
from simfer.stages.infer.samplers.metric import Metric, adapt_step
from simfer.stages.progress import Silent
from simfer.stages.settings import Infer


def adapted(metric: Metric, acceptance: float, num_warmup: int = 200, seed: int = 0) -> float:
    """Return the step after warm-up where a step of one loses 0.2 in the mean, most of it in few draws."""
    rng, loss = np.random.default_rng(seed), jnp.asarray(metric.loss)
    state: Any = HMCState(**dict.fromkeys(HMCState._fields))
    adapt_state: Any = HMCAdaptState(**dict.fromkeys(HMCAdaptState._fields))
    state = state._replace(adapt_state=adapt_state._replace(step_size=jnp.asarray(metric.first_step(acceptance))))
    for i in range(num_warmup + 20):
        lost = float(state.adapt_state.step_size) ** 2 * (0.5 if rng.random() < 0.25 else 0.1)
        state, loss = adapt_step(
            state._replace(i=i + 1, accept_prob=max(1.0 - lost, 0.0)), loss, acceptance, num_warmup
        )
    return float(state.adapt_state.step_size)


@pytest.mark.parametrize("acceptance", [0.65, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("believed", [0.1, 1.0, 10.0])
def test_a_step_is_found_whatever_was_believed_of_it(acceptance: float, believed: float) -> None:
    found = adapted(Metric(np.eye(1), believed, 0.8), acceptance)
    assert found == pytest.approx(np.sqrt((1.0 - acceptance) / 0.2), rel=0.25)


def test_nothing_changes_after_warm_up() -> None:
    metric = Metric(np.eye(1), 0.5, 0.8)
    assert adapted(metric, 0.8, num_warmup=0) == metric.first_step(0.8) == pytest.approx(0.5)


def test_chains_accept_as_often_as_was_asked_for() -> None:
    """On a bent ridge, each chain by itself."""
    target: Any = SimpleNamespace(log_ratio=lambda z: -2.0 * z[0] ** 2 - 8.0 * (z[1] - z[0] ** 2) ** 2, chains=None)
    settings = Infer(num_warmup=200, num_samples=800, target_accept=0.99)
    starts = np.random.default_rng(0).normal(size=(4, 2)) * 0.3
    draws = nuts.sample(target, settings, Silent(), starts, Metric(np.diag([0.2, 0.1]), 0.7, 0.8))
    lost = 1.0 - draws.statistics["acceptance_rate"].mean(axis=1)
    assert lost == pytest.approx(np.full(4, 0.01), rel=0.5)
