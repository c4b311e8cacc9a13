"""Derivatives of simulated outputs are those of exact solutions, and fill the training set by the chain rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.special import lambertw
from scipy.stats import norm

from simfer import pipeline
from simfer.stages.artifacts.simulations import SIMULATIONS
from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.preflight import mistakes
from simfer.stages.progress import Silent
from simfer.stages.settings import Simulate, Train
from simfer.stages.simulate.attempts import build_attempts
from simfer.stages.simulate.ensemble import Rows as Solved
from simfer.stages.simulate.ensemble import build_ensemble
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit
from simfer.stages.train.losses import loss_of
from tests import helpers

SIMULATORS = '''
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.simulate.simulators.base import ODESimulator
from simfer.stages.model.outputs import Output


class Growth(ODESimulator):
    """Logistic growth from n, its logarithm observed too."""

    parameters = {"r": "1/h", "k": "", "n": ""}
    units = {"n_t": "cells"}

    def initial_state(self, p):
        return {"n": p["n"]}

    def vector_field(self, t, y, p):
        return {"n": p["r"] * y["n"] * (1 - y["n"] / p["k"])}

    def observe(self, t, y, p):
        return {"n_t": y["n"], "both": jnp.stack([jnp.log(y["n"]), p["r"] * t])}


class Thrown(ODESimulator):
    """A stone thrown up with speed v, slowed down by k v, until it is back."""

    parameters = {"v": "", "k": ""}
    event_direction = False

    def initial_state(self, p):
        return jnp.stack([jnp.zeros(()), p["v"]])

    def vector_field(self, t, y, p):
        return jnp.stack([y[1], -9.81 - p["k"] * y[1]])

    def observe(self, t, y, p):
        return {"height": y[0], "flown": t}

    def event(self, t, y, p):
        return y[0]


class Root(FunctionSimulator):
    """A square root: at zero it has a value and no derivative."""

    parameters = {"a": ""}

    def outputs(self):
        return {"root": Output()}

    def __call__(self, p):
        return {"root": jnp.sqrt(p["a"])}
'''
GROWTH = {
    "r": {"dist": "LogNormal", "loc": -0.7, "scale": 0.2},
    "k": 50.0,
    "n": {"dist": "Uniform", "low": 1, "high": 9},
}
THROWN = {"v": {"dist": "Normal", "loc": 4.0, "scale": 0.3}, "k": {"dist": "Uniform", "low": 0.05, "high": 0.5}}
TIMES = [0.0, 0.7, 3.0, 9.0]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("derivatives") / "mine.py"
    file.write_text(SIMULATORS)
    return str(file)


def space(parameters: dict[str, Any]) -> Space:
    return Space(helpers.problem(helpers.line() | {"parameters": parameters}).parameters)


def solve(name: str, parameters: dict[str, Any], z: np.ndarray, derivatives: bool = True, **simulate: Any) -> Solved:
    options = simulate.pop("options", {"times": TIMES})
    settings = Simulate(simulator=name, num_simulations=len(z), options=options, derivatives=derivatives, **simulate)
    return build_ensemble(settings, space(parameters))(z, np.arange(len(z)))


def points(num: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, size))


def logistic(theta: jnp.ndarray) -> jnp.ndarray:
    r, n, t = theta[0], theta[1], jnp.asarray(TIMES)
    return 50.0 / (1.0 + (50.0 / n - 1.0) * jnp.exp(-r * t))


@pytest.mark.parametrize("solver", ["Tsit5", "Rodas5P", pytest.param("Kvaerno5", marks=pytest.mark.slow)])
def test_derivatives_of_logistic_growth_are_those_of_its_closed_form(plugin: str, solver: str) -> None:
    z, given = points(20, 2), {"solver": solver, "rtol": 1e-9, "atol": 1e-9}
    rows = solve(f"{plugin}:Growth", GROWTH, z, solver=given)
    exact = np.asarray(jax.vmap(jax.jacfwd(logistic))(jnp.asarray(rows.theta)))  # rows, times, parameters
    assert (rows.status == Status.OK).all()
    assert rows.derivatives["n_t"].shape == (20, 2, 4)  # the free parameters alone
    assert np.allclose(rows.derivatives["n_t"], exact.swapaxes(1, 2), rtol=1e-6, atol=1e-6)
    logs = exact / np.asarray(jax.vmap(logistic)(jnp.asarray(rows.theta)))[:, :, None]
    assert np.allclose(rows.derivatives["both"][..., 0], logs.swapaxes(1, 2), rtol=1e-6, atol=1e-6)
    assert np.allclose(rows.derivatives["both"][..., 1], np.stack([TIMES, np.zeros(4)]), atol=1e-12)


@pytest.mark.parametrize("solver", ["Tsit5", pytest.param("Rodas5P", marks=pytest.mark.slow)])
def test_outputs_and_steps_are_those_of_the_plain_run(plugin: str, solver: str) -> None:
    z, given = points(20, 2), {"solver": solver, "rtol": 1e-9, "atol": 1e-9}
    plain, rows = (solve(f"{plugin}:Growth", GROWTH, z, each, solver=given) for each in (False, True))
    assert np.array_equal(plain.num_steps, rows.num_steps)
    few_ulps = 0.0 if solver == "Tsit5" else 1e-14  # the compiler sums Rodas5P's matrix products in another order
    for name, values in plain.outputs.items():
        assert np.allclose(rows.outputs[name], values, rtol=few_ulps, atol=0.0)
    assert plain.derivatives == {}


def test_derivatives_of_an_oscillation_are_finite_differences() -> None:
    parameters = {
        "alpha": {"dist": "LogNormal", "loc": -0.3, "scale": 0.2}, "beta": {"dist": "LogNormal", "loc": -3.5},
        "gamma": 0.8, "delta": 0.02, "prey_0": 30.0, "predator_0": 5.0,
    }  # fmt: skip
    z, tight = 0.3 * points(8, 2), {"rtol": 1e-11, "atol": 1e-11}
    given: dict[str, Any] = {"options": {"times": [0.0, 4.0, 15.0]}}
    slopes = solve("lotka_volterra", parameters, z, **given).derivatives["predator"]  # to 1e-6, as by default
    step = 1e-5
    for i in range(2):
        ends = [solve("lotka_volterra", parameters, z + sign * step * np.eye(2)[i], False, solver=tight, **given)
                for sign in (-1, 1)]  # fmt: skip
        numeric = (ends[1].outputs["predator"] - ends[0].outputs["predator"]) / (
            ends[1].theta[:, i] - ends[0].theta[:, i]
        )[:, None]
        assert np.allclose(slopes[:, i], numeric, rtol=1e-4, atol=1e-4 * np.abs(numeric).max())


def test_an_event_moves_with_the_parameters(plugin: str) -> None:
    z = 0.5 * points(12, 2)
    options = {"times": np.linspace(0.0, 1.5, 16).tolist()}
    rows = solve(f"{plugin}:Thrown", THROWN, z, options=options, solver={"rtol": 1e-10, "atol": 1e-10})

    def landed(v: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the time of flight, (a + W(-a e^-a)) / k with a = 1 + k v / g and W Lambert's function."""
        a = 1.0 + k * v / 9.81
        return (a + np.real(lambertw(-a * np.exp(-a)))) / k

    v, k, h = *rows.theta.T, 1e-6
    assert np.allclose(rows.outputs["flown"][:, -1], landed(v, k))
    by_v = (landed(v + h, k) - landed(v - h, k)) / (2 * h)
    by_k = (landed(v, k + h) - landed(v, k - h)) / (2 * h)
    assert np.allclose(rows.derivatives["flown"][:, :, -1], np.stack([by_v, by_k], axis=1), rtol=1e-6)
    assert np.allclose(rows.derivatives["flown"][:, :, 1], 0.0)  # still in the air: time is time
    assert np.allclose(rows.derivatives["height"][:, :, -1], 0.0, atol=1e-8)  # on the ground, wherever it lands


