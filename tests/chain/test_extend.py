"""A larger ensemble keeps the rows that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from simfer import pipeline
from simfer.pipeline.cli import app
from tests import helpers

CONFIG = """
[parameters]
intercept = { dist = "Normal", loc = 0.5, scale = 1.0 }
slope = { dist = "Normal", loc = -1.0, scale = 0.5 }

[simulate]
simulator = "linear"
num_simulations = 30  # a first try
[simulate.options]
x = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
[observation]
file = "DATA"
[noise.y]
dist = "Normal"
scale = 0.5
"""


def typed(*words: str) -> tuple[int, dict[str, Any]]:
    answer = CliRunner().invoke(app, [*words, "--json"])
    return answer.exit_code, json.loads(answer.stdout)


def test_extend_raises_the_number_in_the_config_and_solves_what_is_new(tmp_path: Path) -> None:
    helpers.line()
    config = tmp_path / "line.toml"
    config.write_text(CONFIG.replace("DATA", str(helpers.scratch() / "line.csv")))
    store = ["--store", str(tmp_path / "store")]
    assert typed("simulate", str(config), *store)[0] == 0
    first = pipeline.load(config, store=tmp_path / "store").simulations.load()
    answer = CliRunner().invoke(app, ["extend", str(config), "--num-simulations", "70", *store])
    assert answer.exit_code == 0 and "30 rows are there already" in answer.output, answer.output
    assert "num_simulations = 70  # a first try" in config.read_text()
    grown = pipeline.load(config, store=tmp_path / "store").simulations.load()
    afresh = pipeline.run(config, store=tmp_path / "afresh", until="simulate").simulations
    assert grown.sizes["simulation"] == 70
    for name in first.data_vars:
        np.testing.assert_array_equal(grown[name][:30], first[name])
        np.testing.assert_array_equal(grown[name], afresh[name])
    code, told = typed("extend", str(config), "--num-simulations", "60", *store)
    assert code == 2 and "expected more than the 70" in told["error"]["message"]


def test_a_latin_hypercube_of_another_size_is_another_one(tmp_path: Path) -> None:
    design = {"simulate": {"design": "latin_hypercube", "num_simulations": 20}}
    small = pipeline.run(helpers.line(**design), store=tmp_path, until="simulate").simulations
    design["simulate"]["num_simulations"] = 30
    large = pipeline.run(helpers.line(**design), store=tmp_path, until="simulate").simulations
    assert not np.isin(small["intercept"].values, large["intercept"].values).any()
