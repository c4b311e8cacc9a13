"""Vectors of parameters: their joint priors beside NumPyro's, and where they are arrays and where numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm
from scipy import stats

from simfer.stages.artifacts.posterior import scalars, together
from simfer.stages.model.space import Space
from simfer.stages.model.vectors import gathered, spread
from simfer.stages.simulate.ensemble import build_ensemble, build_simulator
from tests import helpers

SIMULATOR = """
import jax.numpy as jnp
from simfer import FunctionSimulator, Output, ODESimulator


class Schools(FunctionSimulator):
    '''A vector, a number and a matrix.'''

    parameters = {"effect": "points", "shift": "", "corr": ""}

    def outputs(self):
        return {"score": Output(("school",), {"school": jnp.arange(3.0)}), "r": Output()}

    def __call__(self, p):
        return {"score": p["effect"] + p["shift"], "r": p["corr"][2, 0] * p["corr"][1, 1]}


class Chain(ODESimulator):
    '''Decays one after another.'''

    parameters = {"rates": "1/h"}

    def initial_state(self, p):
        return jnp.array([1.0, 0.0])

    def vector_field(self, t, y, p):
        flow = p["rates"] * y
        return jnp.stack([-flow[0], flow[0] - flow[1]])

    def observe(self, t, y, p):
        return {"last": y[1] * p["rates"].sum()}


def plain(weights, shift):
    return {"mean": sum(weights[i] * i for i in range(len(weights))) + shift}
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vectors") / "schools.py"
    file.write_text(SIMULATOR)
    return file


def made(parameters: dict[str, Any], simulator: str = "linear", **sections: Any) -> Any:
    table = helpers.line(**sections)
    table["parameters"] = parameters
    table["simulate"] = table["simulate"] | {"simulator": simulator, "options": {}}
    return helpers.problem(table)


def space(**parameters: Any) -> Space:
    return Space(made(parameters).parameters)


NORMAL = {"dist": "Normal", "loc": 0.3, "scale": 1.7}
JOINTS: dict[str, tuple[dict[str, Any], Any]] = {
    "Dirichlet": (
        {"dist": "Dirichlet", "concentration": [0.8, 2.0, 3.5]},
        lambda x: dist.Dirichlet(jnp.array([0.8, 2.0, 3.5])).log_prob(jnp.append(x, 1.0 - x.sum())),
    ),
    "ordered": (
        NORMAL | {"size": 3, "ordered": True},
        lambda x: dist.Normal(0.3, 1.7).log_prob(x).sum() + jnp.log(6.0),
    ),
    "MultivariateNormal": (
        {"dist": "MultivariateNormal", "loc": [0.3, -1.0], "covariance": [[1.0, 0.6], [0.6, 2.0]], "transform": "log"},
        lambda x: (
            dist.MultivariateNormal(
                jnp.array([0.3, -1.0]), covariance_matrix=jnp.array([[1.0, 0.6], [0.6, 2.0]])
            ).log_prob(jnp.log(x))
            - jnp.log(x).sum()
        ),
    ),
    "LKJ": (
        {"dist": "LKJ", "dimension": 3, "concentration": 1.6},
        lambda x: dist.LKJ(3, 1.6).log_prob(matrix(x)),
    ),
}


def matrix(x: Any) -> Any:
    size = 3 if len(x) == 3 else 4
    lower = jnp.zeros((size, size)).at[np.tril_indices(size, -1)].set(x)
    return lower + lower.T + jnp.eye(size)


JOINTS["large LKJ"] = (
    {"dist": "LKJ", "dimension": 4, "concentration": 1.6},
    lambda x: dist.LKJ(4, 1.6).log_prob(matrix(x)),
)


