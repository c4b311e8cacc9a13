"""Random simulators: their rows scatter as the exact answer says, and no two rows share a random number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simfer.pipeline import chain
from simfer.pipeline.studies import STUDIES
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.preflight import mistakes
from simfer.stages.settings import Simulate
from simfer.stages.simulate.ensemble import Rows, build_ensemble
from tests import helpers
from tests.emulator.test_scatter import exact_ou, ou_table

CODE = '''
import jax
import jax.numpy as jnp
from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import RandomODESimulator
from simfer.stages.simulate.simulators.sde import SDESimulator
from simfer.stages.simulate.simulators.base import StochasticSimulator

class Growth(SDESimulator):
    """dx = mu x dt + s x dW: geometric Brownian motion."""

    parameters = {"mu": "", "s": ""}

    def initial_state(self, p, key):
        return {"x": 1.0}

    def vector_field(self, t, y, p):
        return {"x": p["mu"] * y["x"]}

    def diffusion(self, t, y, p):
        return {"x": p["s"] * y["x"]}

    def observe(self, t, y, p):
        return {"x": y["x"]}

class Shared(SDESimulator):
    """Two walks that share one of two noises, from a random start."""

    parameters = {"mu": ""}

    def initial_state(self, p, key):
        return jnp.stack([2.0 * jax.random.normal(key), 0.0])

    def vector_field(self, t, y, p):
        return jnp.zeros(2)

    def diffusion(self, t, y, p):
        return jnp.asarray([[1.0, 0.0], [1.0, 3.0]])

    def observe(self, t, y, p):
        return {"a": y[0], "b": y[1]}

class Wrong(Shared):
    """Amplitudes that fit no state."""

    def diffusion(self, t, y, p):
        return jnp.ones(3)

class Dice(StochasticSimulator):
    """A number from a hat."""

    parameters = {"mu": ""}

    def outputs(self):
        return {"x": Output()}

    def __call__(self, p, key):
        return {"x": p["mu"] + jax.random.normal(key)}

class Decay(RandomODESimulator):
    """x' = -mu x from a random start."""

    parameters = {"mu": ""}

    def initial_state(self, p, key):
        return 5.0 + 2.0 * jax.random.normal(key)

    def vector_field(self, t, y, p):
        return -p["mu"] * y

    def observe(self, t, y, p):
        return {"x": y}