def test_a_row_whose_derivative_is_not_finite_has_failed(plugin: str) -> None:
    z = np.array([[0.0], [4.0], [-1.0]])
    parameters = {"a": {"dist": "Normal"}}
    plain = solve(f"{plugin}:Root", parameters, z, False, options={})
    rows = solve(f"{plugin}:Root", parameters, z, options={})
    assert plain.status.tolist() == [Status.OK, Status.OK, Status.NOT_FINITE]
    assert rows.status.tolist() == [Status.NOT_FINITE, Status.OK, Status.NOT_FINITE]
    assert rows.derivatives["root"][1] == pytest.approx(0.25) and np.isnan(rows.derivatives["root"][0])


def test_rows_solved_again_have_derivatives_too(plugin: str) -> None:
    z = points(9, 2)
    few = solve(f"{plugin}:Growth", GROWTH, z, solver={"max_steps": 12})
    assert 0 < (few.status == Status.OK).sum() < 9
    settings = Simulate(
        simulator=f"{plugin}:Growth", num_simulations=9, options={"times": TIMES}, derivatives=True,
        solver={"max_steps": 12}, retry={"max_steps": 1000},
    )  # fmt: skip
    rows = build_attempts(settings, space(GROWTH))(z, np.arange(9), "simulate-0").rows
    assert (rows.status == Status.OK).all()
    assert np.allclose(rows.derivatives["n_t"], solve(f"{plugin}:Growth", GROWTH, z).derivatives["n_t"])


