"""Problems that people brought to neighbouring projects, as whole configs, with right answers computed elsewhere.

One that needs a file of another project is skipped where that is not there (SIMFER_CASES names its folder); smaller
twins, typed, are in tests/model and tests/simulate.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import run
from tests.chain.test_reference import FOLDER as REFERENCE

FOLDER = Path(os.environ.get("SIMFER_CASES", REFERENCE.parent / "cases" / "data"))
CODE = '''
import jax
import jax.numpy as jnp
import numpy as np

from simfer import FunctionSimulator, ODESimulator, Output


class Level(FunctionSimulator):
    parameters = {"m": ""}

    def outputs(self):
        return {"y": Output()}

    def __call__(self, p):
        return {"y": p["m"]}


class Line(FunctionSimulator):
    parameters = {"a": "", "b": ""}

    def outputs(self):
        return {"y": Output(("x",), {"x": np.linspace(0.0, 1.0, 6)})}

    def __call__(self, p):
        return {"y": p["a"] + p["b"] * jnp.linspace(0.0, 1.0, 6)}


class Decay(ODESimulator):
    parameters = {"A": "", "k": ""}

    def initial_state(self, p):
        return jnp.asarray(p["A"])

    def vector_field(self, t, y, p):
        return -p["k"] * y

    def observe(self, t, y, p):
        return {"c": y}


class Relay(ODESimulator):
    parameters = {"ka": "", "kb": "", "S0": "", "S1": ""}

    def jumps(self, p):
        return jnp.zeros(1)

    def initial_state(self, p):
        return jnp.zeros(2)

    def vector_field(self, t, y, p):
        stimulus = jnp.where(t < 0.0, p["S0"], p["S1"])
        return jnp.stack([p["ka"] * (stimulus - y[0]), p["kb"] * (y[0] - y[1])])

    def observe(self, t, y, p):
        return {"A_obs": y[0], "B_obs": y[1]}


class Lag(ODESimulator):
    parameters = {"ka": "", "ke": "", "V": "", "tlag": ""}

    def initial_state(self, p):
        return {"depot": jnp.asarray(0.0), "blood": jnp.asarray(0.0)}

    def doses(self, p):
        return p["tlag"][None], {"depot": 100.0, "blood": 0.0}

    def vector_field(self, t, y, p):
        absorbed = p["ka"] * y["depot"]
        return {"depot": -absorbed, "blood": absorbed - p["ke"] * y["blood"]}

    def observe(self, t, y, p):
        return {"c": y["blood"] / p["V"]}


class Delayed(FunctionSimulator):
    """Delayed logistic growth, by Runge and Kutta's method on a grid whose past is looked up between its points."""

    parameters = {"r": "", "K": "", "tau": ""}

    def outputs(self):
        return {"n": Output(("time",), {"time": np.arange(0.0, 101.0, 4.0)})}

    def __call__(self, p):
        h, steps = 0.1, 1000
        past = jnp.full(steps + 1, 200.0)

        def step(past, i):
            def before(t):
                x = jnp.maximum((t - p["tau"]) / h, 0.0)
                low = jnp.floor(x).astype(int)
                return past[low] + (x - low) * (past[jnp.minimum(low + 1, i)] - past[low])

            def rate(t, n):
                return p["r"] * n * (1.0 - before(t) / p["K"])

            t, n = i * h, past[i]
            a = rate(t, n)
            b = rate(t + h / 2, n + h / 2 * a)
            c = rate(t + h / 2, n + h / 2 * b)
            n = n + h / 6 * (a + 2 * b + 2 * c + rate(t + h, n + h * c))
            return past.at[i + 1].set(n), None

        past, _ = jax.lax.scan(step, past, jnp.arange(steps))
        return {"n": past[::40]}


class Acetylation(FunctionSimulator):
    """The steady state of 16 states, between which an acetyl group comes and goes; a loss has rate 1."""

    parameters = dict.fromkeys(RATES, "")
    states: tuple = ()
    steps: tuple = ()  # from, to, and the rate

    def outputs(self):
        return {name: Output() for name in self.states if name in OBSERVED}

    def __call__(self, p):
        matrix = jnp.zeros((len(self.states),) * 2)
        for source, to, name in self.steps:
            i, j = self.states.index(source), self.states.index(to)
            rate = p[name]
            matrix = matrix.at[i, i].add(-rate).at[j, i].add(rate).at[j, j].add(-1.0).at[i, j].add(1.0)
        matrix = matrix.at[-1].set(1.0)
        x = jnp.linalg.solve(matrix, jnp.zeros(len(self.states)).at[-1].set(1.0))
        return {name: x[i] for i, name in enumerate(self.states) if name in OBSERVED}