@pytest.mark.parametrize("name", [*list(JOINTS)[:4], pytest.param("large LKJ", marks=pytest.mark.slow)])
def test_the_density_of_a_joint_prior_is_numpyros(name: str) -> None:
    table, exact = JOINTS[name]
    whole = space(v=table)
    rows = jnp.asarray(np.random.default_rng(1).normal(size=(20, whole.size)) * 1.3)

    def density(z: Any) -> Any:  # by the change of variables
        return norm.logpdf(z).sum() - jnp.linalg.slogdet(jax.jacfwd(whole.theta)(z))[1]

    theta = jax.jit(whole.theta)(rows)
    got, expected = jax.jit(jax.vmap(density))(rows), jax.jit(jax.vmap(exact))(theta)
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)
    back = whole.whiten({each: theta[:, i] for i, each in enumerate(whole.names)})
    assert np.allclose(back, rows, atol=1e-6)


def test_draws_have_numpyros_distribution() -> None:
    z = np.random.default_rng(2).normal(size=(4000, 2))
    shares = np.asarray(jax.jit(space(v={"dist": "Dirichlet", "concentration": [0.8, 2.0, 3.5]}).theta)(z))
    theirs = np.asarray(dist.Dirichlet(jnp.array([0.8, 2.0, 3.5])).sample(jax.random.key(0), (4000,)))
    whole = np.column_stack([shares, 1.0 - shares.sum(axis=1)])
    assert all(stats.ks_2samp(a, b).pvalue > 1e-3 for a, b in zip(whole.T, theirs.T, strict=True))
    ordered = np.asarray(jax.jit(space(v=NORMAL | {"size": 2, "ordered": True}).theta)(z))
    theirs = np.sort(np.random.default_rng(3).normal(0.3, 1.7, (4000, 2)), axis=1)
    assert (np.diff(ordered, axis=1) > 0.0).all()
    assert all(stats.ks_2samp(a, b).pvalue > 1e-3 for a, b in zip(ordered.T, theirs.T, strict=True))


def test_values_that_a_joint_prior_excludes_are_held_back() -> None:
    shares = space(v={"dist": "Dirichlet", "size": 3})
    held = np.asarray(shares.whiten_held({"v[0]": np.array([0.2, 0.7, 1.2]), "v[1]": np.array([0.5, 0.5, 0.1])}))
    assert np.isfinite(held[0]).all() and np.isnan(held[1, 1]) and np.isnan(held[2, 0])
    ordered = space(v=NORMAL | {"size": 2, "ordered": True})
    assert np.isnan(ordered.whiten_held({"v[0]": 1.0, "v[1]": 0.5})[1])
    bounded = space(a={"dist": "LogNormal"}, b={"dist": "Uniform", "low": 0.0, "high": "a"})
    held = np.asarray(bounded.whiten_held({"a": np.array([2.0, 2.0]), "b": np.array([1.0, 3.0])}))
    assert np.isfinite(held[0]).all() and np.isnan(held[1, 1])


def test_arrays_are_spread_over_their_numbers() -> None:
    found = spread({"v": np.array([1.0, 2.0, 3.0]), "a": 4.0}, ["v[0]", "v[1]", "a"])
    assert found == {"a": 4.0, "v[0]": 1.0, "v[1]": 2.0}


def test_ordered_numbers_keep_their_order_far_out() -> None:
    whole = space(v=NORMAL | {"size": 3, "ordered": True})
    slope_of = jax.jit(lambda z: (whole.theta(z), jax.jvp(whole.theta, (z,), (jnp.ones(3),))[1]))
    for row in ([8.0, 8.0, 8.0], [-8.0, -8.0, -8.0], [6.0, -6.0, 6.0], [-6.0, 6.0, -6.0]):
        theta, slope = (np.asarray(each) for each in slope_of(jnp.asarray(row)))
        assert np.isfinite(slope).all() and (np.diff(theta) >= 0.0).all(), row