# A straight line y = a + b x, its slope b flat between bounds, learned as asinh(y).
LINE: dict[str, Any] = {
    "parameters": {"slope": {"dist": "Uniform", "low": -2.0, "high": 1.0, "unit": "m/s"}},
    "simulate": {"num_simulations": 60, "derivatives": True},
}


def line_slopes(z: np.ndarray) -> np.ndarray:
    """Return d asinh(y) by both inputs of a line: z, and sqrt(12) (u - 1/2) for u between 0 and 1."""
    mean, sd = helpers.PRIOR["intercept"]
    y = mean + sd * z[:, :1] + (-2.0 + 3.0 * norm.cdf(z[:, 1:])) * helpers.X
    by_input = np.stack([sd * np.ones_like(y), np.broadcast_to(3.0 / np.sqrt(12.0) * helpers.X, y.shape)], axis=1)
    return by_input / np.sqrt(1.0 + y**2)[:, None]


def made(folder: Path, **sections: Any) -> TrainingSet:
    """Simulate lines, and make a training set of them."""
    checked = helpers.problem(helpers.line(**helpers.merged(LINE, sections)))
    helpers.run_stage(checked, "simulate-0", {}, folder / "rows")
    helpers.run_stage(checked, "dataset-0", {"simulations": [folder / "rows"]}, folder / "data")
    return TrainingSet.load(folder / "data")


def test_a_training_set_has_derivatives_of_what_is_learned_by_what_the_emulator_sees(tmp_path: Path) -> None:
    data = made(tmp_path, dataset={"transform": {"y": "asinh"}})
    slopes, (z, _) = data.derivatives(0, None), data.points()
    assert slopes is not None and np.allclose(slopes, line_slopes(z), rtol=1e-8)
    with xr.open_zarr(tmp_path / "rows" / SIMULATIONS, chunks=None, consolidated=False) as rows:
        stored = rows["y_derivatives"]
        assert stored.dims == ("simulation", "parameter", "x")
        assert stored.attrs["parameters"] == ["intercept", "slope"]
        assert stored.attrs["units_by_parameter"] == ["(1) / (1)", "(1) / (m/s)"]
        assert np.allclose(stored.values, np.stack([np.ones_like(helpers.X), helpers.X]))


def test_derivatives_below_the_floor_of_a_logarithm_are_zero(tmp_path: Path) -> None:
    data = made(tmp_path, dataset={"transform": {"y": "log"}, "floor": 0.5})
    below = np.isclose(data.outputs(0, 60), np.log(0.5))
    slopes = data.derivatives(0, None)
    assert slopes is not None and 0.1 < below.mean() < 0.9
    assert (slopes.swapaxes(1, 2)[below] == 0.0).all() and (slopes[:, 0][~below] > 0.0).all()


def test_derivatives_are_projected_onto_principal_components(tmp_path: Path) -> None:
    data = made(tmp_path, dataset={"transform": {"y": "asinh"}, "pca": {"y": 3}})
    components = data.bases()["y"][0]
    slopes = data.target_derivatives()
    assert slopes is not None and slopes.shape == (60, 2, 3)
    assert np.allclose(slopes, line_slopes(data.points()[0]) @ components.T)


def test_rows_that_lost_their_derivatives_are_solved_again(tmp_path: Path) -> None:
    whole = made(tmp_path).derivatives(0, None)
    (tmp_path / "rows" / SIMULATIONS / "y_derivatives" / "c" / "0" / "0" / "0").unlink()
    again = made(tmp_path).derivatives(0, None)
    assert whole is not None and again is not None and np.array_equal(whole, again)


def curve(x: jnp.ndarray) -> jnp.ndarray:
    return jnp.stack([jnp.sin(2.0 * x[0]) + x[1], jnp.tanh(x[0] * x[1])])


