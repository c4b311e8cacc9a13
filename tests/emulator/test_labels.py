"""Every prediction has a name and coordinates of its own, or the config is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simfer.stages.emulator.labels import labelled
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.preflight import mistakes
from tests import helpers

CODE = '''
import jax.numpy as jnp
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.model.outputs import Output


class Named(FunctionSimulator):
    """Outputs of the names that are asked for."""

    parameters = {"a": ""}
    names: list[str]
    shift: float

    def __init__(self, names: list[str], shift: float = 0.0):
        self.names, self.shift = names, shift

    def outputs(self):
        return {
            name: Output(("time",), {"time": jnp.arange(3.0) + i * self.shift}, "")
            for i, name in enumerate(self.names)
        }

    def __call__(self, p):
        return {name: p["a"] * jnp.arange(1.0, 4.0) for name in self.names}
'''


def said(plugin: str, tmp_path: Path, names: list[str], shift: float = 0.0) -> str:
    data = tmp_path / "data.csv"
    data.write_text(f"time,{names[0]}\n0,1\n1,2\n2,3\n")
    table = {
        "parameters": {"a": {"dist": "Normal", "loc": 0.0, "scale": 1.0}},
        "simulate": {
            "simulator": f"{plugin}:Named",
            "num_simulations": 64,
            "options": {"names": names, "shift": shift},
        },
        "observation": {"file": str(data)},
        "noise": {names[0]: {"dist": "Normal", "scale": 1.0}},
    }
    return "\n".join(each.what for each in mistakes(helpers.problem(table)))


def test_outputs_that_would_hide_a_prediction_are_refused(plugin: str, tmp_path: Path) -> None:
    assert said(plugin, tmp_path, ["flux", "tracking_error"]) == ""
    for other in ("flux_error", "flux_scatter"):
        assert f'"{other}" names two things' in said(plugin, tmp_path, ["flux", other])
    assert '"inside" names two things' in said(plugin, tmp_path, ["flux", "inside"])


def test_two_grids_of_one_name_are_refused(plugin: str, tmp_path: Path) -> None:
    assert said(plugin, tmp_path, ["flux", "other"]) == ""
    assert 'output other: got coordinates "time" other than those of' in said(plugin, tmp_path, ["flux", "other"], 10.0)


@pytest.mark.parametrize("name", ["tracking_error", "y"])
def test_an_output_may_end_as_an_error_does(name: str) -> None:
    layout = Layout({name: Output(("time",), {"time": np.arange(2.0)}, "m")})
    found = labelled(
        {name: np.ones((1, 2)), f"{name}_error": np.zeros((1, 2)), "inside": np.array([True])},
        {"a": np.array([0.5])},
        layout,
        {name: "m"},
    )
    assert found[name].dims == found[f"{name}_error"].dims == ("point", "time")
    assert found[name].units == found[f"{name}_error"].units == "m"
