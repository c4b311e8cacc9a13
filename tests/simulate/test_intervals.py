"""Counts per interval, and starts in a steady state: against exact answers, alone and in lanes."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer import ODESimulator
from simfer.stages.errors import UserCodeError
from simfer.stages.settings import Simulate, Solver
from simfer.stages.simulate.backends.lanes import choose_kind
from simfer.stages.simulate.solve.steady import steady_state

TIGHT = Solver(rtol=1e-9, atol=1e-9)


class Growing(ODESimulator):
    """Cases come exponentially, and are counted."""

    parameters: ClassVar[dict[str, str]] = {"r": "1/week"}
    per_interval = ("cases",)

    def initial_state(self, p):
        return {"infected": jnp.asarray(1.0), "ever": jnp.asarray(5.0)}

    def vector_field(self, t, y, p):
        return {"infected": p["r"] * y["infected"], "ever": p["r"] * y["infected"]}

    def observe(self, t, y, p):
        return {"infected": y["infected"], "cases": y["ever"]}


@pytest.mark.parametrize("start", [0.0, None])
def test_counts_are_those_of_each_interval(start: float | None) -> None:
    times = [1.0, 2.0, 4.0]
    simulator = Growing(times=times, start=start)
    ends = np.array(times if start is not None else times[1:])
    begins = np.array([0.0 if start is not None else times[0], *ends[:-1]])
    first = 0.0 if start is not None else 1.0
    assert simulator.outputs()["cases"].coords["time"].tolist() == ends.tolist()
    rates = np.array([0.3, 0.7])
    expected = np.exp(rates[:, None] * (ends - first)) - np.exp(rates[:, None] * (begins - first))
    alone = [simulator.solve({"r": jnp.asarray(r)}, TIGHT) for r in rates]
    assert np.allclose([s.outputs["cases"] for s in alone], expected, rtol=1e-6)
    settings = Simulate(simulator="linear", num_simulations=2, solver=TIGHT)
    kind = choose_kind(simulator, settings)
    solution, _ = jax.jit(lambda r: kind({"r": r}, jnp.ones(2, bool), jnp.zeros((2, 2), jnp.uint32)))(
        jnp.asarray(rates)
    )
    assert np.allclose(solution.outputs["cases"], expected, rtol=1e-6)
    assert np.allclose(solution.outputs["infected"], np.exp(rates[:, None] * (ends - first)), rtol=1e-6)


def test_a_count_that_is_not_observed_is_told() -> None:
    class Wrong(Growing):
        per_interval = ("deaths",)

    with pytest.raises(UserCodeError, match=r"Wrong.per_interval names deaths, expected what observe returns"):
        Wrong(times=[1.0, 2.0]).outputs()


class Switched(ODESimulator):
    """A signal that changes at 0 (Advanced_Events of Data2Dynamics), after rest."""

    parameters: ClassVar[dict[str, str]] = {"ka": "", "kb": "", "s0": "", "s1": ""}

    def jumps(self, p):
        return jnp.zeros(1)

    def initial_state(self, p):
        return jnp.zeros(2)

    def vector_field(self, t, y, p):
        signal = jnp.where(t < 0.0, p["s0"], p["s1"])
        return jnp.stack([p["ka"] * (signal - y[0]), p["kb"] * (y[0] - y[1])])

    def observe(self, t, y, p):
        return {"A": y[0], "B": y[1]}


def test_an_experiment_begins_at_rest_and_is_then_disturbed() -> None:
    simulator = Switched(times=[-30.0, -5.0, 7.1739], start=-30.0, steady=True)
    values = {"ka": 0.1, "kb": 0.1, "s0": 10.0, "s1": 20.0}
    solution = simulator.solve({name: jnp.asarray(value) for name, value in values.items()}, TIGHT)
    assert np.allclose(solution.outputs["A"], [10.0, 10.0, 15.1198], atol=1e-4)
    assert np.allclose(solution.outputs["B"], [10.0, 10.0, 11.6188], atol=1e-4)


def test_what_a_closed_system_conserves_stays_and_derivatives_go_through() -> None:
    def steady(k: jax.Array) -> jax.Array:
        """Return the steady state of a fast reversible step and a slow dimerisation, 3 units in all."""

        def field(y: jax.Array) -> jax.Array:
            first, second = 1e4 * (y[0] - k * y[1]), y[1] ** 2 - 0.5 * y[2]
            return jnp.stack([-first, first - 2.0 * second, second])

        return steady_state(field, jnp.asarray([3.0, 0.0, 0.0]))

    k = jnp.asarray(0.4)
    y, slope = jax.jvp(steady, (k,), (jnp.ones(()),))
    b = (-1.4 + np.sqrt(1.4**2 + 4 * 4 * 3)) / 8  # 0.4 b + b + 2 (2 b^2) = 3
    assert np.allclose(y, [0.4 * b, b, 2 * b**2], rtol=1e-7)
    assert np.allclose(slope, (np.asarray(steady(k + 1e-5)) - np.asarray(steady(k - 1e-5))) / 2e-5, rtol=1e-4)


def test_what_never_rests_has_no_steady_state() -> None:
    assert np.isnan(steady_state(lambda y: jnp.ones(1), jnp.zeros(1))).all()


class Peaking(Growing):
    """What is observed of whole series: a maximum, when it was, and one of the series."""

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"ends": ("end",)}
    units: ClassVar[dict[str, str]] = {"most": "people", "time": "weeks"}

    def summarize(self, series, p):
        cases = series["cases"]
        times = jnp.asarray(self.times)
        return {
            "most": cases.max(),
            "ratio": series["infected"][-1] / series["infected"][0] * p["r"],
            "when": times[jnp.argmax(cases)],
            "ends": jnp.stack([cases[0], cases[-1]]),
            "cases": cases,
        }


def test_whole_series_are_summarized_alone_and_in_lanes() -> None:
    simulator = Peaking(times=[1.0, 2.0, 4.0], start=0.0)
    described = simulator.outputs()
    assert described["most"].dims == () and described["most"].unit == "people"
    assert described["ends"].dims == ("end",) and described["cases"].dims == ("time",)
    rates = np.array([0.3, 0.7])
    alone = [simulator.solve({"r": jnp.asarray(r)}, TIGHT).outputs for r in rates]
    counts = np.exp(rates[:, None] * [1.0, 2.0, 4.0]) - np.exp(rates[:, None] * [0.0, 1.0, 2.0])
    kind = choose_kind(simulator, Simulate(simulator="linear", num_simulations=2, solver=TIGHT))
    solution, _ = jax.jit(lambda r: kind({"r": r}, jnp.ones(2, bool), jnp.zeros((2, 2), jnp.uint32)))(
        jnp.asarray(rates)
    )
    for name, expected in {"most": counts[:, 2], "ratio": rates * np.exp(3.0 * rates), "when": [4.0, 4.0],
                           "ends": counts[:, [0, 2]], "cases": counts}.items():  # fmt: skip
        assert np.allclose(np.stack([each[name] for each in alone]), expected, rtol=1e-6), name
        assert np.allclose(solution.outputs[name], expected, rtol=1e-6), name


def test_a_summary_that_is_no_number_is_a_failure() -> None:
    class Bad(Growing):
        def summarize(self, series, p):
            return {"log": jnp.log(series["cases"][0] - 1.0)}

    simulator = Bad(times=[1.0, 2.0], start=0.0)
    statuses = [int(simulator.solve({"r": jnp.asarray(r)}, TIGHT).status) for r in (0.3, 0.8)]
    assert statuses == [3, 0]
