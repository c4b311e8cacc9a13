"""Sensitivity: exact indices, SALib's own numbers, what the emulator's error does to them, and the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.scipy.special import ndtr
from SALib.analyze import sobol
from typer.testing import CliRunner

from simfer.pipeline import chain, studies
from simfer.pipeline.cli import app
from simfer.pipeline.results import Result
from simfer.pipeline.studies import STUDIES
from simfer.stages.errors import StageError
from simfer.stages.progress import Silent
from simfer.stages.settings import Sensitivity
from simfer.stages.simulate import design
from simfer.stages.studies.influence import Found
from simfer.stages.studies.influence import analyse as analyse_emulator
from simfer.stages.studies.sensitivity import SENSITIVITY
from simfer.stages.studies.sobol import estimates, resamples, variances
from tests import helpers
from tests.emulator.test_scatter import TIMES, exact_ou, ou_run, ou_table, parameters

SETTINGS = Sensitivity(num_points=1024, num_resamples=50)
PI = np.pi


def ishigami(z: jax.Array) -> jax.Array:
    x = PI * (2.0 * ndtr(z) - 1.0)
    return jnp.sin(x[0]) + 7.0 * jnp.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * jnp.sin(x[0])


def ishigami_exactly() -> tuple[np.ndarray, np.ndarray]:
    """Return the indices by their formulas (Ishigami & Homma 1990), with a = 7 and b = 0.1."""
    a, b = 7.0, 0.1
    one, two, both = (1 + b * PI**4 / 5) ** 2 / 2, a**2 / 8, b**2 * PI**8 * (1 / 18 - 1 / 50)
    whole = one + two + both
    return np.array([one, two, 0.0]) / whole, np.array([one + both, two, both]) / whole


A = np.array([0.0, 1.0, 4.5, 9.0])


def sobol_g(z: jax.Array) -> jax.Array:
    return jnp.prod((jnp.abs(4.0 * ndtr(z) - 2.0) + A) / (1.0 + A))


def sobol_g_exactly() -> tuple[np.ndarray, np.ndarray]:
    """Return the indices by their formulas (Saltelli & Sobol 1995)."""
    own = 1.0 / (3.0 * (1.0 + A) ** 2)
    whole = np.prod(1.0 + own) - 1.0
    return own / whole, own * np.prod(1.0 + own) / (1.0 + own) / whole


@pytest.mark.parametrize(
    ("function", "exactly"), [(ishigami, ishigami_exactly()), (sobol_g, sobol_g_exactly())], ids=["ishigami", "sobol_g"]
)
def test_indices_are_the_exact_ones_and_gradients_bound_them(function: Any, exactly: Any) -> None:
    z = design.saltelli(8192, len(exactly[0]), 1)
    found = estimates(variances(lambda z: function(z)[None, None], z, resamples(50, len(z), 2)))
    first, total, at_least, at_most = (each.value[:, 0] for each in found.values())
    np.testing.assert_allclose(first, exactly[0], atol=0.006)
    np.testing.assert_allclose(total, exactly[1], atol=0.006)
    assert (at_least <= exactly[0] + 0.006).all() and (at_most >= exactly[1]).all()
    assert (np.abs(first - exactly[0]) < 2.0 * found["first"].sd[:, 0]).all()
    assert (np.abs(total - exactly[1]) < 2.0 * found["total"].sd[:, 0]).all()


def test_the_numbers_are_salibs() -> None:
    z = design.saltelli(512, 3, 5)
    found = estimates(variances(lambda z: ishigami(z)[None, None], z, resamples(40, 512, 7)))
    y = np.asarray(jax.vmap(ishigami)(jnp.asarray(z.reshape(-1, 3))))
    problem = {"num_vars": 3, "names": ["a", "b", "c"], "bounds": [[0, 1]] * 3}
    theirs = sobol.analyze(problem, y, calc_second_order=False, num_resamples=40, conf_level=0.95, seed=7)
    for ours, name in (("first", "S1"), ("total", "ST")):
        np.testing.assert_allclose(found[ours].value[:, 0], theirs[name], atol=1e-9)
        np.testing.assert_allclose(1.959964 * found[ours].sampling_sd[:, 0], theirs[f"{name}_conf"], rtol=1e-3)


def test_of_a_linear_function_all_indices_and_both_bounds_are_one() -> None:
    slopes = jnp.asarray([[3.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    z = design.saltelli(2048, 3, 3)
    parts = variances(lambda z: (5.0 + slopes @ z)[None], z, resamples(20, len(z), 4))
    for name, each in estimates(parts).items():
        np.testing.assert_allclose(each.value[:, :2], [[0.9, 0.0], [0.1, 1.0], [0.0, 0.0]], atol=0.004, err_msg=name)
        assert np.isnan(each.value[:, 2]).all()  # what does not vary is nobody's
    together = estimates(parts.sum())["first"]
    np.testing.assert_allclose(together.value[:, 0], [9 / 14, 5 / 14, 0.0], atol=0.004)  # 9 and 1 + 4 of 9 + 1 + 4
    assert together.value[2, 0] == 0.0


def emulator(members: Any, num: int, error: float = 0.0, transform: str = "none") -> Any:
    """Return what stands for an emulator of `num` outputs in three parameters, its error's variance known."""
    return SimpleNamespace(
        at=lambda index: lambda z: members(z)[:, jnp.asarray(index)],
        space=SimpleNamespace(size=3),
        layout=SimpleNamespace(slices={"y": slice(0, num)}, size=num),
        transform={"y": transform},
        base_variance=jnp.full(num, error),
        random=None,
    )


