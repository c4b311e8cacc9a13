"""A row that fails is solved once more: where that can help it does, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfer.pipeline.chain import ConfigError, StageError, mistakes
from simfer.stages.artifacts.simulations import ATTEMPT, Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate import attempts
from simfer.stages.simulate.ensemble import Rows, build_ensemble
from tests import helpers
from tests.simulate.test_stage import numbers

BLOWUP = '''
import jax
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import ODESimulator
from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import Simulator
from simfer.stages.simulate.simulators.base import Solution

class Blowup(ODESimulator):
    """x' = rate x^2, which is x_0 / (1 - rate x_0 t): at infinity where rate x_0 t = 1."""

    parameters = {"x_0": "", "rate": ""}

    def initial_state(self, p):
        return p["x_0"]

    def vector_field(self, t, y, p):
        return p["rate"] * y**2

    def observe(self, t, y, p):
        return {"x": y}


class Noisy(Simulator):
    """A random number; the larger the parameter, the more steps it asks for."""

    parameters = {"a": ""}
    stochastic = True

    def outputs(self):
        return {"y": Output()}

    def solve(self, p, solver, key=None):
        y = p["a"] + jax.random.normal(key)
        status = jnp.where(p["a"] > jnp.log(solver.max_steps), 1, 0)
        return Solution({"y": jnp.where(status == 0, y, jnp.inf)}, status.astype(jnp.int8), jnp.asarray(1))
