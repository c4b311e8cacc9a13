"""What no machine can hold is refused before it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simfer.stages.model.outputs import Layout, Output
from simfer.stages.preflight import mistakes, sizes
from tests import helpers

SMALL = Layout({"y": Output(("x",), {"x": np.arange(9.0)})})
LARGE = Layout({"y": Output(("x",), {"x": np.arange(10.0**6)})})


@pytest.fixture(autouse=True)
def _a_machine_of_8_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_memory", lambda: 8e9)


@pytest.mark.parametrize(
    ("simulate", "layout", "said"),
    [
        ({"num_simulations": 200}, LARGE, ""),
        (
            {"num_simulations": 2**31 - 1},
            LARGE,
            "2,147,483,647 rows of 1,000,000 values are 17,180 TB, more than a disk",
        ),
        (
            {"num_simulations": 2**30},
            SMALL,
            "the parameters of 1,073,741,824 rows take 51.5 GB; this machine has 8.0 GB",
        ),
    ],
)
def test_rows(simulate: dict[str, Any], layout: Layout, said: str) -> None:
    found = sizes.size_mistakes(helpers.problem(helpers.line(simulate=simulate)), layout)
    assert [said in each.what for each in found] == [True] * bool(said)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("infer.num_samples=200000000", "infer.num_samples"),
        ("infer.num_warmup=2000000000", "infer.num_samples"),
        ("refine.simulations_per_round=2000000000", "refine.simulations_per_round"),
    ],
)
def test_draws_and_later_rounds(override: str, where: str) -> None:
    found = sizes.size_mistakes(helpers.problem(helpers.line(), "refine.max_rounds=1", override), SMALL)
    assert [each.where for each in found] == [where] and "this machine has 8.0 GB" in found[0].what


@pytest.mark.parametrize("depth", [1001, 2**31 - 1])
def test_layers_that_nobody_can_compile_are_not_built(depth: int) -> None:
    found = mistakes(helpers.problem(helpers.line(train={"options": {"depth": depth}})))
    assert [(each.where, each.what) for each in found] == [
        ("train.options.depth", f"got {depth:,}, expected at most 1,000 layers")
    ]


@pytest.mark.parametrize(("width", "refused"), [(64, False), (20_000, True)])
def test_networks(width: int, refused: bool) -> None:
    config = helpers.problem(helpers.line(train={"options": {"width": width, "depth": 3}, "ensemble_size": 5}))
    found = sizes.network_size_mistakes(config, "train.architecture", SMALL)
    assert ["lower train.width" in each.what for each in found] == [True] * refused