def analyse(stands_for: Any, settings: Sensitivity = SETTINGS) -> Found:
    z = design.saltelli(settings.num_points, 3, settings.seed)
    return analyse_emulator(stands_for, z, settings, Silent())["y"]


def test_intervals_cover_the_truth_where_the_emulator_errs() -> None:
    # Thirty emulators that err in ways of their own: random networks of one layer, a fifth of the truth's sd.
    random, sd = np.random.default_rng(6), 3.7208
    inner, outer = random.normal(size=(30, 20, 3)), random.normal(size=(30, 20))
    points = random.normal(size=(4000, 3))
    raw = np.einsum("ek,nek->ne", outer, np.tanh(np.einsum("ekd,nd->nek", inner, points)))
    outer = outer * (0.2 * sd / raw.std(axis=0))[:, None]

    def members(z: jax.Array) -> jax.Array:
        return (ishigami(z) + jnp.sum(outer * jnp.tanh(inner @ z), axis=1))[None]

    found = analyse(emulator(members, 30, error=(0.2 * sd) ** 2)).each
    inside, by_sampling = [], []
    for name, exact in zip(("first", "total"), ishigami_exactly(), strict=True):
        off = np.abs(found[name].value - exact[:, None])
        inside.append(off < 1.96 * found[name].sd)
        by_sampling.append(off < 1.96 * found[name].sampling_sd)
    assert np.mean(inside) > 0.9
    assert np.mean(by_sampling) < 0.8


def test_a_field_in_blocks_is_the_field_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)))
    stands_for = emulator(lambda z: jnp.sin(weights @ z)[None], 5, error=1e-4)
    at_once = analyse(stands_for)
    monkeypatch.setattr("simfer.stages.studies.influence._BLOCK_BYTES", 2**22)
    in_blocks = analyse(stands_for)
    for name, each in at_once.each.items():
        np.testing.assert_allclose(in_blocks.each[name].value, each.value, rtol=1e-9)
        np.testing.assert_allclose(in_blocks.together[name].sd, at_once.together[name].sd, rtol=1e-6)


def test_the_natural_scale_is_of_the_output_itself_and_may_overflow() -> None:
    natural = SETTINGS.model_copy(update={"scale": "natural"})
    # exp of a normal variable of sd s: the first-order share of a part of sd a is (exp(a^2) - 1) / (exp(s^2) - 1).
    slopes = jnp.asarray([0.6, 0.3, 0.0])
    found = analyse(emulator(lambda z: (slopes @ z)[None, None], 1, transform="log"), natural)
    exact = np.expm1(np.square([0.6, 0.3, 0.0])) / np.expm1(0.45)
    np.testing.assert_allclose(found.together["first"].value[:, 0], exact, atol=0.02)
    with pytest.raises(StageError, match=r'y overflows.*sensitivity\.scale = "transformed"'):
        analyse(emulator(lambda z: (1e4 * slopes @ z)[None, None], 1, transform="log"), natural)