def test_a_hierarchy_of_a_vector() -> None:
    parameters = {
        "center": NORMAL,
        "spread": {"dist": "HalfNormal", "scale": 2.0},
        "scale": [1.0, 2.0, 3.0],
        "effect": {"dist": "Normal", "loc": "center", "scale": "spread * scale", "size": 3, "unit": "points"},
        "base": {"dist": "Normal", "loc": [0.0, 1.0, 2.0], "scale": 0.5, "size": 3},
    }
    whole = space(**parameters)
    assert whole.fixed == {f"scale[{i}]": i + 1.0 for i in range(3)}
    values = whole.values(jnp.ones(whole.size))
    assert [float(values[f"effect[{i}]"]) for i in range(3)] == pytest.approx(
        [float(values["center"] + values["spread"] * k) for k in (1, 2, 3)]
    )
    assert [float(values[f"base[{i}]"]) for i in range(3)] == pytest.approx([0.5, 1.5, 2.5])
    assert Space.from_json(whole.to_json()).names == whole.names
    ordered = space(center=NORMAL, cut={"dist": "Normal", "loc": "center", "scale": 2.0, "size": 2, "ordered": True})
    assert ordered.order == ["center", "cut[0]", "cut[1]"]
    assert Space.from_json(ordered.to_json()).to_json() == ordered.to_json()


def test_a_simulator_sees_arrays(code: Path) -> None:
    parameters = {
        "effect": NORMAL | {"size": 3},
        "shift": 2.0,
        "corr": {"dist": "LKJ", "dimension": 3, "concentration": 2.0},
    }
    config = made(parameters, f"{code}:Schools")
    simulator = build_simulator(config.simulate)
    assert list(simulator.parameters)[:4] == ["effect[0]", "effect[1]", "effect[2]", "shift"]
    assert simulator.parameters["effect[1]"] == "points"
    whole = Space(config.parameters)
    p = whole.values(jnp.linspace(-1.0, 1.0, whole.size))
    outputs = simulator.solve(p, config.simulate.solver).outputs
    assert np.allclose(outputs["score"], [float(p[f"effect[{i}]"]) + 2.0 for i in range(3)])
    assert float(outputs["r"]) == pytest.approx(float(p["corr[2,0]"]))


def test_an_equation_sees_arrays(code: Path) -> None:
    config = made({"rates": {"dist": "LogNormal", "size": 2, "loc": [0.0, 0.5]}}, f"{code}:Chain")
    options = {"times": [0.0, 1.0, 2.0]}
    simulator = build_simulator(config.simulate.model_copy(update={"options": options}))
    p = {"rates[0]": jnp.asarray(1.0), "rates[1]": jnp.asarray(0.5)}
    got = np.asarray(simulator.solve(p, config.simulate.solver).outputs["last"])
    t = np.array([0.0, 1.0, 2.0])
    assert np.allclose(got, 1.5 * (np.exp(-0.5 * t) - np.exp(-t)) / 0.5, atol=1e-5)


@pytest.mark.slow  # the lanes are compiled; their twin is the test before
def test_an_equation_sees_arrays_in_lanes(code: Path) -> None:
    config = made({"rates": {"dist": "LogNormal", "size": 2, "loc": [0.0, 0.5]}}, f"{code}:Chain")
    settings = config.simulate.model_copy(update={"options": {"times": [0.0, 1.0, 2.0]}})
    whole = Space(config.parameters)
    rows = build_ensemble(settings, whole)(np.random.default_rng(0).normal(size=(6, 2)), np.arange(6))
    (a, b), t = rows.theta.T[..., None], np.array([0.0, 1.0, 2.0])
    assert np.allclose(rows.outputs["last"], (a + b) * a * (np.exp(-b * t) - np.exp(-a * t)) / (a - b), atol=1e-5)


