"""Several experiments with one simulator: written out, and a likelihood that is known from elsewhere."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simfer.pipeline import chain
from simfer.stages.errors import ConfigError
from simfer.stages.model.likelihood import read_likelihood
from simfer.stages.model.outputs import Layout, Status
from simfer.stages.model.space import Space
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.backends.contract import Block
from simfer.stages.simulate.ensemble import build_simulator
from tests import helpers

HALF = {"dist": "HalfNormal", "scale": 1.0}


def lines(folder: Path, **more: Any) -> dict[str, Any]:
    """Return two experiments with lines that share a slope, at places of their own."""
    (folder / "one.csv").write_text("x,y\n0,1\n1,2\n")
    (folder / "two.csv").write_text("x;y;sd\n0;3,5;0,1\n2;4,5;0,2\n2;4,6;0,2\n")
    table = helpers.line(
        parameters={"intercept": {"dist": "Normal", "loc": "center", "per": "experiment"}, "center": 0.0},
        simulate={"options": None},
        observation=None,
        noise={"y": {"dist": "Normal", "scale": HALF}},
        experiments={
            "one": {"options": {"x": [0.0, 1.0]}, "observation": {"file": str(folder / "one.csv")}},
            "two": {
                "options": {"x": [0.0, 1.0, 2.0]},
                "observation": {"file": str(folder / "two.csv"), "ignore": ["sd"]},
            },
        },
    )
    return helpers.merged(table, more)


def test_what_it_is_written_out_as(tmp_path: Path) -> None:
    table = lines(tmp_path, dataset={"transform": {"y": "asinh"}}, parameters={"center": None})
    table["parameters"]["intercept"]["loc"] = 0.5
    problem = helpers.problem(table)
    assert list(problem.parameters) == ["intercept.one", "intercept.two", "slope"]
    assert list(problem.noise) == ["one.y", "two.y"] and list(problem.noise_parameters) == ["y_scale"]
    assert problem.dataset.transform == {"one.y": "asinh", "two.y": "asinh"}
    assert chain.mistakes(problem) == []


@pytest.mark.parametrize("name", ["line_at", "LineAt"])
def test_a_plain_function_gives_what_jax_does(tmp_path: Path, name: str) -> None:
    table = lines(tmp_path, simulate={"num_simulations": 20, "workers": 1})
    plain = helpers.merged(table, {"simulate": {"simulator": f"{Path(__file__).with_name('plain.py')}:{name}"}})
    assert chain.mistakes(helpers.problem(plain)) == []
    rows = []
    for given in (table, plain):
        space, settings = Space(helpers.problem(given).parameters), helpers.problem(given).simulate
        with closing(build_backend(settings, space)) as backend:
            z = np.random.default_rng(0).normal(size=(20, space.size))
            found = backend.solve(Block(z, np.arange(20), "simulate-0", 20), lambda done, failed: None)
            assert set(backend.outputs()) == {"one.y", "two.y"} and backend.outputs()["two.y"].dims == ("two.x",)
            rows.append(found.rows)
    expected, found = rows
    ok = found.status == Status.OK
    assert ok.all() == (name == "line_at") and ok.any()
    for output in ("one.y", "two.y"):
        np.testing.assert_allclose(found.outputs[output][ok], expected.outputs[output][ok], rtol=1e-12)


def test_who_cannot_be_called_for_each_experiment_is_told_apart(tmp_path: Path) -> None:
    plain = f"{Path(__file__).with_name('plain.py')}:random_at"
    (found,) = chain.mistakes(helpers.problem(lines(tmp_path, simulate={"simulator": plain, "workers": 1})))
    assert found.where == "experiments" and "the simulator is random" in found.what
    program = {"command": ["echo"], "outputs": {"one.y": {"file": "stdout", "pattern": "(1)"}}}
    table = lines(tmp_path, simulate={"simulator": None, "program": program})
    found, *_ = chain.mistakes(helpers.problem(table))
    assert found.where == "experiments.one.options" and "a program takes no options" in found.what


def test_parameters_are_shared_but_those_of_each_experiment(tmp_path: Path) -> None:
    table = lines(tmp_path, parameters={"center": None})
    table["parameters"]["intercept"]["loc"] = 0.0
    problem = helpers.problem(table)
    simulator, space = build_simulator(problem.simulate), Space(problem.parameters)
    layout = Layout(simulator.outputs())
    assert list(layout.outputs) == ["one.y", "two.y"] and layout.outputs["two.y"].dims == ("two.x",)
    values = {"intercept.one": 1.0, "intercept.two": 3.0, "slope": 0.5}
    solution = simulator.solve({name: jnp.asarray(value) for name, value in values.items()}, problem.simulate.solver)
    assert np.allclose(solution.outputs["one.y"], [1.0, 1.5]) and np.allclose(solution.outputs["two.y"], [3, 3.5, 4])
    likelihood = read_likelihood(problem, layout, {})
    assert likelihood.noise_space.names == ["y_scale"] and space.names == list(values)
    flat = jnp.concatenate([solution.outputs[name] for name in layout.outputs])[likelihood.index]
    expected = stats.norm.logpdf([1, 2, 3.5, 4.5, 4.6], [1.0, 1.5, 3.0, 4.0, 4.0], 0.7).sum()
    assert float(likelihood.exact(flat, {"y_scale": 0.7})) == pytest.approx(expected)


def test_a_hierarchy_over_experiments(tmp_path: Path) -> None:
    table = lines(tmp_path, parameters={"center": {"dist": "Normal", "loc": 2.0}})
    problem = helpers.problem(table)
    assert chain.mistakes(problem) == []  # of `center` the simulator knows nothing
    space = Space(problem.parameters)
    at = dict(zip(space.names, (0.5, -0.5, 0.0, 1.0), strict=True))
    assert space.names == ["intercept.one", "intercept.two", "slope", "center"]
    values = space.values(jnp.asarray(list(at.values())))
    assert float(values["center"]) == 3.0
    assert (float(values["intercept.one"]), float(values["intercept.two"])) == (3.5, 2.5)


def test_a_mistake_says_in_which_experiment(tmp_path: Path) -> None:
    table = lines(tmp_path, experiments={"two": {"options": {"z": 1.0}}}, parameters={"center": None})
    table["parameters"]["intercept"]["loc"] = 0.0
    assert [each.where for each in chain.mistakes(helpers.problem(table))] == ["experiments.two.options.z"]
    (tmp_path / "two.csv").write_text("x,y\n7,1\n")
    table = helpers.merged(table, {"experiments": {"two": {"options": {"z": None}}}})
    (found,) = chain.mistakes(helpers.problem(table))
    assert found.where == "observation.two.file: column two.y" and "got two.x = 7" in found.what
    with pytest.raises(ConfigError, match="letters, digits and underscores"):
        helpers.problem(helpers.merged(table, {"experiments": {"a-b": table["experiments"]["one"]}}))
    with pytest.raises(ConfigError, match=r"a key of \[observation\]"):
        helpers.problem(helpers.merged(table, {"experiments": {"long": table["experiments"]["one"]}}))


# Carotenoids cleaved by enzymes (Bruno et al. 2016), as Benchmark-Models-PEtab has them: Bruno_JExpBot2016.
CODE = '''
import jax
import jax.numpy as jnp
import numpy as np

from simfer import FunctionSimulator, Output

STATE = ("bcar", "b10", "bcry", "ohb10", "zea")


class Carotenoids(FunctionSimulator):
    """Rates of the first order, and so a matrix's exponential."""

    parameters = {"amount": "", "kb1": "", "kb2": "", "kc1": "", "kc2": "", "kc4": "", "k5": "", "szea": ""}
    start: str = "b10"
    scaled: bool = False
    times: tuple = (5.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)

    def outputs(self):
        return {name: Output(("time",), {"time": np.asarray(self.times)}) for name in STATE}

    def __call__(self, p):
        rates = [("bcar", "b10", "kb1"), ("b10", None, "kb2"), ("bcry", "b10", "kc1"), ("bcry", "ohb10", "kc2")]
        rates += [("ohb10", None, "kc4"), ("zea", "ohb10", "k5")]
        matrix = jnp.zeros((5, 5))
        for source, to, name in rates:
            rate = p[name] * (p["szea"] if self.scaled else 1.0)
            i = STATE.index(source)
            matrix = matrix.at[i, i].add(-rate)
            matrix = matrix if to is None else matrix.at[STATE.index(to), i].add(rate)
        first = jnp.zeros(5).at[STATE.index(self.start)].set(p["amount"])
        states = jax.vmap(lambda t: jax.scipy.linalg.expm(matrix * t) @ first)(jnp.asarray(self.times))
        return {name: states[:, i] for i, name in enumerate(STATE)}
