"""A solver that errs without a word is found before anything is built on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import chain
from simfer.stages.preflight.solver import break_mistakes
from simfer.stages.simulate.simulators.base import ODESimulator, RandomODESimulator
from simfer.stages.simulate.simulators.sde import SDESimulator
from tests import helpers

SIMULATORS = '''
import jax.numpy as jnp
from simfer import ODESimulator


class Pulse(ODESimulator):
    """Half an hour of input to a system that is quiet otherwise."""

    parameters = {"k": "1/h", "u": "1/h"}

    def initial_state(self, p):
        return jnp.asarray(20.0)

    def vector_field(self, t, y, p):
        return p["k"] * (100.0 - y) + p["u"] * ((t >= 50.0) & (t <= 50.5))

    def observe(self, t, y, p):
        return {"y": y}


class Announced(Pulse):
    def jumps(self, p):
        return [50.0, 50.5]
'''

# What a user of tellurium, JAX, SciPy or Diffrax sees in such a system; y at t = 40 ... 60.
DATA = (
    100.2, 99.7, 101.3, 100.2, 98.9, 100.7, 102.6, 101.9, 98.6, 97.5, 98.7, 229.2, 201.1, 186.1, 168.4, 156.6, 146.4,
    138.3, 132.7, 128.2, 121.1,
)  # fmt: skip


def table(folder: Path, kind: str, **solver: Any) -> dict[str, Any]:
    """Return the problem's config as a table, its files written."""
    (folder / "pulse.py").write_text(SIMULATORS)
    rows = "".join(f"{40 + i},{y}\n" for i, y in enumerate(DATA))
    (folder / "pulse.csv").write_text("time,y\n" + rows)
    return {
        "parameters": {
            "k": {"dist": "LogNormal", "loc": -1.6094, "scale": 0.4},
            "u": {"dist": "LogNormal", "loc": 5.7038, "scale": 0.3},
        },
        "simulate": {
            "simulator": f"{folder}/pulse.py:{kind}",
            "num_simulations": 64,
            "options": {"times": {"start": 40, "stop": 60, "num": 21}, "start": 0.0},
            "solver": solver,
        },
        "observation": {"file": f"{folder}/pulse.csv"},
        "noise": {"y": {"dist": "Normal", "scale": 2.0}},
    }


def found(folder: Path, kind: str, **solver: Any) -> list[str]:
    """List what is wrong with it."""
    problem = helpers.problem(table(folder, kind, **solver))
    assert chain.mistakes(problem) == []  # where nothing is simulated, nothing is solved
    mistakes = chain.mistakes(problem, simulates=True)
    assert {mistake.where for mistake in mistakes} <= {"simulate.solver"}
    return [mistake.what for mistake in mistakes]


def test_a_pulse_that_is_stepped_over_is_found(tmp_path: Path) -> None:
    """The output, the time, the size in sigma, and the cure."""
    (what,) = found(tmp_path, "Pulse")
    assert "output y at time = 51 is 100" in what or "output y at time = 51 is 99.9" in what
    assert "times the data's sigma" in what and "k = 0." in what and "of 16 rows of the prior" in what
    assert "leap over something short" in what and "jumps and doses" in what and "max_step (0.125 finds it" in what


@pytest.mark.parametrize(("kind", "solver"), [("Announced", {}), ("Pulse", {"max_step": 0.1})])
def test_each_cure_that_is_named_is_one(tmp_path: Path, kind: str, solver: dict[str, Any]) -> None:
    """What the message says to do is enough."""
    assert found(tmp_path, kind, **solver) == []


def test_a_fixed_step_that_is_too_long_is_found(tmp_path: Path) -> None:
    """Beside a jump even a tenth of the pulse is: a step goes across its edge."""
    (what,) = found(tmp_path, "Pulse", fixed_step=True, dt0=0.05)
    assert "Steps of dt0 = 0.05 are too long" in what and "leave fixed_step out" in what


def test_a_tolerance_that_is_blind_to_the_state_is_found(tmp_path: Path) -> None:
    """A constant that a user has set beside outputs that it is not small for."""
    (what,) = found(tmp_path, "Announced", atol=30.0)
    assert "atol = 30 is not small beside it: give one that is" in what


class Dosed(ODESimulator):
    """A dose after a lag, and an event."""

    parameters = {"lag": "h"}  # noqa: RUF012

    def initial_state(self, p):
        return p["lag"]

    def vector_field(self, t, y, p):
        return -y

    def observe(self, t, y, p):
        return {"y": y}

    def doses(self, p):
        return [p["lag"], 3.0], 1.0


def test_doses_that_cannot_be_given_are_refused() -> None:
    """Before the start; in another structure than the state's; beside an event; for a stochastic equation."""
    problem = helpers.problem(
        helpers.line(
            parameters={"lag": {"dist": "Normal", "loc": -1.0, "scale": 0.1}, "slope": None, "intercept": None}
        )
    )

    class Ends(Dosed):
        def event(self, t, y, p):
            return y - 0.5

    class Crooked(Dosed):
        def doses(self, p):
            return [p["lag"] + 2.0], (1.0, 2.0)

    class Unpaired(Dosed):
        def doses(self, p):
            return [p["lag"] + 2.0]

    def told(simulator: Any) -> str:
        return " ".join(mistake.what for mistake in break_mistakes(problem, simulator))

    times = [0.0, 1.0, 5.0]
    assert told(Dosed(times=times, start=-1.5)) == ""
    assert "doses: got one at -1 (every prior at its median), before the solve begins, at 0" in told(Dosed(times=times))
    assert "a dose may leap over what ends the solve" in told(Ends(times=times, start=-1.5))
    assert "expected that of the state" in told(Crooked(times=times))
    assert "expected the pair (times, amounts)" in told(Unpaired(times=times))
    assert "jumps and doses are those of an ODESimulator" in told(type("S", (_Random, SDESimulator), {})(times=times))
    assert told(type("R", (_Random, RandomODESimulator), {})(times=times)) == ""


class _Random:
    """A random start, for either kind of random simulator."""

    parameters = {"lag": "h"}  # noqa: RUF012

    def initial_state(self, p, key):
        return p["lag"]

    def vector_field(self, t, y, p):
        return -y

    def diffusion(self, t, y, p):
        return y

    def observe(self, t, y, p):
        return {"y": y}

    def jumps(self, p):
        return [1.0]