def test_vectors_of_each_experiment(code: Path) -> None:
    table = helpers.line()
    table["parameters"] = {
        "effect": NORMAL | {"size": 3, "per": "experiment"},
        "shift": 0.0,
        "corr": {"dist": "LKJ", "dimension": 3},
    }
    table["simulate"] = table["simulate"] | {"simulator": f"{code}:Schools", "options": {}}
    data = {"file": table.pop("observation")["file"]}
    table["experiments"] = {name: {"observation": data} for name in ("low", "high")}
    config = helpers.problem(table)
    simulator = build_simulator(config.simulate)
    assert list(simulator.parameters)[:3] == ["effect[0].low", "effect[1].low", "effect[2].low"]
    whole = Space(config.parameters)
    p = whole.values(jnp.linspace(-1.0, 1.0, whole.size))
    outputs = simulator.solve(p, config.simulate.solver).outputs
    assert np.allclose(outputs["high.score"], [float(p[f"effect[{i}].high"]) for i in range(3)])
    assert float(outputs["low.r"]) == pytest.approx(float(p["corr[2,0]"]))


def test_a_python_function_sees_arrays(code: Path) -> None:
    from simfer.stages.simulate.children.functions import Function

    config = made({"weights": {"dist": "Dirichlet", "size": 3}, "shift": 1.0}, f"{code}:plain")
    spec = {"target": f"{code}:plain", "options": {}, "dims": {}, "vectors": config.simulate.vectors}
    function = Function(spec)
    assert list(function.facts()["parameters"]) == ["weights[0]", "weights[1]", "shift"]
    returned = function.run(0, {"weights[0]": 0.2, "weights[1]": 0.5, "shift": 1.0}, None)
    assert float(returned.outputs["mean"].values) == pytest.approx(0.5 + 2 * 0.3 + 1.0)
    assert config.derived["weights[2]"].formula == "1 - `weights[0]` - `weights[1]`"


def test_numbers_are_one_variable_in_the_file_and_numbers_in_tables() -> None:
    import xarray as xr

    sample, drawn = ("chain", "draw"), np.arange(6.0).reshape(1, 6)
    variables = {"a": (sample, drawn, {}), **{f"v[{i}]": (sample, drawn + i, {"units": "m"}) for i in range(3)}}
    dataset = xr.Dataset(together(variables))
    assert dataset["v"].dims == ("chain", "draw", "v_dim_0") and dataset["v"].attrs == {"units": "m"}
    numbers = scalars(dataset)
    assert list(numbers) == ["a", "v[0]", "v[1]", "v[2]"]
    assert np.array_equal(numbers["v[2]"], drawn + 2.0)
    assert gathered({"x": 1.0}, {"v": ["`v[0]`"]}, np) == {"x": 1.0}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"v": {"dist": "Normal", "size": 0}}, "v.size: got 0"),
        ({"v": {"dist": "Normal", "loc": [1.0, 2.0], "size": 3}}, "v.loc: got 2 numbers, expected 3"),
        ({"a": [1.0, 2.0], "v": {"dist": "Normal", "loc": "a", "size": 3}}, "a has 2 numbers, expected 3"),
        ({"v": {"dist": "Dirichlet"}}, "v.size: got None"),
        ({"v": {"dist": "Dirichlet", "concentration": [1.0, -2.0]}}, "got -2.0, expected numbers > 0"),
        ({"v": {"dist": "MultivariateNormal", "size": 2}}, "expected names of two parameters or more"),
        ({"v": {"dist": "MultivariateNormal", "covariance": [[1.0, 2.0], [2.0, 1.0]]}}, "positive definite"),
        ({"v": {"dist": "LKJ", "dimension": 1}}, "v.dimension: got 1"),
        ({"v": {"dist": "LKJ", "dimension": 2, "scale": 1.0}}, "v.scale: unknown key"),
        ({"v": {"dist": "Normal", "loc": [1.0, 2.0], "size": 2, "ordered": True}}, "have one prior"),
        ({"v": {"dist": "Normal", "size": 2}, "v[0]": 1.0}, "has a place in parameters.v too"),
    ],
)
def test_a_vector_that_makes_no_sense_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words.replace("[", r"\[")):
        made(parameters)