'''


def solve(name: str, num: int, parameters: dict[str, Any], stream: str = "simulate-0", **simulate: Any) -> Rows:
    space = Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)
    settings = Simulate(simulator=name, num_simulations=num, **simulate)
    return build_ensemble(settings, space)(np.zeros((num, space.size)), np.arange(num), stream)


OU = {"theta": {"dist": "LogNormal"}, "mu": 0.5, "sigma": 0.7, "x_0": 3.0}
SHARK = {"solver": "ShARK", "fixed_step": True, "dt0": 0.25}
HEUN = {"solver": "Heun", "rtol": 1e-2, "atol": 1e-3}  # it chooses its steps


@pytest.mark.parametrize("solver", [SHARK, pytest.param(HEUN, marks=pytest.mark.slow)])
def test_an_ornstein_uhlenbeck_process_has_its_exact_mean_and_covariance(solver: dict[str, Any]) -> None:
    times = np.array([0.5, 1.1, 3.0])
    rows = solve("ornstein_uhlenbeck", 2000, OU, options={"times": times.tolist(), "start": 0.0}, solver=solver)
    assert (rows.status == Status.OK).all() and rows.outputs["x"].dtype == np.float64
    mean, covariance = exact_ou(times, 1.0, 0.5, 0.7, 3.0)
    u = np.linalg.solve(np.linalg.cholesky(covariance), (rows.outputs["x"] - mean).T)
    assert np.abs(u.mean(axis=1)).max() < 4.0 / np.sqrt(2000)
    assert np.abs(np.cov(u) - np.eye(3)).max() < 4.5 * np.sqrt(2.0 / 2000)


STRATONOVICH = {"solver": "StratonovichMilstein", "fixed_step": True, "dt0": 0.02}
MILSTEIN = STRATONOVICH | {"solver": "ItoMilstein"}


@pytest.mark.parametrize(
    ("solver", "mean"),
    [
        ({}, np.exp(0.3)),
        pytest.param(MILSTEIN, np.exp(0.3), marks=pytest.mark.slow),
        (STRATONOVICH, np.exp(0.3 + 0.8**2 / 2)),
    ],
)
def test_the_solver_says_how_noise_is_read(plugin: str, solver: dict[str, Any], mean: float) -> None:
    # Of geometric Brownian motion, by Ito's integral and by Stratonovich's.
    parameters = {"mu": {"dist": "LogNormal", "loc": float(np.log(0.3))}, "s": 0.8}
    rows = solve(f"{plugin}:Growth", 4000, parameters, options={"times": [1.0], "start": 0.0}, solver=solver)
    x = rows.outputs["x"][:, 0]
    assert x.mean() == pytest.approx(mean, abs=4.0 * x.std() / np.sqrt(4000))
    assert np.log(x).std() == pytest.approx(0.8, rel=0.05)


def test_components_may_share_noises_and_start_at_random(plugin: str) -> None:
    options = {"times": [4.0], "start": 0.0}
    rows = solve(f"{plugin}:Shared", 4000, {"mu": {"dist": "Normal"}}, options=options, solver=SHARK)
    covariance = np.cov(rows.outputs["a"][:, 0], rows.outputs["b"][:, 0])
    assert np.allclose(covariance, [[4.0 + 4.0, 4.0], [4.0, 4.0 + 36.0]], rtol=0.12)


def test_an_amplitude_that_fits_no_state_is_refused(plugin: str) -> None:
    options = {"times": [4.0], "start": 0.0}
    with pytest.raises(ValueError, match=r"diffusion: got shapes \(3,\), expected \(2,\)"):
        solve(f"{plugin}:Wrong", 1, {"mu": {"dist": "Normal"}}, options=options, solver=SHARK)


def test_an_ode_may_start_at_random(plugin: str) -> None:
    rows = solve(f"{plugin}:Decay", 2000, {"mu": {"dist": "LogNormal"}}, options={"times": [0.0, 1.0]})
    x = rows.outputs["x"]
    assert np.allclose(x[:, 1], np.exp(-1.0) * x[:, 0], atol=1e-4)
    assert x[:, 0].mean() == pytest.approx(5.0, abs=0.2) and x[:, 0].std() == pytest.approx(2.0, rel=0.08)


def dice(plugin: str, num: int, stream: str = "simulate-0", **simulate: Any) -> np.ndarray:
    return solve(f"{plugin}:Dice", num, {"mu": {"dist": "Normal"}}, stream, **simulate).outputs["x"]


def test_a_row_is_the_same_in_any_block_and_as_no_other(plugin: str) -> None:
    many = dice(plugin, 40)
    assert np.array_equal(many[:7], dice(plugin, 7, batch_size=3))
    assert len(np.unique(many)) == 40
    assert not np.isin(many, dice(plugin, 40, seed=1)).any()


def test_rounds_and_checks_share_no_random_number_with_the_training_rows(plugin: str) -> None:
    streams = ["simulate-0", "simulate-1", "check-0", "check-1", "calibrate"]
    x = np.stack([dice(plugin, 1000, stream) for stream in streams])
    assert len(np.unique(x)) == x.size
    assert np.abs(np.corrcoef(x) - np.eye(len(streams))).max() < 4.0 / np.sqrt(1000)


def refused(where: str, table: dict[str, Any]) -> str:
    return {each.where: each.what for each in mistakes(helpers.problem(table))}[where]


def test_what_a_random_simulator_cannot_do_is_refused_before_anything_runs() -> None:
    assert "nobody knows its likelihood" in refused("infer.likelihood", ou_table(infer={"likelihood": "simulator"}))
    assert "nobody knows its likelihood" in refused("check.reweight", ou_table(check={"reweight": True}))
    assert "too small a scatter" in refused("refine.keep", ou_table(refine={"keep": 100}))
    long = {"options": {"times": {"start": 0.5, "stop": 50.0, "num": 100}, "start": 0.0}}
    assert "gives 100 values" in refused("simulate.options", ou_table(simulate=long))


@pytest.mark.parametrize(
    ("solver", "where", "words"),
    [
        (
            {"solver": "Tsit5"},
            "simulate.solver.solver",
            "cannot solve a stochastic equation; expected one of Itô: Euler",
        ),
        ({"solver": "Euler"}, "simulate.solver.solver", "cannot choose its steps"),
        ({"dt0": 1e-5}, "simulate.solver.max_steps", "steps of dt0 = 1e-05 through the whole time are"),
    ],
)
def test_a_solver_that_cannot_is_refused(solver: dict[str, Any], where: str, words: str) -> None:
    table = ou_table()
    table["simulate"]["solver"] = solver
    assert words in refused(where, table)


def test_a_solver_for_additive_noise_is_refused_where_the_noise_depends_on_the_state(plugin: str) -> None:
    table = ou_table()
    table["parameters"] = {"mu": {"dist": "Normal"}, "s": 0.8}
    table["simulate"] |= {"simulator": f"{plugin}:Growth"}
    assert "take Euler or ItoMilstein" in refused("simulate.solver.solver", table)


def test_the_simulators_own_posterior_is_refused_before_the_chain_runs() -> None:
    with pytest.raises(chain.ConfigError, match="compare-posteriors: the simulator is random"):
        STUDIES["compare-posteriors"].added(helpers.problem(ou_table()), 0)