def test_derivatives_teach_a_network_more_of_as_many_rows() -> None:
    x = jnp.asarray(np.random.default_rng(0).uniform(-1.7, 1.7, size=(2030, 2)))
    y, slopes = jax.vmap(curve)(x), jax.vmap(jax.jacfwd(curve))(x).swapaxes(1, 2)
    rows, others = (Rows(x[at], y[at], slopes[at]) for at in (slice(30), slice(30, None)))
    settings = Train(architecture="mlp", options={"width": 24, "depth": 2}, ensemble_size=2, dtype="float64",
                     steps=600, learning_rate=1e-2, derivative_weight=1.0)  # fmt: skip

    def error(rows: Rows) -> float:
        networks = fit(settings, rows, 1 + np.arange(30) % 5, {}, Silent()).networks
        found = jax.vmap(lambda x: eqx.filter_vmap(lambda n: n(x))(networks).mean(axis=0))(others.x)
        return float(jnp.mean((found - others.y) ** 2))

    assert error(rows) < 0.5 * error(rows._replace(slopes=None))


def test_the_loss_weighs_derivatives_by_the_network_s_own_inputs() -> None:
    network, x = lambda x: jnp.stack([x[0] ** 2, 3.0 * x[1]]), jnp.asarray([[1.0, 2.0], [3.0, -1.0]])
    slopes = jnp.asarray([[[2.0, 0.0], [0.0, 3.0]], [[6.0, 0.0], [0.0, 3.0]]])
    rows = Rows(x, jnp.asarray([[1.0, 6.0], [9.0, -3.0]]), slopes)
    assert loss_of(derivative_weight=0.5)(network, rows) == 0.0
    assert loss_of(derivative_weight=0.5)(network, rows._replace(slopes=slopes + 2.0)) == pytest.approx(0.5 * 4.0)


@pytest.mark.slow
def test_rows_of_every_round_and_of_the_check_carry_derivatives(tmp_path: Path) -> None:
    brief = {"num_warmup": 100, "num_samples": 100, "num_chains": 1}  # too few draws to pass
    table = helpers.line(
        simulate={"derivatives": True, "num_simulations": 60}, infer=brief, check={"num_draws": 30},
        refine={"max_rounds": 1, "simulations_per_round": 20}, train={"finish_steps": 0},
    )  # fmt: skip
    result = pipeline.run(table, store=tmp_path)
    assert result.summaries["dataset"]["facts"]["rows"] == 60 + 30 + 20
    assert result.summaries["dataset"]["facts"]["derivatives_by"] == "intercept, slope"
    slopes = result.dataset["y_derivatives"].values
    by_input = [sd * each for (_, sd), each in zip(helpers.PRIOR.values(), (helpers.X**0, helpers.X), strict=True)]
    assert np.allclose(slopes, by_input)
    row = result.summaries["train"]["tables"]["held-out error"][0]
    assert row["slopes_unexplained"] < 0.1


REFUSED = '''
import jax
import jax.numpy as jnp
import numpy as np
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.simulate.simulators.base import ODESimulator
from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import StochasticSimulator


class Called(FunctionSimulator):
    """A line, by way of NumPy."""

    parameters = {"intercept": "", "slope": ""}
    x = np.linspace(0.0, 4.0, 9)

    def outputs(self):
        return {"y": Output(("x",), {"x": self.x})}

    def __call__(self, p):
        shape = jax.ShapeDtypeStruct((9,), float)
        return {"y": jax.pure_callback(lambda a, b: a + b * self.x, shape, p["intercept"], p["slope"],
                                       vmap_method="sequential")}


class Random(StochasticSimulator):
    """A line, and chance."""

    parameters = {"intercept": "", "slope": ""}

    def outputs(self):
        return {"y": Output(("x",), {"x": np.linspace(0.0, 4.0, 9)})}

    def __call__(self, p, key):
        return {"y": p["intercept"] + p["slope"] * jnp.linspace(0.0, 4.0, 9) + jax.random.normal(key, (9,))}


class Stopped(ODESimulator):
    """A line, until it is above 3."""

    parameters = {"intercept": "", "slope": ""}
    coordinate = "x"

    def initial_state(self, p):
        return p["intercept"]

    def vector_field(self, t, y, p):
        return p["slope"]

    def observe(self, t, y, p):
        return {"y": y}

    def event(self, t, y, p):
        return y > 3.0
'''


@pytest.mark.parametrize(
    ("name", "said"),
    [("Called", "cannot differentiate"), ("Random", "the simulator is random"), ("Stopped", "true or false")],
)
def test_what_has_no_derivatives_is_refused_before_anything_is_simulated(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "refused.py").write_text(REFUSED)
    options = {"times": helpers.X.tolist()} if name == "Stopped" else {}
    table = helpers.line() | {
        "simulate": {"simulator": f"{tmp_path}/refused.py:{name}", "num_simulations": 60, "options": options}
    }
    assert mistakes(helpers.problem(table)) == []
    found = mistakes(helpers.problem(table, "simulate.derivatives=true"))
    assert [each.where for each in found] == ["simulate.derivatives"] and said in found[0].what
