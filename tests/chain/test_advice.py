"""Advice on a bad verdict works when it is followed, reason by reason.

Others are followed where what they need is at hand: "prior" in `test_periodic`, "failures" and "border" in
`test_impossible`, "shape" in `test_flow`, "places" in `infer/test_samplers`, "emulator" in `test_refine_hard`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from simfer import Result, run
from tests import helpers
from tests.preflight.test_numerical import table as pulse


def words(result: Result) -> str:
    """Return the verdict in words."""
    return str(result.summaries["check"]["facts"]["verdict"])


def test_sampler_chains_go_on_where_they_may() -> None:
    short = ("infer.num_samples=60", "infer.max_samples=60")
    assert "raise infer.max_samples" in words(helpers.line_run(*short))
    longer = helpers.line_run(short[0], "infer.max_samples=1000")
    assert longer.verdict.passed, words(longer)


def test_model_another_noise_makes_the_data_probable() -> None:
    bent = helpers.line_data() + 2.0 * np.where(np.arange(9) % 2, 1.0, -1.0)
    file = helpers.write_line(helpers.scratch() / "bent.csv", bent)
    table = helpers.line(observation={"file": str(file)})
    assert "then at the simulator and the noise" in words(run(table, store=helpers.scratch() / "line"))
    scale = 'noise.y.scale={dist="HalfNormal", scale=3.0}'
    wider = run(table, overrides=[scale], store=helpers.scratch() / "line")
    assert wider.verdict.passed, words(wider)


@pytest.mark.slow
def test_domain_a_further_round_simulates_where_the_draws_lie() -> None:
    file = helpers.write_line(helpers.scratch() / "far.csv", helpers.line_data() + 2.2)
    table = helpers.line(observation={"file": str(file)}, simulate={"num_simulations": 24})
    table |= {"train": {"architecture": helpers.STRAIGHT}}
    first = run(table, store=helpers.scratch() / "line")
    assert "draws lie where nothing was simulated: more rounds" in words(first)
    second = run(table, overrides=["refine.max_rounds=2"], store=helpers.scratch() / "line")
    assert "draws lie" not in words(second)


@pytest.mark.slow
def test_solver_a_lower_tolerance(tmp_path: Any) -> None:
    rough = pulse(tmp_path, "Announced", rtol=1e-2, atol=1e-2) | {"infer": {"num_chains": 2}}
    first = run(rough, store=tmp_path / "store")
    assert "lower simulate.solver.rtol and atol" in words(first)
    finer = run(rough, overrides=["simulate.solver.rtol=1e-6", "simulate.solver.atol=1e-6"], store=tmp_path / "store")
    assert "numerical error" not in words(finer)


STEP = """
import jax.numpy as jnp
import numpy as np
from simfer import FunctionSimulator, Output


class Step(FunctionSimulator):
    parameters = {"a": ""}

    def outputs(self):
        return {"y": Output(("x",), {"x": np.arange(4.0)})}

    def __call__(self, p):
        return {"y": p["a"] * (1.0 + jnp.arange(4.0)) / 4.0 + 0.8 * (p["a"] > 0.3)}
"""


@pytest.mark.slow
def test_step_two_runs_weighed_by_their_evidence_and_share_of_the_prior(tmp_path: Any) -> None:
    """The posterior of the problem that jumps is put together as the advice says, and is the exact one."""
    (tmp_path / "step.py").write_text(STEP)
    data, sigma, prior = np.array([0.6, 0.5, 0.8, 1.0]), 0.6, stats.norm(0.2, 1.0)
    (tmp_path / "step.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in enumerate(data)))
    table = helpers.line(
        simulate={"simulator": f"{tmp_path}/step.py:Step", "options": None},
        observation={"file": str(tmp_path / "step.csv")},
        noise={"y": {"dist": "Normal", "scale": sigma}},
        infer={"sampler": "auto", "num_chains": 4},
        check={"num_draws": 256},
    ) | {"parameters": {"a": {"dist": "Normal", "loc": 0.2, "scale": 1.0}}}
    whole = run(table, store=tmp_path / "store")
    assert "with that parameter's prior below the value and above" in words(whole)
    parts, weights = [], []
    for side, share in (("high=0.3", prior.cdf(0.3)), ("low=0.3", prior.sf(0.3))):
        own = f'parameters.a={{dist="TruncatedNormal", loc=0.2, scale=1.0, {side}, edge="meant"}}'
        part = run(table, overrides=[own], store=tmp_path / "store")
        assert part.verdict.passed, words(part)
        parts.append(part.posterior["posterior"]["a"].values)
        weights.append(share * np.exp(part.summaries["infer"]["facts"]["log_evidence"]))
    above = weights[1] / sum(weights)
    grid = np.linspace(-4.0, 4.0, 80_001)
    outputs = grid[:, None] * (1.0 + np.arange(4.0)) / 4.0 + 0.8 * (grid[:, None] > 0.3)
    density = np.exp(prior.logpdf(grid) + stats.norm(outputs, sigma).logpdf(data).sum(axis=1))
    density /= density.sum()
    assert above == pytest.approx(density[grid > 0.3].sum(), abs=0.03)
    mean = (1.0 - above) * parts[0].mean() + above * parts[1].mean()
    sd = np.sqrt(density @ grid**2 - (density @ grid) ** 2)
    assert mean == pytest.approx(density @ grid, abs=0.1 * sd)