def run_on(result: Result, table: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], xr.DataTree]:
    """Run the stage on what was trained; return its summary and its file."""
    (link,) = STUDIES["sensitivity"].added(
        helpers.problem(table, "sensitivity.num_points=1024", "sensitivity.num_resamples=50"), 0
    )
    inputs = {"simulations": [result.folders["simulate"]], "emulator": [result.folders["train"]]}
    summary = chain.run(link, inputs, folder, Silent())
    return summary, xr.open_datatree(folder / SENSITIVITY, engine="h5netcdf")


def test_a_trained_emulator_gives_the_exact_indices_of_a_line(tmp_path: Path) -> None:
    summary, tree = run_on(helpers.line_run(until="train"), helpers.line(), tmp_path)
    (_, intercept), (_, slope) = helpers.PRIOR.values()
    whole = intercept**2 + (slope * helpers.X) ** 2
    exact = np.stack([np.full(9, intercept**2), (slope * helpers.X) ** 2]) / whole
    y = tree["y"]
    assert y["first"].dims == ("parameter", "x") and list(y["parameter"].values) == ["intercept", "slope"]
    for name in ("first", "total", "at_least", "at_most"):
        np.testing.assert_allclose(y[name], exact, atol=0.02)
    assert ((y["first_low"] <= exact) & (exact <= y["first_high"])).all()
    np.testing.assert_allclose(tree["first"].sel(output="y"), (exact * whole).sum(1) / whole.sum(), atol=0.01)
    assert not summary["warnings"]
    assert summary["pictures"] == ["sensitivity.png", "sensitivity_along.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in summary["pictures"])


def test_of_a_random_simulator_the_mean_is_taken_apart_and_the_rest_is_chance(tmp_path: Path) -> None:
    def mean(z: jax.Array) -> jax.Array:
        left = jnp.exp(-jnp.exp(0.5 * z[0]) * TIMES)
        return (3.0 * left + z[1] * (1.0 - left))[None]

    summary, tree = run_on(ou_run(until="train"), ou_table(), tmp_path)
    z = design.saltelli(4096, 3, 1)
    exact = variances(mean, z, np.full((1, len(z)), 1.0 / len(z)))
    for name in ("first", "total"):
        np.testing.assert_allclose(tree["x"][name].values, exact.shares(name)[0, 0], atol=0.05)
    assert tree["total"].sel(parameter="sigma").item() < 0.02
    points = parameters(z[:, 0])
    chance = np.mean([np.trace(exact_ou(TIMES, *point, 3.0)[1]) for point in points])
    (row,) = summary["tables"]["outputs"]
    assert row["scatter"] == pytest.approx(chance / (chance + exact.whole.sum()), rel=0.1)
    assert "the simulator is random" in summary["warnings"][0]


def test_the_command_goes_as_far_as_the_emulator_of_the_prior(tmp_path: Path) -> None:
    brief = (
        "simulate.num_simulations=64",
        "train.steps=300",
        "sensitivity.num_points=64",
        "sensitivity.num_resamples=20",
    )
    settings = [word for setting in (*brief, "sensitivity.num_resamples=20") for word in ("--set", setting)]
    store = ["--store", str(tmp_path)]
    result = helpers.simfer("sensitivity", helpers.SMOKE, *store, *settings, "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    rows = next(iter(answer["tables"].values()))
    assert {row["parameter"] for row in rows} == {"alpha", "beta", "delta"}
    assert (Path(answer["folder"]) / SENSITIVITY).is_file()
    again = helpers.simfer("sensitivity", helpers.SMOKE, *store, *settings)
    assert "sensitivity-0: cached" in again.stderr and "infer" not in again.stderr
    assert "total_pm" in again.stdout and "sensitivity_along.png" in again.stdout


def test_without_salib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(studies, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["sensitivity", str(helpers.SMOKE), "--store", str(tmp_path)])
    assert result.exit_code == 3 and 'pip install "simfer[sensitivity]"' in result.stderr
    assert not list(tmp_path.glob("*/*"))  # nothing was run for it


def test_the_number_of_points_is_a_power_of_two() -> None:
    with pytest.raises(chain.ConfigError, match=r"sensitivity.num_points.*got 1000.*power of two.*1024"):
        helpers.problem(helpers.line(), "sensitivity.num_points=1000")