'''
STARTS = {"c1": "b10", "c2": "bcar", "c3": "bcar", "c4": "bcry", "c5": "ohb10", "c6": "zea"}
BRUNO = {
    "c1": """time,b10,b10_sd
5,3.973385,0.406451
15,3.976118,0.406728
30,3.12959,0.320749
60,3.131418,0.320935
90,3.105543,0.31831
120,2.279702,0.234682
180,1.321613,0.138555
""",
    "c2": """time,bcar,bcar_sd,b10,b10_sd
15,3.83496,0.251006,0.87947,0.110017
30,2.68932,0.179664,1.61775,0.194075
45,2.12541,0.145321,2.0221,0.240978
60,1.55414,0.111703,2.51711,0.298703
90,0.90185,0.076761,2.24951,0.267467
120,0.62496,0.064455,2.46923,0.29311
180,0.30276,0.054089,2.09599,0.249578
""",
    "c3": """time,bcar,bcar_sd,b10,b10_sd
15,2.792,0.161073,0.573,0.066702
30,2.51,0.146065,0.849,0.092359
45,2.101,0.124582,0.968,0.10382
60,1.917,0.115071,1.212,0.127709
90,1.598,0.098916,1.411,0.147436
120,1.135,0.076702,1.612,0.167498
180,0.824,0.063285,2.168,0.223405
""",
    "c4": """time,bcry,bcry_sd,b10,b10_sd,ohb10,ohb10_sd
15,4.804181,0.43054,0.186897,0.043179,0.750567,0.146042
30,3.874252,0.353484,0.238582,0.046576,0.957066,0.185626
45,3.687507,0.338201,0.268357,0.048771,1.058638,0.205133
60,2.905136,0.275261,0.377915,0.057968,1.40061,0.270906
90,2.471236,0.241465,0.332696,0.053988,1.342636,0.259748
120,2.243992,0.224241,0.410503,0.060963,1.652208,0.319353
180,0.922679,0.137702,0.487949,0.068419,2.005941,0.387509
""",
    "c5": """time,ohb10,ohb10_sd
5,2.187219,0.365852
15,1.490176,0.249545
30,1.243819,0.208483
60,1.100679,0.184647
90,1.142316,0.191578
120,0.794621,0.13378
180,0.696621,0.117543
""",
    "c6": """time,ohb10,ohb10_sd,zea,zea_sd
15,0.098,0.023108,2.761,0.172674
30,0.1573,0.030931,2.93,0.183243
45,0.165,0.032031,2.842,0.17774
60,0.23,0.041749,2.763,0.172799
90,0.374,0.064588,2.581,0.161417
120,0.445,0.076127,2.449,0.153161
180,0.46,0.090733,2.128,0.133086
""",
}
MODE = {
    "kb1": 0.01663,
    "kb2": 0.005844,
    "kc1": 0.001679,
    "kc2": 0.006976,
    "kc4": 0.006083,
    "k5": 0.003087,
    "szea": 0.517,
}
AMOUNTS = {"c1": 4.222, "c2": 4.440, "c3": 3.302, "c4": 5.217, "c5": 1.737, "c6": 2.958}


def test_six_experiments_with_error_bars_have_the_likelihood_that_is_published(plugin: str, tmp_path: Path) -> None:
    """chi^2 is 65.11 and the negative log likelihood -46.688 at the mode, by PEtab's own benchmark."""
    experiments = {}
    for name, csv in BRUNO.items():
        (tmp_path / f"{name}.csv").write_text(csv)
        options = {"start": STARTS[name], "scaled": name in ("c3", "c6")}
        experiments[name] = {"options": options, "observation": {"file": str(tmp_path / f"{name}.csv")}}
    wide = {"dist": "LogUniform", "low": 1e-4, "high": 25.0}
    seen = ("bcar", "b10", "bcry", "ohb10", "zea")
    table = {
        "parameters": {"amount": wide | {"per": "experiment"}} | dict.fromkeys(MODE, wide),
        "simulate": {"simulator": f"{plugin}:Carotenoids", "num_simulations": 100},
        "experiments": experiments,
        "noise": {name: {"dist": "Normal", "scale": {"column": f"{name}_sd"}} for name in seen},
    }
    problem = helpers.problem(table)
    assert chain.mistakes(problem) == []
    simulator = build_simulator(problem.simulate)
    layout = Layout(simulator.outputs())
    likelihood = read_likelihood(problem, layout, {})
    assert len(likelihood.index) == 77 and likelihood.noise_space.size == 0
    values = {name: jnp.asarray(value) for name, value in MODE.items()}
    values |= {f"amount.{name}": jnp.asarray(value) for name, value in AMOUNTS.items()}
    outputs = jax.jit(lambda p: simulator.solve(p, problem.simulate.solver).outputs)(values)
    flat = jnp.concatenate([outputs[name] for name in layout.outputs])[likelihood.index]
    assert float(likelihood.exact(flat, {})) == pytest.approx(46.688, abs=0.01)