'''
LOG_NORMAL = {"dist": "LogNormal", "loc": -0.3, "scale": 0.5}
PARAMETERS = {"x_0": LOG_NORMAL, "rate": LOG_NORMAL}


@pytest.fixture(scope="module")
def plugin() -> Path:
    file = helpers.scratch() / "blowup.py"
    file.write_text(BLOWUP)
    (helpers.scratch() / "blowup.csv").write_text("time,x\n1.0,1.0\n")
    return file


def table(plugin: Path, **simulate: Any) -> dict[str, Any]:
    """Return a problem's table; None takes a key of [simulate] out."""
    given = {"simulator": f"{plugin}:Blowup", "num_simulations": 600, "options": {"times": [0.0, 1.0]},
             "solver": {"max_steps": 8}, "retry": {"max_steps": 2000}, "max_failed": 0.45} | simulate  # fmt: skip
    return {
        "parameters": {"a": {"dist": "Normal"}} if given["simulator"].endswith("Noisy") else PARAMETERS,
        "simulate": {key: value for key, value in given.items() if value is not None},
        "observation": {"file": str(plugin.with_suffix(".csv"))},
        "noise": {"x": {"dist": "Normal", "scale": 0.1}},
    }


def simulate(plugin: Path, folder: Path, **settings: Any) -> tuple[Simulations, dict[str, Any]]:
    summary = helpers.run_stage(helpers.problem(table(plugin, **settings)), "simulate-0", {}, folder)
    return Simulations.load(folder), summary


@pytest.fixture(scope="module")
def retried(plugin: Path) -> tuple[Simulations, dict[str, Any]]:
    return simulate(plugin, helpers.scratch() / "retried")


@pytest.fixture(scope="module")
def patient(plugin: Path) -> Simulations:
    return simulate(plugin, helpers.scratch() / "patient", solver={"max_steps": 2000}, retry=None)[0]


def test_it_helps_where_it_can_and_not_where_nothing_can(retried: tuple[Simulations, dict[str, Any]]) -> None:
    rows = retried[0].to_xarray()
    reach = rows["x_0"].values * rows["rate"].values
    _, status, attempt = retried[0].endings()
    assert np.array_equal(status == Status.OK, reach < 1)
    solved_again = (attempt == 2) & (status == Status.OK)
    assert solved_again.sum() > 50 and (attempt[reach > 1] == 2).all() and (attempt == 1).sum() > 50
    exact = rows["x_0"].values / (1 - reach)
    far = solved_again & (reach < 0.95)
    assert np.allclose(rows["x"].values[far, -1], exact[far], rtol=1e-4)
    facts = retried[1]["facts"]
    assert facts["retried"] == (attempt == 2).sum() and facts["solved_by_retry"] == solved_again.sum()
    assert 0 < facts["occupancy"] <= 1


def test_a_row_solved_again_is_what_those_settings_give(
    retried: tuple[Simulations, dict[str, Any]], patient: Simulations
) -> None:
    ours, theirs = retried[0].to_xarray(), patient.to_xarray()
    again = ours[ATTEMPT].values == 2
    assert np.array_equal(ours["status"], theirs["status"])
    assert np.array_equal(ours["num_steps"].values[again], theirs["num_steps"].values[again])  # those of its attempt
    good = ours["status"].values == Status.OK
    assert np.allclose(ours["x"].values[good], theirs["x"].values[good], rtol=1e-9)
    assert ATTEMPT not in theirs and (patient.endings()[2] == 1).all()


def test_the_map_names_the_product(retried: tuple[Simulations, dict[str, Any]]) -> None:
    _, summary = retried
    (warning,) = summary["warnings"]
    # log x_0 + log rate > 0 is z_1 + z_2 > 1.2, in unit weights 0.849.
    assert "x_0 is high" in warning and "rate is high" in warning and "0.71" in warning
    cut = float(warning.split("> ")[1].split(",")[0])
    assert cut == pytest.approx(1.2 / np.sqrt(2), abs=0.03)
    assert summary["pictures"] == ["design.png", "failures.png"]
    assert {row["parameter"] for row in list(summary["tables"].values())[1]} == {"x_0", "rate"}


def test_a_row_does_not_know_which_others_failed(
    plugin: Path, tmp_path: Path, retried: tuple[Simulations, dict[str, Any]]
) -> None:
    few, many = simulate(plugin, tmp_path, num_simulations=70)[0].to_xarray(), retried[0].to_xarray()
    for name in ("status", ATTEMPT, "num_steps"):
        assert np.array_equal(few[name].values, many[name].values[:70]), name
    again = few[ATTEMPT].values == 2
    assert again.any() and np.array_equal(few["x"].values[again], many["x"].values[:70][again])


def test_a_random_row_keeps_its_number_and_so_its_key(plugin: Path) -> None:
    space = Space(helpers.problem(helpers.line() | {"parameters": {"a": {"dist": "Normal"}}}).parameters)
    z, numbers = np.random.default_rng(0).normal(size=(90, 1)), np.arange(1000, 1090)
    settings: dict[str, Any] = {"simulator": f"{plugin}:Noisy", "num_simulations": 90}
    patient = build_ensemble(Simulate(**settings, solver={"max_steps": 1000}), space)(z, numbers, "check-1")
    hasty = Simulate(**settings, solver={"max_steps": 1}, retry={"max_steps": 1000})
    solved = attempts.build_attempts(hasty, space)(z, numbers, "check-1")
    assert (solved.attempt == np.where(z[:, 0] > 0, 2, 1)).all() and (solved.rows.status == Status.OK).all()
    assert np.array_equal(solved.rows.outputs["y"], patient.outputs["y"])


def test_what_the_retry_leaves_out_is_as_for_the_first_attempt(plugin: Path) -> None:
    solver = {"solver": "Dopri5", "rtol": 1e-8, "max_steps": 100}
    checked = helpers.problem(table(plugin, solver=solver, retry={"solver": "Kvaerno5"})).simulate
    assert checked.retry == checked.solver.model_copy(update={"solver": "Kvaerno5"})
    assert helpers.problem(table(plugin, retry=None)).simulate.retry is None


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"retry": {}}, "simulate.retry", "with which a row fails again; give more max_steps"),
        ({"retry": {"max_stps": 9}}, "simulate.retry.max_stps", 'unknown key. Did you mean "max_steps"?'),
        ({"retry": {"max_steps": 0}}, "simulate.retry.max_steps", "expected a number greater than 0"),
        ({"retry": {"fixed_step": True}}, "simulate.retry", "needs dt0"),
        ({"retry": 3}, "simulate.retry", "expected a table of settings"),
    ],
)
def test_a_mistake_in_the_retry_is_named(plugin: Path, changes: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        helpers.problem(table(plugin, **changes))
    (problem,) = refused.value.mistakes
    assert problem.where == where and words in problem.what


def test_a_mistake_in_the_solver_is_named_once(plugin: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        helpers.problem(table(plugin, solver={"max_steps": -1}))
    assert [problem.where for problem in refused.value.mistakes] == ["simulate.solver.max_steps"]


def test_what_only_the_simulator_can_tell_of_a_retry(plugin: Path) -> None:
    (unknown,) = mistakes(helpers.problem(table(plugin, retry={"solver": "Kvaerno55"})))
    assert unknown.where == "simulate.retry.solver" and 'Did you mean "Kvaerno5"?' in unknown.what
    (useless,) = mistakes(helpers.problem(helpers.line(simulate={"retry": {"max_steps": 9}})))
    assert useless.where == "simulate.retry" and "no differential equation" in useless.what


def test_a_run_that_is_cut_off_within_a_retry_goes_on(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simfer.stages.simulate.rows._SHARD_BYTES", 2**10)
    noisy = {"simulator": f"{plugin}:Noisy", "options": {}, "solver": {"max_steps": 1}}
    whole, _ = simulate(plugin, tmp_path / "whole", **noisy)
    second, calls = attempts._second, []

    def cut_off(*given: Any) -> Any:
        ensemble = second(*given)
        assert ensemble is not None

        def solve(*arguments: Any) -> Rows:
            calls.append(1)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return ensemble(*arguments)

        return solve

    monkeypatch.setattr(attempts, "_second", cut_off)
    with pytest.raises(KeyboardInterrupt):
        simulate(plugin, tmp_path / "cut", **noisy)
    left = sorted((tmp_path / "cut").glob("*.zarr/status/c/*"))
    assert 1 <= len(left) <= 2  # a shard is there with both its attempts, or not at all
    monkeypatch.setattr(attempts, "_second", second)
    for done in left:  # one that has lost what tells the attempts is solved again
        (done.parents[2] / ATTEMPT / "c" / done.name).unlink()
    assert numbers(simulate(plugin, tmp_path / "cut", **noisy)[0].store) == numbers(whole.store)


def test_too_many_failures_come_with_what_to_do_and_a_picture(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError) as stopped:
        simulate(plugin, tmp_path, simulator=f"{plugin}:Noisy", options={}, solver={"max_steps": 1}, retry=None)
    text = str(stopped.value)
    assert "for failed rows alone [simulate.retry]" in text and "300 max steps" in text and "where a > " in text
    assert (tmp_path / "failures.png").stat().st_size > 10_000
