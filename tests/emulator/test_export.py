"""`simfer export`: the same numbers in another program, or none."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import special

from simfer.stages.emulator import export, onnx
from simfer.stages.emulator.emulator import Emulator, tabulate
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import SimferError, StageError
from simfer.stages.model.quantiles import distribution, from_normal
from simfer.stages.progress import Silent
from simfer.stages.settings import AnyPrior, TrainConfig
from tests import helpers

KEPT = helpers.ROOT / "tests" / "emulator" / "kept" / "format3"
FACTS: dict[str, Any] = {
    "simulator": "lotka_volterra",
    "design": "90 points of the prior (sobol)",
    "round": 0,
    "rows": {"rows": 90, "left_out": 0, "test": 9, "folds": 5},
    "errors": [{"output": "prey", "unit": "", "error_rms": 1.25}],
    "checked": None,
    "versions": {"jax": "0"},
    "device": "cpu",
    "finished": "today",
    "fingerprint": "0123",
}


def exported(folder: Path, kind: str, format: str) -> dict[str, Any]:
    config = TrainConfig.model_construct(train=helpers.problem(helpers.line()).train)
    options: Any = {"format": format, "folder": folder, "name": "lynx", "facts": FACTS}
    return export.run(config, KEPT / kind, Silent(), **options)


def test_of_a_flow_it_is_said_that_it_is_left_out(tmp_path: Path) -> None:
    summary = exported(tmp_path, "../format5/flow", "stablehlo")
    assert "no density" in summary["warnings"][0]
    assert "in this file, which knows mean and standard deviation alone" in (tmp_path / "lynx.md").read_text()


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("random", "onnx"),
        ("random", "stablehlo"),
        ("components", "stablehlo"),
        pytest.param("polynomial", "onnx", marks=pytest.mark.slow),
        ("polynomial", "stablehlo"),
        ("gaussian_process", "onnx"),
        pytest.param("components", "onnx", marks=pytest.mark.slow),  # its four tables take a while to convert
    ],
)
def test_what_is_exported_gives_the_same_numbers_for_any_number_of_points(
    tmp_path: Path, kind: str, format: str
) -> None:
    summary = exported(tmp_path, kind, format)
    assert {path.name for path in tmp_path.iterdir()} == {f"lynx.{format}", "lynx.md"}
    table = next(iter(summary["tables"].values()))
    assert all(row["largest_difference"] < 1e-5 for row in table)
    emulator = load_emulator(KEPT / kind)
    call = {"onnx": onnx.load, "stablehlo": export.load_stablehlo}[format]((tmp_path / f"lynx.{format}").read_bytes())
    for num in (1, 5):
        z = np.random.default_rng(num).normal(size=(num, emulator.space.size))
        points = {name: np.asarray(emulator.space.values(z)[name]) for name in emulator.space.names}
        ours, theirs = tabulate(emulator, z), call(points)
        assert set(ours) == set(theirs)
        for name, values in ours.items():
            assert theirs[name].shape == values.shape
            assert np.allclose(theirs[name], values, rtol=1e-4, atol=1e-5 * np.abs(values).max()), name


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_the_card_says_how_to_call_it_and_that_runs(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path, "random", format)
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "lynx.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "lynx.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 4)\n"
    assert "| `theta` | LogNormal(loc = 0, scale = 0.3) | 1/s |" in text
    assert "90 simulations, of which no network saw 9" in text and "x_0 = 3" in text


def test_it_is_held_against_the_original_where_that_was_trained() -> None:
    emulator, asked = load_emulator(KEPT / "residual"), []

    def predict(points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(points)
        return tabulate(emulator, emulator.space.whiten(points))

    assert max(export.compared(emulator, predict).values()) == 0.0
    assert emulator.inside(asked[0]).mean() > 0.98 > emulator.inside(asked[1]).mean()


def test_a_file_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lynx.md").write_text("# My notes\n")
    with pytest.raises(SimferError, match=r"lynx\.md is no model card of Simfer's"):
        exported(tmp_path, "random", "stablehlo")
    assert [path.name for path in tmp_path.iterdir()] == ["lynx.md"]


def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = export.stablehlo

    def wrong(emulator: Emulator) -> bytes:
        import equinox as eqx

        return convert(eqx.tree_at(lambda e: e.location, emulator, emulator.location * 1.001))

    monkeypatch.setattr(export, "stablehlo", wrong)
    with pytest.raises(StageError, match=r"differs from the original by .*nothing was written"):
        exported(tmp_path, "random", "stablehlo")
    assert not list(tmp_path.iterdir())


def test_without_the_converter_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(SimferError, match=r"needs jax2onnx, which is not installed: pip install \"simfer\[export\]\""):
        exported(tmp_path, "random", "onnx")


def test_without_flatbuffers_it_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(SimferError, match=r"needs flatbuffers, which is not installed"):
        exported(tmp_path, "random", "stablehlo")


PRIORS: list[dict[str, Any]] = [
    {"dist": "Gamma", "concentration": 1.7},
    {"dist": "Beta", "concentration1": 1.7, "concentration0": 0.8},
    {"dist": "StudentT", "df": 1.7},
    {"dist": "Uniform", "low": -3.0, "high": 5.0},
    {"dist": "LogUniform", "low": 0.5, "high": 9.0},
    {"dist": "HalfCauchy", "scale": 2.0},
    {"dist": "TruncatedNormal", "loc": 0.3, "scale": 1.7, "low": -0.5},
]


@pytest.mark.parametrize("given", PRIORS, ids=lambda given: given["dist"])
def test_priors_without_a_form_in_onnx_are_whitened_by_a_table(given: dict[str, Any]) -> None:
    prior: Any = TypeAdapter[Any](AnyPrior).validate_python(given)
    z = np.random.default_rng(0).normal(size=400)
    theta = from_normal(distribution(prior), jnp.asarray(z))
    assert np.allclose(onnx.whitening(prior)(theta), z, atol=1e-8)


def test_the_error_function_is_one_of_a_table() -> None:
    x = np.linspace(-8.0, 8.0, 1001)
    assert np.allclose(onnx._erf(jnp.asarray(x)), special.erf(x), rtol=0.0, atol=1e-9)