'''
RATES = ["a_basal", "a_k8", "a_k5_k5k12", "a_k12_k5k12", "a_k16_k12k16", "a_k5k12_k5k8k12", "a_k12k16_k8k12k16"]
RATES += ["a_k8k12k16_4ac"]


def log_normal(loc: float, scale: float) -> dict[str, Any]:
    return {"dist": "LogNormal", "loc": loc, "scale": scale}


def answer(folder: Path, simulator: str, data: str, **sections: Any) -> dict[str, dict[str, float]]:
    """Run a config to its verdict, which has to be good, and return the table of its posterior."""
    code = CODE.replace("OBSERVED", repr(sections.pop("observed", ()))).replace("RATES", repr(RATES))
    (folder / "models.py").write_text(code)
    (folder / "data.csv").write_text(data)
    observation = {"file": str(folder / "data.csv")} | sections.pop("observation", {})
    simulate = {"simulator": f"{folder / 'models.py'}:{simulator}", "num_simulations": 300} | sections.pop(
        "simulate", {}
    )
    refine = {"max_rounds": 5, "simulations_per_round": 200}
    table = {"simulate": simulate, "observation": observation, "refine": refine} | sections
    result = run(table, store=folder / "store")
    assert result.verdict.passed, result.verdict
    return {row["parameter"]: row for row in result.summaries["infer"]["tables"]["posterior"]}


def hold(found: dict[str, dict[str, float]], right: dict[str, tuple[float, float]]) -> None:
    """Hold means and sds against right ones, which are rounded."""
    for name, (mean, sd) in right.items():
        row = found[name]
        assert abs(row["mean"] - mean) < 0.2 * sd, (name, row["mean"], mean, sd)
        assert row["sd"] == pytest.approx(sd, rel=0.15), (name, row["sd"], sd)


def shared(name: str) -> str:
    """Return the text of a file of another project."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"no {name} in {FOLDER} (SIMFER_CASES names another folder)")
    return (FOLDER / name).read_text()


@pytest.mark.slow
def test_case_9_replicates(tmp_path: Path) -> None:
    """ICB-DCM/pyPESTO #122: of three data at each time the last alone were used."""
    rows = {0: (10.02, 10.68, 10.61), 1: (7.15, 7.26, 7.14), 2: (5.77, 5.46, 5.86), 4: (2.09, 3.80, 2.96)}
    rows |= {8: (1.25, 0.84, 0.72)}
    found = answer(
        tmp_path,
        "Decay",
        "time,c\n" + "".join(f"{t},{y}\n" for t, data in rows.items() for y in data),
        parameters={"A": log_normal(2.3026, 0.5), "k": log_normal(-1.204, 0.5)},
        simulate={"options": {"times": list(rows)}},
        noise={"c": {"dist": "Normal", "scale": 0.5}},
    )
    hold(found, {"A": (10.278, 0.258), "k": (0.3123, 0.0189)})


@pytest.mark.slow
def test_case_9_fifteen_fractions_with_one_sigma(tmp_path: Path) -> None:
    """Blasi et al. (2016), with 12 to 18 replicates of each fraction and one sigma of the logarithm for all."""
    data, told = shared("blasi.csv"), shared("blasi_reactions.txt")
    basal = set(re.findall(r"^assignmentRule (\w+) = ", told, re.MULTILINE))
    found = re.findall(r"^rxn \w+ \['(\w+)'\] -> \['(\w+)'\] \['\(\((\w+)\*", told, re.MULTILINE)
    steps = [(source, to, "a_basal" if rate in basal else rate) for source, to, rate in found]
    assert len(steps) == 32 and {rate for *_, rate in steps} == set(RATES)
    states = sorted({state for step in steps for state in step[:2]})
    observed = data.splitlines()[0].split(",")
    assert len(states) == 16 and len(observed) == 15
    table = answer(
        tmp_path,
        "Acetylation",
        data,
        observed=tuple(observed),
        parameters={name: {"dist": "LogUniform", "low": 1e-3, "high": 1e2} for name in RATES},
        simulate={"options": {"states": states, "steps": [list(step) for step in steps]}, "num_simulations": 1000},
        dataset={"transform": dict.fromkeys(observed, "log")},
        noise_parameters={"sigma": {"dist": "HalfNormal", "scale": 1.0}},
        noise={name: {"dist": "LogNormal", "scale": "sigma"} for name in observed},
        refine={"max_rounds": 6, "simulations_per_round": 300, "keep": 1000},
    )
    hold(
        table,
        {
            "a_basal": (0.0670, 0.0021),
            "a_k8": (0.0271, 0.0030),
            "a_k5_k5k12": (2.07, 0.19),
            "a_k12_k5k12": (0.550, 0.075),
            "a_k16_k12k16": (0.697, 0.057),
            "a_k5k12_k5k8k12": (0.328, 0.030),
            "a_k12k16_k8k12k16": (2.21, 0.16),
            "a_k8k12k16_4ac": (3.59, 0.29),
            "sigma": (0.2586, 0.0119),
        },
    )


@pytest.mark.slow
def test_case_10_below_the_limit_of_detection(tmp_path: Path) -> None:
    """Data2Dynamics/d2d, Detection_Limit: 48 of 100 values are below 1, and written as 0.5."""
    rows = list(csv.reader(shared("lod_B.csv").splitlines()))[1:]
    cells = ["<1" if float(row[1]) == 0.5 else row[1].strip() for row in rows]
    assert cells.count("<1") == 48
    found = answer(
        tmp_path,
        "Level",
        "y\n" + "\n".join(cells) + "\n",
        parameters={"m": {"dist": "Normal", "loc": 0.0, "scale": 5.0}},
        noise={"y": {"dist": "Normal", "scale": {"dist": "HalfNormal", "scale": 5.0}}},
    )
    hold(found, {"m": (1.070, 0.140), "y_scale": (1.141, 0.131)})


@pytest.mark.slow
def test_case_13_a_correlated_prior_and_what_follows(tmp_path: Path) -> None:
    found = answer(
        tmp_path,
        "Line",
        "x,y\n0,1.3\n0.2,1.1\n0.4,1.6\n0.6,1.2\n0.8,1.9\n1,1.5\n",
        parameters={},
        priors={"both": {"names": ["a", "b"], "loc": [0.0, 0.0], "covariance": [[1.0, 0.9], [0.9, 1.0]]}},
        derived={"end": "a + b"},
        noise={"y": {"dist": "Normal", "scale": 0.5}},
    )
    # The variance of a sum, with the correlation of -0.358.
    hold(found, {"a": (0.9759, 0.1980), "b": (0.8044, 0.2856), "end": (1.7803, 0.2835)})


@pytest.mark.slow
def test_case_14_steady_before_a_stimulus(tmp_path: Path) -> None:
    """Data2Dynamics/d2d, Advanced_Events: negative times, and columns that are no data."""
    data = shared("cond1_original.csv")
    times = [float(line.split(",")[0]) for line in data.splitlines()[1:]]
    found = answer(
        tmp_path,
        "Relay",
        data,
        parameters={
            "ka": log_normal(-2.3026, 1.0),
            "kb": log_normal(-2.3026, 1.0),
            "S0": log_normal(2.3026, 0.5),
            "S1": log_normal(2.9957, 0.5),
        },
        simulate={"options": {"times": times, "start": -30.0, "steady": True}},
        observation={"ignore": ["A_obs_std", "B_obs_std", "amount", "input_bas_inh"]},
        noise={name: {"dist": "Normal", "scale": 1.0} for name in ("A_obs", "B_obs")},
    )
    hold(found, {"ka": (0.102, 0.019), "kb": (0.111, 0.036), "S0": (9.99, 0.23), "S1": (20.00, 0.16)})


@pytest.mark.slow
def test_case_16_a_lag_that_nobody_knows(tmp_path: Path) -> None:
    """FeRx-NLME/ferx-core #13: outputs have a kink in the lag at each time of a datum."""
    times = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 24)
    data = (-0.174, -0.134, -0.136, 1.021, 2.5, 3.527, 3.892, 3.933, 3.328, 2.793, 1.856, 0.531)
    found = answer(
        tmp_path,
        "Lag",
        "time,c\n" + "".join(f"{t},{y}\n" for t, y in zip(times, data, strict=True)),
        parameters={
            "ka": log_normal(0.0, 0.5),
            "ke": log_normal(-2.3026, 0.3),
            "V": log_normal(2.9957, 0.3),
            "tlag": {"dist": "Uniform", "low": 0.0, "high": 2.0},
        },
        simulate={"options": {"times": list(times), "start": 0.0}},
        noise={"c": {"dist": "Normal", "scale": 0.1}},
    )
    right = {"ka": (1.044, 0.086), "ke": (0.1000, 0.0062), "V": (19.53, 0.60), "tlag": (0.788, 0.026)}
    hold(found, right)


@pytest.mark.slow
def test_case_16_a_delay_that_nobody_knows(tmp_path: Path) -> None:
    """Cycles of a population whose growth looks back (RxODE #255; diffrax #406)."""
    data = (184.6, 331.2, 442.6, 885, 1357.7, 1477, 1690, 1383.9, 914.7, 621.6, 476.6, 725.7, 775.7, 1283.2, 1325.7)
    data += (1388.3, 1223.1, 1283.8, 861.3, 905.1, 716.4, 822.4, 799.9, 1362.3, 1178, 1166.2)
    found = answer(
        tmp_path,
        "Delayed",
        "time,n\n" + "".join(f"{4 * i},{y}\n" for i, y in enumerate(data)),
        parameters={"r": log_normal(-1.8971, 0.2), "K": log_normal(6.9078, 0.3), "tau": log_normal(2.1972, 0.2)},
        dataset={"transform": {"n": "log"}},
        noise={"n": {"dist": "LogNormal", "scale": 0.1}},
    )
    hold(found, {"r": (0.1531, 0.0019), "K": (1020.0, 22.0), "tau": (8.95, 0.10)})
